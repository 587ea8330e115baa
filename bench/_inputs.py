"""Made-up inputs, drawn on the device that is measured; never constant, since those run faster than real ones.

Axes: N trades, B bars, C columns.
"""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

PIECE = 1 << 26
TRADES_PER_BAR = 1000
START_NS = 1_704_067_200_000_000_000


class TradeColumns(NamedTuple):
    """The columns of N trades, in the order that `bar_sums` takes them."""

    time_ns: Tensor
    price_ticks: Tensor
    quantity_lots: Tensor
    notional: Tensor
    is_buyer_maker: Tensor

    @property
    def threshold(self) -> int:
        """The notional of TRADES_PER_BAR mean trades."""
        return int(self.notional[:PIECE].double().mean()) * TRADES_PER_BAR

    def head(self, rows: int) -> TradeColumns:
        """The first trades, not copied."""
        return TradeColumns(*(column[:rows] for column in self))

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(column.nbytes for column in self)


def size(device: torch.device, tiny: bool, *, cpu: int, cuda: int, small: int) -> int:
    """How large an input is here."""
    return small if tiny else cuda if device.type == "cuda" else cpu


def fitting(rows: int, bytes_each: int, device: torch.device) -> int:
    """`rows`, or as many as fit into nine tenths of the free memory of a GPU."""
    if device.type != "cuda":
        return rows
    return min(rows, torch.cuda.mem_get_info()[0] * 9 // 10 // bytes_each)


def words(count: int) -> str:
    """1,000,000 as 1M; three digits."""
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return str(count)


def installed(package: str) -> bool:
    """Whether a peer can be compared with."""
    return importlib.util.find_spec(package) is not None


def scratch() -> Path:
    """A folder for files that are read while measuring; removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def trades(rows: int, device: torch.device, seed: int = 7) -> TradeColumns:
    """A random walk in ticks; heavy-tailed sizes; a third of the trades share the time of the one before."""
    random = torch.Generator(device).manual_seed(seed)
    columns = TradeColumns(
        *(torch.empty(rows, dtype=torch.int64, device=device) for _ in range(4)),
        torch.empty(rows, dtype=torch.bool, device=device),
    )
    for begin in range(0, rows, PIECE):
        piece = slice(begin, min(begin + PIECE, rows))
        _draw(*(column[piece] for column in columns), random)
    for column, first in ((columns.time_ns, START_NS), (columns.price_ticks, 1_000_000)):
        column.cumsum_(0).add_(first)
    torch.mul(columns.price_ticks, columns.quantity_lots, out=columns.notional)
    return columns


def _draw(gaps: Tensor, moves: Tensor, lots: Tensor, spare: Tensor, sold: Tensor, random: torch.Generator) -> None:
    gaps.random_(-10_000_000, 20_000_000, generator=random).clamp_(min=0)
    moves.random_(-1, 2, generator=random)
    uniform = torch.rand(len(lots), device=lots.device, generator=random).clamp_(min=1e-6)
    lots.copy_(20 * uniform.pow_(-2 / 3))
    sold.copy_(spare.random_(0, 2, generator=random))


def walk(rows: int, columns: int, device: torch.device, seed: int = 7) -> Tensor:
    """[rows, columns] float64: prices near 1000."""
    random = torch.Generator(device).manual_seed(seed)
    x = torch.empty(rows, columns, dtype=torch.float64, device=device).normal_(0.0, 0.01, generator=random)
    return x.cumsum_(0).add_(1000.0)


def candles(rows: int, device: torch.device, seed: int = 7) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Open, high, low and close [rows] float64 of bars that follow each other."""
    close = walk(rows, 1, device, seed).flatten()
    open_ = torch.cat((close[:1], close[:-1]))
    reach = walk(rows, 1, device, seed + 1).flatten().diff(prepend=close[:1]).abs().clamp(max=0.05)
    return open_, torch.maximum(open_, close) + reach, torch.minimum(open_, close) - reach, close
