from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gpu_pipeline as gp
from gpu_pipeline.core.errors import ConfigError, InputError
from tests.ingest.samples import binance, parquet
from tests.ingest.samples.rows import rows


def test_the_public_call(tmp_path: Path) -> None:
    values = parquet.write(tmp_path, rows())
    trades = gp.read_trades(tmp_path, symbol="BTCUSDT", device="cpu", columns=values["columns"], limit=100)
    assert len(trades) == 100 and trades.symbol.name == "BTCUSDT"
    frame = trades.to_pandas()
    assert list(frame.columns) == ["timestamp", "price", "quantity", "quote_quantity", "trade_id", "is_buyer_maker"]
    assert frame["price"].tolist() == [float(price) for _, _, price, _, _ in rows()[:100]]


def test_a_list_of_paths(tmp_path: Path) -> None:
    binance.write(tmp_path, rows())
    files = sorted(tmp_path.glob("*.zip"))
    assert len(gp.read_trades(files, source="binance", symbol="BTCUSDT", device="cpu")) == len(rows())
    with pytest.raises(InputError, match=r"begins at trade id 1000, before .*2024-02\.csv ended at 1299"):
        gp.read_trades(files[::-1], source="binance", symbol="BTCUSDT", device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colums": {}}, "read_trades: colums: unknown key (value {}); did you mean 'columns'?"),
        ({"columns": {"prise": "p"}}, "prise"),
        ({"on_bad_row": "ignore"}, "read_trades: on_bad_row: Input should be 'error' or 'drop' (value 'ignore')"),
        ({"price_tick": -1}, "read_trades: price_tick: Input should be greater than 0 (value -1)"),
        ({"source": "parket"}, "no plug-in 'parket'; did you mean 'parquet'?"),
        ({"start": "yesterday"}, "read_trades: start: Invalid isoformat string: 'yesterday'"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gp.read_trades(tmp_path, **{"symbol": "BTCUSDT", "device": "cpu", **options})
    assert message in str(caught.value)
