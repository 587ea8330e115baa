"""Row loops over the bars of a day: since midnight (UTC), and of the last 24 hours."""

from __future__ import annotations

from gpu_pipeline.features.expression import Columns, Expression, loop
from kernels.loops import helper, row_loop

DAY_SECONDS = 86_400.0
# Bars of the last 24 hours that are remembered: almost three a minute.
MOST_BARS = 4096


@row_loop
def day_total(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Sum of the first input since the second, a day number, last changed; state: the sum and the day."""
    for row in range(x.shape[1]):
        if seen + row == 0 or x[1, row] != state[1]:
            state[0], state[1] = 0.0, x[1, row]
        state[0] += x[0, row]
        y[0, row] = state[0]


def since_midnight(x: Expression, bars: Columns) -> Expression:
    """Sum of a column without warm-up over the bars that closed on the same day (UTC), this one included."""
    return loop(day_total, (x, bars.day_number), state=2)[0]


@helper
def outranked(values, value):  # type: ignore[no-untyped-def]
    """How many values are below one, less how many are above it."""
    ahead = 0
    for index in range(values.size):
        ahead += (values[index] < value) - (values[index] > value)
    return ahead


@row_loop
def day_rank(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Share of the last 24 hours' rows (p[0] at most) below the newest; equal ones, itself too, count half.

    x = value, day number, second of the day; state: the oldest row's place, how many rows, rings of the three.
    """
    most = int(p[0])
    values, days, seconds = state[2 : 2 + most], state[2 + most : 2 + 2 * most], state[2 + 2 * most :]
    oldest, count = int(state[0]), int(state[1])
    for row in range(x.shape[1]):
        value, day, second = x[0, row], x[1, row], x[2, row]
        while count > 0 and (days[oldest] < day - 1 or (days[oldest] == day - 1 and seconds[oldest] <= second)):
            oldest, count = (oldest + 1) % most, count - 1
        if count == most:
            oldest, count = (oldest + 1) % most, count - 1
        at = (oldest + count) % most
        values[at], days[at], seconds[at] = value, day, second
        count += 1
        ahead = outranked(values[oldest : min(oldest + count, most)], value)
        ahead += outranked(values[: max(oldest + count - most, 0)], value)
        y[0, row] = 0.5 + 0.5 * ahead / count
    state[0], state[1] = oldest, count


def rank_of_day(x: Expression, bars: Columns) -> Expression:
    """Trailing percentile of a column without warm-up among the bars that closed in (t - 24 h, t]."""
    inputs = (x, bars.day_number, bars.seconds_of_day)
    return loop(day_rank, inputs, MOST_BARS, state=2 + 3 * MOST_BARS)[0]
