"""Volume by price over the last w closed bars, in b equal bins from their lowest low to their highest high.

A bar's volume is spread evenly from its low to its high; that of a bar at one price falls into the bin above where the
price is the edge between two. The point of control (poc) is the middle of the bin with the most volume; of equal ones
that nearest to the close, then the lower. The value area grows from that bin by the neighbour with more volume, of
equal ones the upper, until it holds 70 % of the volume; vah and val are its upper and lower edge (J. P. Steidlmayer,
Markets and Market Logic, 1986; Dalton, Jones, Dalton, Mind over Markets, 1990). Where the bars have one price, all
three are it; without any volume all bins are equal.

vp_poc, vp_vah, vp_val = the three prices; of w bars and b bins: vp_poc_50w_20b
vp_poc_distance, ...   = (close - price) / close
vp_position            = (close - val) / (vah - val): inside the value area from 0 to 1; 1/2 where it has no width
vp_width               = (vah - val) / close
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, Rows
from gpu_pipeline.features._pairs import ratio
from gpu_pipeline.features.expression import Columns, Expression, loop
from kernels.loops import helper, row_loop

# Prices are rounded: one so close to an edge, in bins, lies on it; volumes so close, as a share, are equal.
ON_EDGE = 1e-6
EQUAL = 1e-8
VALUE_AREA = 0.7


class Profile(Options):
    """How many bars, and how many bins of price."""

    window: Rows
    bins: Annotated[int, Field(strict=True, ge=2, le=1000)] = 20


@helper
def in_bins(price, lowest, scale):  # type: ignore[no-untyped-def]
    """Where a price lies, counted in bins from the lowest; `scale` bins a unit of price."""
    place = (price - lowest) * scale
    edge = float(int(place + 0.5))
    return edge if abs(place - edge) < ON_EDGE else place


@helper
def spread_volume(volume, start, stop, bins, part, slope):  # type: ignore[no-untyped-def]
    """Add a volume over [start, stop]: bin k then holds part[k] + slope[0] + ... + slope[k]."""
    first, last = min(int(start), bins - 1), int(stop)
    if first >= last or stop <= start:
        part[first] += volume
        return
    each = volume / (stop - start)
    slope[first] += each
    slope[last] -= each
    part[first] -= each * (start - first)
    part[last] += each * (stop - last)


@helper
def make_profile(highs, lows, volumes, lowest, scale, bins, part, slope):  # type: ignore[no-untyped-def]
    """The volume of each bin, into `part`; the largest, and the sum of all."""
    for number in range(bins + 1):
        part[number], slope[number] = 0.0, 0.0
    for index in range(len(volumes)):
        start, stop = in_bins(lows[index], lowest, scale), in_bins(highs[index], lowest, scale)
        spread_volume(volumes[index], start, stop, bins, part, slope)
    covering, most, total = 0.0, 0.0, 0.0
    for number in range(bins):
        covering += slope[number]
        volume = part[number] + covering
        part[number] = volume
        most = max(most, volume)
        total += volume
    return most, total


@helper
def fullest(profile, bins, most, close):  # type: ignore[no-untyped-def]
    """The bin with the most volume; of equal ones that nearest to the close (in bins), then the lower."""
    found, nearest = 0, math.inf
    for number in range(bins):
        distance = abs(number + 0.5 - close)
        if profile[number] >= most * (1.0 - EQUAL) and distance < nearest - ON_EDGE:
            found, nearest = number, distance
    return found


@helper
def value_area(profile, bins, poc, wanted):  # type: ignore[no-untyped-def]
    """First and last bin of the area around bin `poc` that holds the volume `wanted`."""
    slack = EQUAL * profile[poc]
    first, last, held = poc, poc, profile[poc]
    while held < wanted - slack and last - first < bins - 1:
        upper = profile[last + 1] if last + 1 < bins else -math.inf
        lower = profile[first - 1] if first > 0 else -math.inf
        if upper >= lower - slack:
            last, held = last + 1, held + upper
        else:
            first, held = first - 1, held + lower
    return first, last


@row_loop
def profile_prices(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Point of control, high and low of the value area from high, low, volume, close and the window's extremes.

    State: rings of highs, lows and volumes; two numbers for each bin and one beyond.
    """
    window, bins = int(p[0]), int(p[1])
    highs, lows, volumes = state[:window], state[window : 2 * window], state[2 * window : 3 * window]
    part, slope = state[3 * window : 3 * window + bins + 1], state[3 * window + bins + 1 :]
    for row in range(x.shape[1]):
        at = (seen + row) % window
        highs[at], lows[at], volumes[at] = x[0, row], x[1, row], x[2, row]
        highest, lowest = x[4, row], x[5, row]
        if not highest > lowest:
            y[0, row], y[1, row], y[2, row] = highest, highest, highest
            continue
        scale = bins / (highest - lowest)
        most, total = make_profile(highs, lows, volumes, lowest, scale, bins, part, slope)
        poc = fullest(part, bins, most, in_bins(x[3, row], lowest, scale))
        first, last = value_area(part, bins, poc, VALUE_AREA * total)
        y[0, row] = lowest + (highest - lowest) * ((poc + 0.5) / bins)
        y[1, row] = lowest + (highest - lowest) * ((last + 1.0) / bins)
        y[2, row] = lowest + (highest - lowest) * (first / bins)


def _prices(bars: Columns, window: int, bins: int) -> tuple[Expression, ...]:
    extremes = bars.high.rolling(window, "max"), bars.low.rolling(window, "min")
    inputs = (bars.high, bars.low, bars.volume, bars.close, *extremes)
    return loop(profile_prices, inputs, window, bins, state=3 * window + 2 * (bins + 1), outputs=3)


def volume_profile(bars: Columns, window: int, bins: int) -> dict[str, Expression]:
    """Point of control and the two edges of the value area (levels)."""
    poc, vah, val = _prices(bars, window, bins)
    return {"vp_poc": poc, "vp_vah": vah, "vp_val": val}


def vp_distance(bars: Columns, window: int, bins: int) -> dict[str, Expression]:
    """How far the close is above the point of control and the edges of the value area, relative to the close."""
    prices = volume_profile(bars, window, bins)
    return {f"{name}_distance": (bars.close - price) / bars.close for name, price in prices.items()}


def vp_position(bars: Columns, window: int, bins: int) -> dict[str, Expression]:
    """Where the close lies in the value area: 0 at its low, 1 at its high, beyond them outside."""
    _, vah, val = _prices(bars, window, bins)
    return {"vp_position": ratio(bars.close - val, vah - val, otherwise=0.5)}


def vp_width(bars: Columns, window: int, bins: int) -> dict[str, Expression]:
    """Width of the value area relative to the close."""
    _, vah, val = _prices(bars, window, bins)
    return {"vp_width": (vah - val) / bars.close}


TAIL = "_{window}w_{bins}b"
FEATURES = (
    Feature("volume_profile", volume_profile, Profile, levels=("vp_poc", "vp_vah", "vp_val"), tail=TAIL),
    Feature("vp_distance", vp_distance, Profile, tail=TAIL),
    Feature("vp_position", vp_position, Profile, tail=TAIL),
    Feature("vp_width", vp_width, Profile, tail=TAIL),
)
