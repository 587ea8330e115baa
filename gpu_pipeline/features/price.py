"""Typical price, and the parabolic stop that follows the price (TA-Lib's definitions).

typprice       = (high + low + close) / 3;  typprice_ratio = close / typprice - 1
sar            = parabolic stop and reverse (J. W. Wilder, 1978). Long: the next stop = sar + a (e - sar), never above
                 the lows of this bar and the one before; e = highest high since the turn; a = acceleration, one more of
                 it with every new high, at most maximum. A low at or below the stop turns the position: the stop is
                 then e, at least the two highs, a begins anew and e is the low. Short: the same upside down.
                 The first position is short where the second bar's low falls by more than its high rises, else long;
                 its stop is the first bar's high or low, its e the second bar's low or high
sar_distance   = (close - sar) / close: above 0 while the position is long
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature
from gpu_pipeline.features._fused import fused
from gpu_pipeline.features.expression import Columns, Expression, loop
from kernels.loops import row_loop

Share = Annotated[float, Field(gt=0, le=10)]


class Acceleration(Options):
    """Step and upper bound of the acceleration factor."""

    acceleration: Share = 0.02
    maximum: Share = 0.2


@row_loop
def stop_and_reverse(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Inputs: high, low; output: sar. A short position is a long one in negated prices.

    State: 1 long or -1 short, the stop, the extreme, the factor, the high and low of the bar before.
    """
    step, maximum = min(p[0], p[1]), p[1]
    side, stop, extreme, factor, old_high, old_low = state[0], state[1], state[2], state[3], state[4], state[5]
    for row in range(x.shape[1]):
        high, low = x[0, row], x[1, row]
        y[0, row] = math.nan
        if seen + row == 1:
            fall = old_low - low
            side = -1.0 if fall > 0.0 and fall > high - old_high else 1.0
            stop, extreme = (old_low, high) if side > 0.0 else (old_high, low)
            factor, old_high, old_low = step, high, low
        if seen + row >= 1:
            near, far = (low, high) if side > 0.0 else (-high, -low)
            old_near, old_far = (old_low, old_high) if side > 0.0 else (-old_high, -old_low)
            level, best = side * stop, side * extreme
            if near <= level:
                level = max(best, max(old_far, far))
                y[0, row] = side * level
                side, factor, best = -side, step, near
                # In the new position's own sign the level lies below its prices.
                level, best, near, old_near = -level, -best, -far, -old_far
            else:
                y[0, row] = side * level
                if far > best:
                    best, factor = far, min(factor + step, maximum)
            level = min(fused(factor, best - level, level), min(old_near, near))
            stop, extreme = side * level, side * best
        old_high, old_low = high, low
    state[0], state[1], state[2], state[3], state[4], state[5] = side, stop, extreme, factor, old_high, old_low


def typical_price(bars: Columns) -> Expression:
    """Mean of high, low and close."""
    return (bars.high + bars.low + bars.close) / 3.0


def typprice(bars: Columns) -> dict[str, Expression]:
    """Typical price of the bar (a level)."""
    return {"typprice": typical_price(bars)}


def typprice_ratio(bars: Columns) -> dict[str, Expression]:
    """Distance of the close from the typical price of its bar."""
    return {"typprice_ratio": bars.close / typical_price(bars) - 1.0}


def sar(bars: Columns, acceleration: float, maximum: float) -> dict[str, Expression]:
    """Parabolic stop and reverse (a level)."""
    return {"sar": loop(stop_and_reverse, (bars.high, bars.low), acceleration, maximum, state=6, warmup=1)[0]}


def sar_distance(bars: Columns, acceleration: float, maximum: float) -> dict[str, Expression]:
    """Distance of the close from the parabolic stop, in units of the close."""
    return {"sar_distance": (bars.close - sar(bars, acceleration, maximum)["sar"]) / bars.close}


FEATURES = (
    Feature("typprice", typprice, levels=("typprice",)),
    Feature("typprice_ratio", typprice_ratio),
    Feature("sar", sar, Acceleration, levels=("sar",)),
    Feature("sar_distance", sar_distance, Acceleration),
)
