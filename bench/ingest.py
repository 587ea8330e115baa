"""Files to resident trades and to bars: our own clean files, and a file as others publish it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench._inputs import TRADES_PER_BAR, scratch, size, words
from bench._measure import Case
from bench._tables import SYMBOL, trade_table, write_clean, write_foreign
from gpu_pipeline.bars._make import make_resolutions
from gpu_pipeline.core.schema import Trades
from gpu_pipeline.ingest import _trade_files
from gpu_pipeline.ingest._read import read_trades

TESTS = "tests/ingest/test_parquet.py"
RESIDENT_BYTES = 5 * 8 + 1


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """One file; on CUDA it is decoded in GPU memory by pylibcudf."""
    if device.type == "cuda":
        import pylibcudf  # noqa: F401 - without it there is nothing to measure
    rows = size(device, tiny, cpu=5_000_000, cuda=50_000_000, small=20_000)
    folder = scratch()
    table = trade_table(rows, torch.device("cpu"))
    threshold = float(table.symbol.notional.step) * int(table.notional.double().mean()) * TRADES_PER_BAR
    clean = sum(path.stat().st_size for path in write_clean(folder, table))
    foreign = write_foreign(table, folder / "foreign.parquet")
    del table
    shape, resident = f"{words(rows)} trades", rows * RESIDENT_BYTES

    def load() -> Trades:
        return _trade_files.load_all(folder, SYMBOL, device)

    def read() -> Trades:
        return read_trades(folder / "foreign.parquet", symbol=SYMBOL.name, device=device.type)

    def bars() -> object:
        chunks = _trade_files.load(folder, SYMBOL, device)
        return make_resolutions(chunks, "dollar", threshold=threshold, time=["1min"])

    def case(op: str, call: object, file: int) -> Case:
        return Case(op, "ours", f"{shape}, {file / rows:.1f} bytes each", rows, "trades", call, file + resident)

    yield case("clean file to trades", load, clean)
    yield case("foreign file to trades", read, foreign)
    yield case("clean file to bars of 4 resolutions", bars, clean)
