"""Volume signed or weighted by what the price did (TA-Lib's definitions), and forms of it that are no levels.

obv          = sum of volume * sign(change of the close), the first bar's volume counted as risen (J. Granville, 1963)
money flow   = volume ((close - low) - (high - close)) / (high - low), 0 where the range is 0 (M. Chaikin)
ad           = sum of the money flow;  adosc = average of ad over `fast` - average over `slow`, each seeded by the first
               ad, average + 2 / (n + 1) (ad - average)
mfi_n        = 100 P / (P + N) over the last n bars, P and N = sums of typical price * volume of the bars whose typical
               price (high + low + close) / 3 rose or fell; 0 where both are 0 (G. Quong and A. Soudack, 1989). A change
               of at most 1e-14 (|typical price| + |that of the bar before|) is a tie and counts for neither
volume_sma_n = mean of the last n volumes
obv_change_n = sum of volume * sign(change of the close) over the last n bars / their volume, in [-1, 1]
ad_change_n  = sum of the money flow over the last n bars / their volume, in [-1, 1] (Chaikin's money flow)
adosc_ratio  = adosc / mean of the last `slow` volumes;  volume_sma_ratio_n = volume / volume_sma_n
A ratio is 0 where nothing was traded.
"""

from __future__ import annotations

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, ManyRows, WideWindow, Window
from gpu_pipeline.features._fused import fused
from gpu_pipeline.features.expression import Columns, Expression, loop, where
from gpu_pipeline.features.price import typical_price
from kernels.loops import row_loop

ROUNDING = 1e-14


class FastSlow(Options):
    """Windows of two averages."""

    fast: ManyRows = 3
    slow: ManyRows = 10


@row_loop
def balance(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Sum of the volume x[1] signed by the change of x[0]; state: the value before, the sum."""
    before, total = state[0], state[1]
    for row in range(x.shape[1]):
        value = x[0, row]
        if value > before or seen + row == 0:
            total += x[1, row]
        elif value < before:
            total -= x[1, row]
        before = value
        y[0, row] = total
    state[0], state[1] = before, total


@row_loop
def running_total(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Sum of x[0] since the first row; state: the sum."""
    total = state[0]
    for row in range(x.shape[1]):
        total += x[0, row]
        y[0, row] = total
    state[0] = total


@row_loop
def oscillation(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Difference of two averages of x[0] that begin with its first value; state: the averages."""
    fast, slow = 2.0 / (p[0] + 1.0), 2.0 / (p[1] + 1.0)
    quick, calm = state[0], state[1]
    for row in range(x.shape[1]):
        value = x[0, row]
        if seen + row == 0:
            quick = calm = value
        # Rounded as in TA-Lib: where ad stands still the averages are equal, not almost equal.
        quick = fused(1.0 - fast, quick, fast * value)
        calm = fused(1.0 - slow, calm, slow * value)
        y[0, row] = quick - calm
    state[0], state[1] = quick, calm


def _share(part: Expression, volume: Expression) -> Expression:
    return where(volume > 0, part / volume, 0.0)


def _money_flow(bars: Columns) -> Expression:
    span = bars.high - bars.low
    return where(span > 0, ((bars.close - bars.low) - (bars.high - bars.close)) / span * bars.volume, 0.0)


def obv(bars: Columns) -> dict[str, Expression]:
    """On-balance volume (a level)."""
    return {"obv": loop(balance, (bars.close, bars.volume), state=2)[0]}


def obv_change(bars: Columns, window: int) -> dict[str, Expression]:
    """Volume of rising minus volume of falling closes, as a share of the volume."""
    change = bars.close - bars.close.lag(1)
    signed = where(change > 0, bars.volume, where(change < 0, -bars.volume, 0.0))
    return {"obv_change": _share(signed.rolling(window, "sum"), bars.volume.rolling(window, "sum"))}


def ad(bars: Columns) -> dict[str, Expression]:
    """Accumulation and distribution (a level)."""
    return {"ad": loop(running_total, (_money_flow(bars),), state=1)[0]}


def ad_change(bars: Columns, window: int) -> dict[str, Expression]:
    """Money flow over the window as a share of its volume."""
    return {"ad_change": _share(_money_flow(bars).rolling(window, "sum"), bars.volume.rolling(window, "sum"))}


def adosc(bars: Columns, fast: int, slow: int) -> dict[str, Expression]:
    """Chaikin's oscillator of accumulation and distribution (a level)."""
    return {"adosc": loop(oscillation, (ad(bars)["ad"],), fast, slow, state=2, warmup=max(fast, slow) - 1)[0]}


def adosc_ratio(bars: Columns, fast: int, slow: int) -> dict[str, Expression]:
    """Chaikin's oscillator in units of the mean volume."""
    return {"adosc_ratio": _share(adosc(bars, fast, slow)["adosc"], bars.volume.rolling(max(fast, slow), "mean"))}


def mfi(bars: Columns, window: int) -> dict[str, Expression]:
    """Money flow index, 0 to 100."""
    price = typical_price(bars)
    before = price.lag(1)
    moved = abs(price - before) > ROUNDING * (abs(price) + abs(before))
    flow = where(moved, price * bars.volume, 0.0)
    up = where(price > before, flow, 0.0).rolling(window, "sum")
    down = where(price < before, flow, 0.0).rolling(window, "sum")
    return {"mfi": where(up + down > 0, 100.0 * (up / (up + down)), 0.0)}


def volume_sma(bars: Columns, window: int) -> dict[str, Expression]:
    """Mean volume (a level)."""
    return {"volume_sma": bars.volume.rolling(window, "mean")}


def volume_sma_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Volume in units of its mean."""
    return {"volume_sma_ratio": _share(bars.volume, bars.volume.rolling(window, "mean"))}


FEATURES = (
    Feature("obv", obv, levels=("obv",)),
    Feature("obv_change", obv_change, Window),
    Feature("ad", ad, levels=("ad",)),
    Feature("ad_change", ad_change, Window),
    Feature("adosc", adosc, FastSlow, levels=("adosc",)),
    Feature("adosc_ratio", adosc_ratio, FastSlow),
    Feature("mfi", mfi, WideWindow),
    Feature("volume_sma", volume_sma, Window, levels=("volume_sma",)),
    Feature("volume_sma_ratio", volume_sma_ratio, Window),
)
