"""Flags of the slow stochastic: 1 where it holds, else 0.

%K and %D are stoch_k and stoch_d with the windows 14, 3, 3 (see stochastic.py), b a bound in percent.

is_stoch_ob_b = %K > b (overbought);  is_stoch_os_b = %K < b (oversold)
is_stoch_ob_enter_b, is_stoch_ob_exit_b = the first bar of such a stretch, the first bar after it; os likewise
is_stoch_cross_up = %K is above %D and was not on the bar before; is_stoch_cross_down = below and was not. Up to 1e-9
                    apart they are equal: what lies between them is rounding
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature
from gpu_pipeline.features.expression import Columns, Expression
from gpu_pipeline.features.stochastic import Stoch, stoch

Percent = Annotated[float, Field(gt=0, lt=100)]
USUAL = (14, 3, 3)
ROUNDING = 1e-9


class Overbought(Options):
    """Bound above which %K is overbought."""

    bound: Percent = 80.0


class Oversold(Options):
    """Bound below which %K is oversold."""

    bound: Percent = 20.0


def _overbought(bars: Columns, bound: float) -> Expression:
    return stoch(bars, *USUAL)["stoch_k"] > bound


def _oversold(bars: Columns, bound: float) -> Expression:
    return stoch(bars, *USUAL)["stoch_k"] < bound


def _begins(flag: Expression) -> Expression:
    return flag > flag.lag(1)


def _ends(flag: Expression) -> Expression:
    return flag < flag.lag(1)


def is_stoch_ob(bars: Columns, bound: float) -> dict[str, Expression]:
    """Whether the stochastic is overbought."""
    return {"is_stoch_ob": _overbought(bars, bound)}


def is_stoch_os(bars: Columns, bound: float) -> dict[str, Expression]:
    """Whether the stochastic is oversold."""
    return {"is_stoch_os": _oversold(bars, bound)}


def is_stoch_ob_turn(bars: Columns, bound: float) -> dict[str, Expression]:
    """Whether the stochastic became overbought on this bar, and whether it ceased to be."""
    flag = _overbought(bars, bound)
    return {"is_stoch_ob_enter": _begins(flag), "is_stoch_ob_exit": _ends(flag)}


def is_stoch_os_turn(bars: Columns, bound: float) -> dict[str, Expression]:
    """Whether the stochastic became oversold on this bar, and whether it ceased to be."""
    flag = _oversold(bars, bound)
    return {"is_stoch_os_enter": _begins(flag), "is_stoch_os_exit": _ends(flag)}


def is_stoch_cross(bars: Columns, fast_k: int, slow_k: int, slow_d: int) -> dict[str, Expression]:
    """Whether %K crossed %D on this bar, upwards and downwards."""
    lines = stoch(bars, fast_k, slow_k, slow_d)
    distance = lines["stoch_k"] - lines["stoch_d"]
    return {
        "is_stoch_cross_up": _begins(distance > ROUNDING),
        "is_stoch_cross_down": _begins(distance < -ROUNDING),
    }


FEATURES = (
    Feature("is_stoch_ob", is_stoch_ob, Overbought),
    Feature("is_stoch_os", is_stoch_os, Oversold),
    Feature("is_stoch_ob_turn", is_stoch_ob_turn, Overbought),
    Feature("is_stoch_os_turn", is_stoch_os_turn, Oversold),
    Feature("is_stoch_cross", is_stoch_cross, Stoch),
)
