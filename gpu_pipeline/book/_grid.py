"""Which snapshot a grid time sees, and how old it is (DESIGN 4.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_pipeline.core.schema import BookSnapshots, Tensor


@dataclass(frozen=True)
class Cells:
    """A fixed grid beside the snapshots that its cells see.

    Attributes:
        time_ns: [T] int64, multiples of the cadence.
        known_ns: [T] int64, time + tolerance.
        rows: [T] int64, the snapshot of a cell; -1 where none is known, or only one older than the longest gap.
        age_ns: [T] int64, known_ns less the snapshot's time; -1 where no snapshot is known yet.
        filled: [T] bool, True where the snapshot is older than the cadence but not older than the longest gap.
    """

    time_ns: Tensor
    known_ns: Tensor
    rows: Tensor
    age_ns: Tensor
    filled: Tensor


def cells(snapshots: BookSnapshots, cadence_ns: int, tolerance_ns: int, max_gap_ns: int) -> Cells:
    """The grid from the first snapshot's cell to the last one's: no later snapshot can change a cell of it.

    A cell at g sees the last snapshot with time <= g + tolerance among those known by then.
    """
    time_ns = _grid(snapshots.time_ns, cadence_ns, tolerance_ns)
    known_ns = time_ns + tolerance_ns
    rows = _last_known(snapshots, known_ns)
    at = rows.clamp(min=0)
    age_ns = torch.where(rows >= 0, known_ns - snapshots.time_ns[at], -1) if len(snapshots) else rows
    filled = (age_ns > cadence_ns) & (age_ns <= max_gap_ns)
    rows = torch.where(age_ns > max_gap_ns, -1, rows)
    return Cells(time_ns, known_ns, rows, age_ns, filled)


def _grid(time_ns: Tensor, cadence_ns: int, tolerance_ns: int) -> Tensor:
    if not len(time_ns):
        return time_ns.clone()
    first = -(-(int(time_ns[0]) - tolerance_ns) // cadence_ns)
    last = (int(time_ns[-1]) - tolerance_ns) // cadence_ns
    return torch.arange(first, last + 1, device=time_ns.device) * cadence_ns


def _last_known(snapshots: BookSnapshots, moment_ns: Tensor) -> Tensor:
    """The last snapshot whose time and known time are both at or before each moment; -1 where there is none.

    Known times may fall (feeds are delayed differently): the last one in snapshot order counts, not the last to arrive.
    """
    if not len(snapshots):
        return torch.full_like(moment_ns, -1)
    seen_ns, order = torch.maximum(snapshots.time_ns, snapshots.known_ns).sort(stable=True)
    latest = order.cummax(0).values
    count = torch.searchsorted(seen_ns, moment_ns, right=True)
    return torch.where(count > 0, latest[(count - 1).clamp(min=0)], -1)
