"""The buckets of time bars that are made of bars: counted from midnight UTC, or from the open of each session."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol, Tensor
from gpu_pipeline.core.sessions import Hours
from gpu_pipeline.core.units import DAY_NS
from kernels.time_ends import bucket_end


@dataclass(frozen=True)
class Grid:
    """Buckets [start, end): each `step_ns` long, the last of a day or session cut short.

    Attributes:
        step_ns: length of a bucket.
        hours: when the venue trades.
        by_session: whether buckets are counted from each session's open.
    """

    step_ns: int
    hours: Hours
    by_session: bool = False

    @classmethod
    def of(cls, step_ns: int, symbol: Symbol, anchor: str) -> Grid:
        """The buckets of a symbol.

        Raises:
            InputError: they are anchored at its sessions, and it has none.
        """
        if anchor == "session" and not symbol.sessions:
            fix = f"name them under symbols.{symbol.name}.sessions, or write anchor: day"
            raise InputError(f"bars.anchor: {symbol.name} has no sessions to count from; {fix}")
        return cls(step_ns, symbol.hours, anchor == "session")

    def bucket(self, time_ns: Tensor) -> tuple[Tensor, Tensor]:
        """[N] start and [N] end of the bucket of each time.

        Raises:
            InputError: a time lies in no session, where buckets are counted from sessions.
        """
        if not self.by_session:
            start = time_ns - time_ns % DAY_NS % self.step_ns
            return start, bucket_end(start, self.step_ns)
        opens, closes, inside = self.hours.session_of(time_ns)
        if not bool(inside.all()):
            outside = int(time_ns[~inside][0])
            raise InputError(f"bars.anchor: no session holds the bar that opens at {outside} ns; anchor: day takes all")
        start = opens + (time_ns - opens) // self.step_ns * self.step_ns
        return start, torch.minimum(start + self.step_ns, closes)

    def between(self, first_ns: int, stop_ns: int) -> tuple[Tensor, Tensor]:
        """[S] starts and [S] ends of all buckets that start in [first, stop), those without trading hours left out."""
        opens, closes = self._stretches(first_ns, stop_ns)
        count = -((opens - closes) // self.step_ns)
        stretch = torch.repeat_interleave(count)
        place = torch.arange(len(stretch)) - (count.cumsum(0) - count)[stretch]
        start = opens[stretch] + place * self.step_ns
        end = torch.minimum(start + self.step_ns, closes[stretch])
        kept = (start >= first_ns) & (start < stop_ns) & self._traded(start, end)
        return start[kept], end[kept]

    def _stretches(self, first_ns: int, stop_ns: int) -> tuple[Tensor, Tensor]:
        if self.by_session:
            return self.hours.spans(first_ns, stop_ns)
        opens = torch.arange(first_ns - first_ns % DAY_NS, stop_ns, DAY_NS)
        return opens, opens + DAY_NS

    def _traded(self, start: Tensor, end: Tensor) -> Tensor:
        """Whether a bucket holds an instant of a session, and does not start on a holiday."""
        open_day = ~self.hours.on_holiday(start)
        if not self.hours.sessions or not len(start):
            return open_day
        opens, closes = self.hours.spans(int(start[0]), int(end[-1]))
        if not len(opens):
            return torch.zeros_like(open_day)
        session = torch.searchsorted(closes, start, right=True).clamp(max=len(opens) - 1)
        return open_day & (opens[session] < end) & (closes[session] > start)
