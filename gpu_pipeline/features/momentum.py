"""Oscillators of the close.

rsi_n = 100 * up / (up + down), up and down = Wilder averages over n of the rises and falls of the close
(J. W. Wilder, New Concepts in Technical Trading Systems, 1978; TA-Lib: 0 where nothing moved).
"""

from __future__ import annotations

from gpu_pipeline.features._feature import Feature, WideWindow
from gpu_pipeline.features.expression import Columns, Expression, maximum, where


def rsi(bars: Columns, window: int) -> dict[str, Expression]:
    """Relative strength index, 0 to 100."""
    change = bars.close - bars.close.lag(1)
    up = maximum(change, 0.0).smooth(window, "wilder")
    down = maximum(-change, 0.0).smooth(window, "wilder")
    return {"rsi": where(up + down > 0, 100.0 * (up / (up + down)), 0.0)}


FEATURES = (Feature("rsi", rsi, WideWindow),)
