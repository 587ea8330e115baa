"""What a model is told of a stream before it is built."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_pipeline.core.schema import CHANNELS


@dataclass(frozen=True)
class StreamShape:
    """One input stream: `window` rows of `features` columns per sample.

    Attributes:
        window: rows.
        features: columns of a row.
        columns: their names; none where they are not known.
    """

    window: int
    features: int
    columns: tuple[str, ...] = ()

    @property
    def book(self) -> tuple[int, int] | None:
        """(levels, assets) of a `from: book` stream, [levels, 4 channels, assets] in a row; None of another stream."""
        first = CHANNELS[0] + "_0"
        assets = [name.removeprefix(first) for name in self.columns if name == first or name.startswith(first + "_")]
        levels = len(self.columns) // (len(CHANNELS) * len(assets)) if assets else 0
        named = [f"{channel}_{level}{asset}" for level in range(levels) for channel in CHANNELS for asset in assets]
        return (levels, len(assets)) if levels and list(self.columns) == named else None
