"""What bar types with an additive threshold share: the two close rules, and thresholds in integer units."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Literal, TypeAlias

import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Scale, Tensor
from kernels.carry_ends import carry_ends
from kernels.reset_ends import THRESHOLD_LIMIT, reset_ends

OnClose: TypeAlias = Literal["reset", "carry"]


def sum_ends(
    amount: Tensor, threshold: int, on_close: OnClose, state: dict[str, Tensor] | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Where bars end as amounts add up.

    Args:
        amount: [N] int64, what a trade adds; never negative.
        threshold: what closes a bar, in the same units.
        on_close: `reset` or `carry`.
        state: `sum` [1], of the open bar (reset) or the remainder (carry); None before the first trade.
    """
    rule = reset_ends if on_close == "reset" else carry_ends
    summed = state["sum"] if state else torch.zeros(1, dtype=torch.int64, device=amount.device)
    ends, summed = rule(amount, threshold, summed)
    return ends, {"sum": summed}


def units_reaching(threshold: Decimal, scale: Scale, unit: str, fix: str) -> int:
    """The smallest integer on a scale that reaches the threshold.

    Args:
        threshold: as the run file gives it.
        scale: of the amounts that add up.
        unit: of the threshold, and the symbol, for the message.
        fix: the way out that the message names.

    Raises:
        InputError: the threshold is 2^62 steps of the scale or more.
    """
    units = -(-Fraction(threshold) // scale.fraction)
    if units >= THRESHOLD_LIMIT:
        raise InputError(
            f"bars.threshold: {threshold} {unit} are {units:,} steps of {scale.step}; the rule is below 2^62: {fix}"
        )
    return units
