"""Differences of two exponential averages of the close (G. Appel, 1979; TA-Lib's seeding).

The larger window is the slow one, in whichever order they are given.

macd        = fast average - slow average; both begin on the bar with the first `slow` closes behind it: the fast one is
              seeded by the mean of the last `fast` of them
macd_signal = ema over `signal` of the macd;  macd_hist = macd - macd_signal; the three begin together
X_ratio     = the same in units of the close
ppo         = 100 (ema_fast - ema_slow) / ema_slow, each seeded by its own first closes; 0 where ema_slow is 0
"""

from __future__ import annotations

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, ManyRows, Rows
from gpu_pipeline.features.expression import Columns, Expression, where


class TwoAverages(Options):
    """Windows of two averages."""

    fast: ManyRows = 12
    slow: ManyRows = 26


class TwoAveragesAndSignal(TwoAverages):
    """Windows of two averages and of the average of their difference."""

    signal: Rows = 9


def macd(bars: Columns, fast: int, slow: int, signal: int) -> dict[str, Expression]:
    """Moving average convergence and divergence, in quote currency (levels)."""
    fast, slow = min(fast, slow), max(fast, slow)
    # The smoothing seeds itself with the first finite rows: the lag holds the first `slow - fast` back.
    late = bars.close + 0.0 * bars.close.lag(slow - fast)
    line = late.smooth(fast, "ema") - bars.close.smooth(slow, "ema")
    mean = line.smooth(signal, "ema")
    return {"macd": where(mean == mean, line, 0.0), "macd_signal": mean, "macd_hist": line - mean}


def macd_ratio(bars: Columns, fast: int, slow: int, signal: int) -> dict[str, Expression]:
    """Moving average convergence and divergence in units of the close."""
    parts = macd(bars, fast, slow, signal)
    return {f"{name}_ratio": part / bars.close for name, part in parts.items()}


def ppo(bars: Columns, fast: int, slow: int) -> dict[str, Expression]:
    """Percentage price oscillator, of exponential averages."""
    quick, calm = (bars.close.smooth(window, "ema") for window in sorted((fast, slow)))
    return {"ppo": where(calm != 0, (quick - calm) / calm * 100.0, 0.0)}


FEATURES = (
    Feature("macd", macd, TwoAveragesAndSignal, levels=("macd", "macd_signal", "macd_hist")),
    Feature("macd_ratio", macd_ratio, TwoAveragesAndSignal),
    Feature("ppo", ppo, TwoAverages),
)
