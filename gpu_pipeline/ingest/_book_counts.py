"""What sequencing a depth feed counted: messages by what became of them, the first few of each with file and row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest._depth import RawDepth
from kernels.book_sequence import APPLY, CODES

SHOWN = 5
_COUNTED = {"apply": "applied", "gap": "gaps"}
NAMES = tuple(_COUNTED.get(code, code) for code in CODES)


@dataclass(frozen=True)
class Counts:
    """What sequencing counted so far, as plain numbers."""

    snapshots: Mapping[str, int] = field(default_factory=dict)
    messages: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    times_set_back: int = 0
    before_start: int = 0

    def plus(
        self,
        depth: RawDepth,
        codes: Tensor,
        dropped: Mapping[str, int],
        *,
        times_set_back: int,
        before_start: int,
    ) -> Counts:
        """The counts with one piece added."""
        messages, snapshots, first = dict(self.messages), dict(self.snapshots), dict(self.first)
        for code, name in enumerate(NAMES):
            here = codes == code
            of_snapshots = int((here & depth.is_snapshot).sum())
            snapshots = _plus(snapshots, {name: of_snapshots})
            messages = _plus(messages, {name: int(here.sum()) - of_snapshots})
            left = SHOWN - len(first.get(name, ()))
            if code != APPLY and left and bool(here.any()):
                places = here.nonzero().flatten()[:left].tolist()
                first[name] = (*first.get(name, ()), *(_place(depth, at) for at in places))
        return Counts(
            snapshots,
            messages,
            first,
            _plus(self.dropped, dropped),
            self.times_set_back + times_set_back,
            self.before_start + before_start,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for manifests."""
        return {
            "messages": dict(self.messages),
            "snapshots": {name: self.snapshots.get(name, 0) for name in ("applied", "stale")},
            "first_not_applied": {name: [dict(one) for one in found] for name, found in sorted(self.first.items())},
            "dropped": dict(sorted(self.dropped.items())),
            "times_set_back": self.times_set_back,
            "messages_before_start": self.before_start,
        }


def _place(depth: RawDepth, at: int) -> dict[str, Any]:
    ids = {"first_id": int(depth.first_id[at]), "final_id": int(depth.final_id[at])}
    return {"file": str(depth.file), "row": int(depth.row[at]), **ids}


def _plus(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) + more.get(name, 0) for name in {**counts, **more}}
