"""Resident trades to complete dollar bars, and files to bars; beside a plain loop and, on the CPU, beside peers.

On the CPU all get the trades of one clean Parquet file and are timed in turn. Peers run in environments of their own
(`python -m bench peers`), and only after their bars of a small file were found to be what their rules say; each
environment also times our plain loop. Files on a GPU are timed by `ingest`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from bench import _plain
from bench._inputs import TradeColumns, fitting, scratch, size, trades, words
from bench._measure import Case
from bench._tables import SYMBOL, as_trades, write_clean
from bench.peers._contract import FILE, RESIDENT, TRADE_BYTES
from gpu_pipeline.bars._aggregate import to_bars
from gpu_pipeline.core.schema import Bars
from kernels.bar_sums import K, bar_sums
from kernels.reset_ends import reset_ends

TESTS = (
    "tests/bars/test_dollar.py tests/bars/test_aggregate.py tests/test_peers.py tests/test_peer_rules.py "
    "tests/kernels/test_reset_ends.py tests/kernels/test_bar_sums.py tests/bars/test_device.py"
)
# `python -m bench bars` times these first: what bars are made of.
PARTS = ("*_ends", "*_sums")
TRADES_A_BAR = (20, 100, 1000, 20_000)
# Peers are compared at this length; what they do is checked on a small file with shorter bars.
PEERS_AT, CHECK_ROWS, CHECK_AT = 1000, 20_000, 100
COLUMN_BYTES = 25 * 8
# What sums, columns and temporaries of one bar take on a GPU.
BAR_BYTES = 1000


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """All columns of dollar bars of several lengths, `reset` rule; then the same from the file."""
    rows = fitting(size(device, tiny, cpu=10_000_000, cuda=1_000_000_000, small=100_000), 60, device)
    columns = trades(rows, device)
    if device.type == "cuda":
        for length in TRADES_A_BAR:
            part = columns.head(fitting(rows // length, BAR_BYTES, device) * length)
            yield ours(part, threshold_of(part, length), length)
        return
    from bench.peers._cases import start

    folder = scratch()
    (path,) = write_clean(folder / "all", as_trades(columns))
    (small,) = write_clean(folder / "small", as_trades(columns.head(CHECK_ROWS)))
    peers = start(small, threshold_of(columns, CHECK_AT))
    peers.open(path, threshold_of(columns, PEERS_AT))
    for length in TRADES_A_BAR:
        threshold = threshold_of(columns, length)
        yield ours(columns, threshold, length)
        yield plain(columns, threshold, length)
        if length == PEERS_AT:
            yield from peers.cases(RESIDENT, _shape(rows, length), rows)
    shape = f"{_shape(rows, PEERS_AT)}, {path.stat().st_size / rows:.1f} bytes each"
    yield from_file(path, threshold_of(columns, PEERS_AT), rows, shape)
    yield from peers.cases(FILE, shape, rows)


def threshold_of(columns: TradeColumns, length: int) -> int:
    """The notional at which bars have `length` trades in the mean; the last trade of a bar overshoots."""
    head = columns.notional[: 1 << 22]
    threshold = int(head.double().mean()) * length
    for _ in range(4):
        ends, _ = reset_ends(head, threshold, torch.zeros(1, dtype=torch.int64, device=head.device))
        if len(ends):
            threshold = max(1, round(threshold * length * len(ends) / int(ends[-1])))
    return threshold


def _shape(rows: int, length: int) -> str:
    return f"{words(rows)} trades, {length:,} a bar"


def dollar_bars(columns: TradeColumns, threshold: int) -> Bars:
    """Ends, sums, columns: the three steps of the stage."""
    nothing = torch.zeros(K, dtype=torch.int64, device=columns.time_ns.device)
    ends, _ = reset_ends(columns.notional, threshold, nothing[:1])
    sums, _ = bar_sums(*columns, ends, 0, nothing)
    return to_bars(sums, SYMBOL, "dollar")


def ours(columns: TradeColumns, threshold: int, length: int) -> Case:
    """Resident trades, all columns."""
    return _resident(columns, length, "ours", lambda: dollar_bars(columns, threshold))


def plain(columns: TradeColumns, threshold: int, length: int) -> Case:
    """The same columns by one loop on one thread, into arrays made beforehand."""
    arrays = [column.numpy() for column in columns]
    steps, out = (float(SYMBOL.price_tick), float(SYMBOL.quantity_lot)), _plain.room(arrays[3], threshold)
    call = lambda: _plain.dollar_bars(*arrays, threshold, *steps, *out)  # noqa: E731
    return _resident(columns, length, "plain numba loop, 1 thread", call)


def _resident(columns: TradeColumns, length: int, implementation: str, call: Callable[[], object]) -> Case:
    rows = len(columns.time_ns)
    moved = columns.nbytes + COLUMN_BYTES * (rows // length)
    return Case(RESIDENT, implementation, _shape(rows, length), rows, "trades", call, moved)


def from_file(path: Path, threshold: int, rows: int, shape: str) -> Case:
    """What a run does: page checksums, row group by row group."""
    from gpu_pipeline import make_bars
    from gpu_pipeline.ingest import _trade_files

    dollars, device = SYMBOL.notional.exact(threshold), torch.device("cpu")

    def call() -> Bars:
        return make_bars(_trade_files.load(path.parent, SYMBOL, device), "dollar", threshold=dollars)

    return Case(FILE, "ours", shape, rows, "trades", call, path.stat().st_size + rows * TRADE_BYTES)
