"""How far and how one-sidedly the close moved (TA-Lib's definitions).

mom_n  = close - close n bars ago
roc_n  = 100 (close / close n bars ago - 1), 0 where that close is 0
rsi_n  = 100 up / (up + down), up and down = Wilder averages over n of the rises and falls of the close
         (J. W. Wilder, New Concepts in Technical Trading Systems, 1978; TA-Lib: 0 where nothing moved)
cmo_n  = 100 (up - down) / (up + down), likewise (T. Chande, The New Technical Trader, 1994, smoothed as TA-Lib does)
trix_n = 100 (e3 / e3 of the bar before - 1), e3 = the close smoothed three times by ema_n (J. Hutson, 1983)
"""

from __future__ import annotations

from gpu_pipeline.features._feature import Feature, WideWindow, Window
from gpu_pipeline.features.expression import Columns, Expression, maximum, where


def percent_change(x: Expression, rows: int) -> Expression:
    """Change over some rows in percent; 0 where x was 0."""
    before = x.lag(rows)
    return where(before != 0, (x / before - 1.0) * 100.0, 0.0)


def rises_and_falls(bars: Columns, window: int) -> tuple[Expression, Expression]:
    """Wilder averages of the rises and of the falls of the close."""
    change = bars.close - bars.close.lag(1)
    return maximum(change, 0.0).smooth(window, "wilder"), maximum(-change, 0.0).smooth(window, "wilder")


def mom(bars: Columns, window: int) -> dict[str, Expression]:
    """Change of the close over `window` bars, in quote currency (a level; `roc` is its ratio)."""
    return {"mom": bars.close - bars.close.lag(window)}


def roc(bars: Columns, window: int) -> dict[str, Expression]:
    """Rate of change of the close over `window` bars, in percent."""
    return {"roc": percent_change(bars.close, window)}


def rsi(bars: Columns, window: int) -> dict[str, Expression]:
    """Relative strength index, 0 to 100."""
    up, down = rises_and_falls(bars, window)
    return {"rsi": where(up + down > 0, 100.0 * (up / (up + down)), 0.0)}


def cmo(bars: Columns, window: int) -> dict[str, Expression]:
    """Chande momentum oscillator, -100 to 100."""
    up, down = rises_and_falls(bars, window)
    return {"cmo": where(up + down > 0, 100.0 * ((up - down) / (up + down)), 0.0)}


def trix(bars: Columns, window: int) -> dict[str, Expression]:
    """One-bar rate of change of the triple-smoothed close, in percent."""
    smooth = bars.close.smooth(window, "ema").smooth(window, "ema").smooth(window, "ema")
    return {"trix": percent_change(smooth, 1)}


FEATURES = (
    Feature("mom", mom, Window, levels=("mom",)),
    Feature("roc", roc, Window),
    Feature("rsi", rsi, WideWindow),
    Feature("cmo", cmo, WideWindow),
    Feature("trix", trix, Window),
)
