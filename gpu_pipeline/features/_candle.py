"""One candle of a pattern, and what TA-Lib measures it against: means over the candles before, moved on bar by bar."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpu_pipeline.features.expression import Columns, Expression, loop, maximum, minimum, where
from kernels.loops import row_loop

MEAN_OF_BODIES, MEAN_OF_RANGES, MEAN_OF_NEAR = 10, 10, 5


@row_loop
def candle_total(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Sum of the p[1] sizes before each row from row p[0] on; x holds the sizes and those p[1] rows ago."""
    for row in range(x.shape[1]):
        at = seen + row - p[0]
        y[0, row] = state[0] if at >= p[1] else math.nan
        if at >= p[1]:
            state[0] += x[0, row] - x[1, row]
        elif at >= 0:
            state[0] += x[0, row]


@dataclass(frozen=True)
class Candle:
    """The candle `back` bars ago, in a pattern whose first possible bar is row `lookback`."""

    bars: Columns
    lookback: int
    back: int = 0

    def __getitem__(self, back: int) -> Candle:
        return Candle(self.bars, self.lookback, back)

    def _then(self, now: Expression) -> Expression:
        return now.lag(self.back)

    def _body_now(self) -> Expression:
        return abs(self.bars.close - self.bars.open)

    @property
    def open(self) -> Expression:
        return self._then(self.bars.open)

    @property
    def high(self) -> Expression:
        return self._then(self.bars.high)

    @property
    def low(self) -> Expression:
        return self._then(self.bars.low)

    @property
    def close(self) -> Expression:
        return self._then(self.bars.close)

    @property
    def body(self) -> Expression:
        return self._then(self._body_now())

    @property
    def top(self) -> Expression:
        return self._then(maximum(self.bars.open, self.bars.close))

    @property
    def bottom(self) -> Expression:
        return self._then(minimum(self.bars.open, self.bars.close))

    @property
    def upper(self) -> Expression:
        return self._then(self.bars.high - maximum(self.bars.open, self.bars.close))

    @property
    def lower(self) -> Expression:
        return self._then(minimum(self.bars.open, self.bars.close) - self.bars.low)

    @property
    def white(self) -> Expression:
        return self._then(self.bars.close >= self.bars.open)

    @property
    def black(self) -> Expression:
        return self._then(self.bars.close < self.bars.open)

    @property
    def sign(self) -> Expression:
        return self._then(where(self.bars.close >= self.bars.open, 1.0, -1.0))

    @property
    def mean_body(self) -> Expression:
        return self._mean(self._body_now(), MEAN_OF_BODIES)

    @property
    def doji(self) -> Expression:
        return 0.1 * self._mean(self.bars.high - self.bars.low, MEAN_OF_RANGES)

    very_short = doji

    @property
    def near(self) -> Expression:
        return 0.2 * self._mean(self.bars.high - self.bars.low, MEAN_OF_NEAR)

    @property
    def far(self) -> Expression:
        return 0.6 * self._mean(self.bars.high - self.bars.low, MEAN_OF_NEAR)

    def _mean(self, size: Expression, period: int) -> Expression:
        first = self.lookback - self.back - period
        return self._then(
            loop(candle_total, (size, size.lag(period)), first, period, state=1, warmup=first)[0] / period
        )
