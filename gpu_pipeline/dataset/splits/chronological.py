"""Three parts in decision order, with purge and embargo between them."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.units import parse_duration
from gpu_pipeline.dataset.splits._times import Division, SampleTimes
from gpu_pipeline.dataset.tables import PARTS

NEVER = torch.iinfo(torch.int64).max


def _embargo(value: Any) -> Any:
    if isinstance(value, str):
        parse_duration(value)
    elif not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("must be a duration such as 10min, or a number of bars of at least 0")
    return value


class Config(Options):
    """Fractions of the eligible samples for train, validation, test; and the gap kept between parts.

    Attributes:
        fractions: three positive numbers with sum 1.
        embargo: a duration (`10min`), or a whole number of bars of the decision stream.
    """

    fractions: Annotated[list[float], Field(min_length=3, max_length=3)] = [0.70, 0.15, 0.15]
    embargo: Annotated[int | str, BeforeValidator(_embargo)] = 0

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if any(fraction <= 0 for fraction in self.fractions) or sum(map(_exact, self.fractions)) != 1:
            raise ValueError("fractions: train, validation and test must be above 0 and their sum 1")
        return self


def split(times: SampleTimes, config: Config) -> Division:
    """Divides samples by decision time and purges what ends too late (López de Prado 2018, chapter 7).

    A cut at sample k moves back to the first sample of the same decision time, so that no time is divided. A training
    or validation sample whose last label ends, embargo included, at or after the first decision of the next part is
    dropped.

    Raises:
        InputError: a part would be empty.
    """
    cuts = _cuts(times.decision_ns, config.fractions)
    ends = end_with_embargo(times, config.embargo)
    whole = {part: torch.arange(lo, hi) for part, lo, hi in zip(PARTS, cuts[:-1], cuts[1:], strict=True)}
    parts = {part: positions.to(ends.device) for part, positions in whole.items()}
    for part, border in zip(PARTS[:-1], cuts[1:-1], strict=True):
        if border < len(ends):
            parts[part] = parts[part][ends[parts[part]] < times.decision_ns[border]]
    purged = {part: len(whole[part]) - len(parts[part]) for part in PARTS}
    _require_samples(parts, purged, config)
    return Division(parts, purged)


def end_with_embargo(times: SampleTimes, embargo: int | str) -> Tensor:
    """[W] int64: end of the last label plus the embargo; never, where an embargo in bars runs past the last bar."""
    if isinstance(embargo, str):
        return times.t_end_ns + parse_duration(embargo)
    if embargo == 0:
        return times.t_end_ns
    row = times.end_row + embargo
    there = row < times.row_stop
    later = times.row_time_ns[torch.where(there, row, times.end_row)]
    return torch.where(there, torch.maximum(later, times.t_end_ns), NEVER)


def _cuts(decision_ns: Tensor, fractions: list[float]) -> list[int]:
    count, so_far, cuts = len(decision_ns), Fraction(0), [0]
    for fraction in fractions[:-1]:
        so_far += _exact(fraction)
        cut = min(int(so_far * count), count)
        cuts.append(cut if cut == count else int(torch.searchsorted(decision_ns, decision_ns[cut])))
    return [*cuts, count]


def _exact(fraction: float) -> Fraction:
    return Fraction(str(fraction))


def _require_samples(parts: dict[str, Tensor], purged: dict[str, int], config: Config) -> None:
    empty = [part for part in PARTS if not len(parts[part])]
    if empty:
        sizes = ", ".join(f"{part} {len(parts[part]):,} (purged {purged[part]:,})" for part in PARTS)
        raise InputError(
            f"dataset.split: every part needs a sample, but '{empty[0]}' has none: {sizes}; use more data, other "
            f"fractions (value {config.fractions}), a shorter embargo (value {config.embargo}) or a shorter horizon"
        )
