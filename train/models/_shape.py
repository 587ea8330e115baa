"""What a model is told of a stream before it is built."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StreamShape:
    """One input stream: `window` rows of `features` columns per sample."""

    window: int
    features: int
