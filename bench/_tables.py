"""Made-up tables of the pipeline's own kinds, on the device that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import torch

from bench._inputs import START_NS, TradeColumns, candles, trades
from gpu_pipeline.core.schema import BAR_COLUMNS, BAR_FLOATS, Bars, Symbol, Trades

SYMBOL = Symbol("BTCUSDT", Decimal("0.1"), Decimal("0.001"))
BAR_TRADES = 10
RESOLUTIONS = {"short": 1, "medium": 10, "long": 160, "1min": 5}


def trade_table(rows: int, device: torch.device) -> Trades:
    """N trades; ids count from 1."""
    return as_trades(trades(rows, device))


def as_trades(columns: TradeColumns) -> Trades:
    """The same trades as the pipeline's table; ids count from 1."""
    rows, device = len(columns.time_ns), columns.time_ns.device
    return Trades(SYMBOL, trade_id=torch.arange(1, rows + 1, device=device), **columns._asdict())


def bar_table(rows: int, device: torch.device) -> Bars:
    """B bars of ten trades a second; prices are a random walk, the other columns positive noise."""
    number = torch.arange(rows, device=device)
    random = torch.Generator(device).manual_seed(3)
    integers = torch.randint(1, 8, (rows,), device=device, generator=random)
    columns = dict.fromkeys(BAR_COLUMNS, integers)
    columns |= {name: torch.rand(rows, device=device, dtype=torch.float64, generator=random) for name in BAR_FLOATS}
    columns |= dict(zip(("open", "high", "low", "close"), candles(rows, device), strict=True))
    columns |= {"open_timestamp": START_NS + number * 10**9, "close_timestamp": START_NS + (number + 1) * 10**9}
    columns |= {"first_trade_row": number * BAR_TRADES, "last_trade_row": (number + 1) * BAR_TRADES - 1}
    columns["vwap"] = (columns["high"] + columns["low"]) / 2
    columns["is_partial"] = torch.zeros(rows, dtype=torch.bool, device=device)
    return Bars(SYMBOL, "dollar_2M", columns)


def resolutions(short: Bars, steps: Mapping[str, int] = RESOLUTIONS) -> Mapping[str, Bars]:
    """Every tenth, 160th and fifth bar as those of the coarser resolutions: their cost is what counts here."""
    return {name: short.select(slice(step - 1, None, step)) for name, step in steps.items()}


def write_clean(folder: Path, table: Trades) -> list[Path]:
    """Trades as our own clean files; returns them."""
    from gpu_pipeline.core.trace import Trace
    from gpu_pipeline.ingest import _trade_files

    folder.mkdir(parents=True, exist_ok=True)
    with Trace().progress("clean") as ticker:
        _trade_files.write(folder, iter([table]), ticker)
    return sorted(folder.glob(f"{SYMBOL.name}_*.parquet"))


def write_foreign(table: Trades, path: Path) -> int:
    """Trades as others publish them (floats, microseconds); returns the file's bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": table.trade_id,
        "timestamp": table.time_ns // 1000,
        "price": table.symbol.price.to_float(table.price_ticks),
        "quantity": table.symbol.quantity.to_float(table.quantity_lots),
        "is_buyer_maker": table.is_buyer_maker,
    }
    arrays = {name: pa.array(column.cpu().numpy()) for name, column in columns.items()}
    pq.write_table(pa.table(arrays), path, compression="zstd", write_page_checksum=True)
    return path.stat().st_size
