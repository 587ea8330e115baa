"""Candlestick patterns with TA-Lib's codes: 100 or -100 where the pattern ends at the bar, 0 elsewhere.

S. Nison, Japanese Candlestick Charting Techniques, 1991, as TA-Lib quantifies it with its default candle settings.
Of a candle: body = |close - open|, top and bottom = the larger and the smaller of open and close, upper wick =
high - top, lower wick = bottom - low, range = high - low; white where close >= open, else black. What is long or short
is measured against the candles before it:

long, short       = mean body of the 10 candles before
doji, very short  = 0.1 * mean range of the 10 candles before
near, far         = 0.2 and 0.6 * mean range of the 5 candles before

A gap between two candles is one between their bodies. [1] is the candle before, [2] the one before that.
As in TA-Lib the sums behind the means are moved on from bar to bar from the pattern's first possible bar on, so that a
body exactly as large as its mean is judged alike. 80 stands for an engulfing or a harami that shares one end.
"""

from __future__ import annotations

from gpu_pipeline.features._candle import Candle
from gpu_pipeline.features._feature import Feature
from gpu_pipeline.features.expression import Columns, Expression, loop, maximum, where
from kernels.loops import row_loop


@row_loop
def copy_rows(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """The input as it is, for a warm-up longer than that of the input."""
    for row in range(x.shape[1]):
        y[0, row] = x[0, row]


def _all(*conditions: Expression) -> Expression:
    held = conditions[0]
    for condition in conditions[1:]:
        held = held * condition
    return held


def _code(name: str, code: Expression | float, *conditions: Expression) -> dict[str, Expression]:
    return {name: where(_all(*conditions), code, 0.0)}


def cdldoji(bars: Columns) -> dict[str, Expression]:
    """Doji, 100: body <= doji."""
    c = Candle(bars, 10)
    return _code("cdldoji", 100.0, c.body <= c.doji)


def cdldragonflydoji(bars: Columns) -> dict[str, Expression]:
    """Dragonfly doji, 100: doji, upper wick very short, lower wick not."""
    c = Candle(bars, 10)
    return _code("cdldragonflydoji", 100.0, c.body <= c.doji, c.upper < c.very_short, c.lower > c.very_short)


def cdlgravestonedoji(bars: Columns) -> dict[str, Expression]:
    """Gravestone doji, 100: doji, lower wick very short, upper wick not."""
    c = Candle(bars, 10)
    return _code("cdlgravestonedoji", 100.0, c.body <= c.doji, c.lower < c.very_short, c.upper > c.very_short)


def cdlmarubozu(bars: Columns) -> dict[str, Expression]:
    """Marubozu, 100 white, -100 black: long body, both wicks very short."""
    c = Candle(bars, 10)
    return _code("cdlmarubozu", 100.0 * c.sign, c.body > c.mean_body, c.upper < c.very_short, c.lower < c.very_short)


def cdlspinningtop(bars: Columns) -> dict[str, Expression]:
    """Spinning top, 100 white, -100 black: short body, both wicks longer than it."""
    c = Candle(bars, 10)
    return _code("cdlspinningtop", 100.0 * c.sign, c.body < c.mean_body, c.upper > c.body, c.lower > c.body)


def _long_wick(c: Candle, long: Expression, other: Expression) -> Expression:
    return _all(c.body < c.mean_body, long > c.body, other < c.very_short)


def cdlhammer(bars: Columns) -> dict[str, Expression]:
    """Hammer, 100: short body, lower wick longer than it, upper wick very short, bottom <= low[1] + near[1]."""
    c = Candle(bars, 11)
    return _code("cdlhammer", 100.0, _long_wick(c, c.lower, c.upper), c.bottom <= c[1].low + c[1].near)


def cdlhangingman(bars: Columns) -> dict[str, Expression]:
    """Hanging man, -100: shaped as a hammer, bottom >= high[1] - near[1]."""
    c = Candle(bars, 11)
    return _code("cdlhangingman", -100.0, _long_wick(c, c.lower, c.upper), c.bottom >= c[1].high - c[1].near)


def cdlinvertedhammer(bars: Columns) -> dict[str, Expression]:
    """Inverted hammer, 100: short body, upper wick longer than it, lower wick very short, gap down from [1]."""
    c = Candle(bars, 11)
    return _code("cdlinvertedhammer", 100.0, _long_wick(c, c.upper, c.lower), c.top < c[1].bottom)


def cdlshootingstar(bars: Columns) -> dict[str, Expression]:
    """Shooting star, -100: shaped as an inverted hammer, gap up from [1]."""
    c = Candle(bars, 11)
    return _code("cdlshootingstar", -100.0, _long_wick(c, c.upper, c.lower), c.bottom > c[1].top)


def cdlengulfing(bars: Columns) -> dict[str, Expression]:
    """Engulfing, the sign of the candle times 100: opposite colours, the body holds the one before.

    One end may be shared (80), not both.
    """
    c = Candle(bars, 2)
    inside = _all(c.top >= c[1].top, c.bottom <= c[1].bottom)
    shares = maximum(c.top == c[1].top, c.bottom == c[1].bottom)
    both = _all(c.top == c[1].top, c.bottom == c[1].bottom)
    code = c.sign * where(shares, 80.0, 100.0)
    found = where(_all(c.sign == -c[1].sign, inside, 1.0 - both), code, 0.0)
    return {"cdlengulfing": loop(copy_rows, (found,), state=0, warmup=1)[0]}


def _harami(name: str, c: Candle, small: Expression) -> dict[str, Expression]:
    inside = _all(c.top <= c[1].top, c.bottom >= c[1].bottom)
    strictly = _all(c.top < c[1].top, c.bottom > c[1].bottom)
    return _code(name, -c[1].sign * where(strictly, 100.0, 80.0), c[1].body > c[1].mean_body, small, inside)


def cdlharami(bars: Columns) -> dict[str, Expression]:
    """Harami, minus the sign of [1] times 100: a short body inside the long body of [1]; 80 where they share an end."""
    c = Candle(bars, 11)
    return _harami("cdlharami", c, c.body <= c.mean_body)


def cdlharamicross(bars: Columns) -> dict[str, Expression]:
    """Harami cross: as the harami, the candle is a doji."""
    c = Candle(bars, 11)
    return _harami("cdlharamicross", c, c.body <= c.doji)


def _star(c: Candle) -> Expression:
    return _all(c[2].body > c[2].mean_body, c[1].body <= c[1].mean_body, c.body > c.mean_body)


def cdlmorningstar(bars: Columns) -> dict[str, Expression]:
    """Morning star, 100: long black [2], gap down to a short [1], white close above close[2] + 0.3 body[2]."""
    c = Candle(bars, 12)
    into = c.close > c[2].close + c[2].body * 0.3
    return _code("cdlmorningstar", 100.0, _star(c), c[2].black, c[1].top < c[2].bottom, c.white, into)


def cdleveningstar(bars: Columns) -> dict[str, Expression]:
    """Evening star, -100: long white [2], gap up to a short [1], black close below close[2] - 0.3 body[2]."""
    c = Candle(bars, 12)
    into = c.close < c[2].close - c[2].body * 0.3
    return _code("cdleveningstar", -100.0, _star(c), c[2].white, c[1].bottom > c[2].top, c.black, into)


def cdlpiercing(bars: Columns) -> dict[str, Expression]:
    """Piercing, 100: long black [1], long white opened below low[1], closed in the upper half of the body of [1]."""
    c = Candle(bars, 11)
    long = _all(c[1].body > c[1].mean_body, c.body > c.mean_body)
    into = _all(c.open < c[1].low, c.close < c[1].open, c.close > c[1].close + c[1].body * 0.5)
    return _code("cdlpiercing", 100.0, c[1].black, c.white, long, into)


def cdldarkcloudcover(bars: Columns) -> dict[str, Expression]:
    """Dark cloud cover, -100: long white [1], black opened above high[1], closed in the lower half of its body."""
    c = Candle(bars, 11)
    into = _all(c.open > c[1].high, c.close > c[1].open, c.close < c[1].close - c[1].body * 0.5)
    return _code("cdldarkcloudcover", -100.0, c[1].white, c[1].body > c[1].mean_body, c.black, into)


def cdl3whitesoldiers(bars: Columns) -> dict[str, Expression]:
    """Three white soldiers, 100: three white candles with rising closes and very short upper wicks.

    Each opens above the open and within or near the body of the one before, not far shorter; the last is not short.
    """
    c = Candle(bars, 12)
    each = [_all(one.white, one.upper < one.very_short) for one in (c, c[1], c[2])]
    pairs = [
        _all(
            now.close > before.close,
            now.open > before.open,
            now.open <= before.close + before.near,
            now.body > before.body - before.far,
        )
        for now, before in ((c[1], c[2]), (c, c[1]))
    ]
    return _code("cdl3whitesoldiers", 100.0, *each, *pairs, c.body > c.mean_body)


def cdl3blackcrows(bars: Columns) -> dict[str, Expression]:
    """Three black crows, -100: after a white candle three black ones with falling closes and very short lower wicks.

    The second and third open within the body before; the first closes below the high of the white one.
    """
    c = Candle(bars, 13)
    each = [_all(one.black, one.lower < one.very_short) for one in (c, c[1], c[2])]
    pairs = [
        _all(now.close < before.close, now.open < before.open, now.open > before.close)
        for now, before in ((c[1], c[2]), (c, c[1]))
    ]
    return _code("cdl3blackcrows", -100.0, *each, *pairs, c[3].white, c[3].high > c[2].close)


def cdl3inside(bars: Columns) -> dict[str, Expression]:
    """Three inside up 100, down -100: a harami at [1], confirmed by a close beyond the open of [2]."""
    c = Candle(bars, 12)
    within = _all(c[2].body > c[2].mean_body, c[1].body <= c[1].mean_body, c[1].top < c[2].top)
    up = _all(c[2].black, c.white, c.close > c[2].open)
    down = _all(c[2].white, c.black, c.close < c[2].open)
    return _code("cdl3inside", -100.0 * c[2].sign, within, c[1].bottom > c[2].bottom, maximum(up, down))


def cdl3outside(bars: Columns) -> dict[str, Expression]:
    """Three outside up 100, down -100: a strict engulfing at [1], confirmed by a close further on."""
    c = Candle(bars, 3)
    around = _all(c[1].top > c[2].top, c[1].bottom < c[2].bottom)
    up = _all(c[1].white, c[2].black, c.close > c[1].close)
    down = _all(c[1].black, c[2].white, c.close < c[1].close)
    found = where(_all(around, maximum(up, down)), 100.0 * c[1].sign, 0.0)
    return {"cdl3outside": loop(copy_rows, (found,), state=0, warmup=1)[0]}


PATTERNS = (
    cdldoji,
    cdldragonflydoji,
    cdlgravestonedoji,
    cdlmarubozu,
    cdlspinningtop,
    cdlhammer,
    cdlhangingman,
    cdlinvertedhammer,
    cdlshootingstar,
    cdlengulfing,
    cdlharami,
    cdlharamicross,
    cdlmorningstar,
    cdleveningstar,
    cdlpiercing,
    cdldarkcloudcover,
    cdl3whitesoldiers,
    cdl3blackcrows,
    cdl3inside,
    cdl3outside,
)
FEATURES = tuple(Feature(function.__name__, function) for function in PATTERNS)
