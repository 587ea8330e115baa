"""What the order of buys and sells, and of ups and downs, says about informed trading. Sums are over the last n bars.

vpin_n                        = sum |buy - sell| / sum volume; the bars are the buckets, and the sides are the takers'
                                own instead of a bulk classification (Easley, Lopez de Prado, O'Hara 2012, Rev.
                                Financial Studies 25, 1457)
order_flow_imbalance_n        = sum (buy - sell) / sum volume
imbalance_autocorrelation_n_k = correlation of trade_imbalance with itself k bars before, over n pairs
sign_autocorrelation_n_k      = the same of the sign of trade_imbalance
price_run                     = moves of the close in a row that went one way, negative where down; an unchanged close
                                neither counts nor ends it (tick rule: Lee, Ready 1991, J. Finance 46, 733)
tick_run_length_n             = price changes per run of one direction inside the bars:
                                sum num_price_changes / sum (num_directional_changes + 1 where a bar's prices moved)
tick_entropy_n_k              = -sum f log2(f) / k in bits per sign, f = frequency of a word of k signs among the last n
                                tick-rule signs of the close, up or not (plug-in estimator, Lopez de Prado 2018,
                                Advances in Financial Machine Learning, 18.2)
flow_entropy_n_k              = the same of the signs of trade_imbalance, above 0 or not
tick_complexity_n             = c log2(c) / n, c = phrases of the Lempel-Ziv 1978 parsing of the last n tick-rule signs
                                (snippet 18.3 there; Cover, Thomas 2006, 13.5.2)

Without volume, without moves, or of a constant, a ratio and a correlation are 0.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import Field, model_validator

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, ManyRows, Rows, WideWindow, Window
from gpu_pipeline.features._pairs import correlation, ratio, sign
from gpu_pipeline.features.expression import Columns, Expression, loop
from kernels.loops import RowLoop, row_loop


class LaggedWindow(Options):
    """A window of pairs, and how many bars apart the two of a pair are."""

    window: ManyRows
    lag: Rows = 1


class Words(Options):
    """A window of signs, and the length of the words in it."""

    window: ManyRows
    word: Annotated[int, Field(strict=True, ge=1, le=10)] = 3

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.word > self.window:
            raise ValueError(f"word must be at most window (window {self.window}, word {self.word})")
        return self


@row_loop
def tick_rule(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Sign of the last change that was not 0, and the signed length of its run; state: the signed length."""
    for row in range(x.shape[1]):
        change, run = x[0, row], state[0]
        if change > 0:
            run = max(run, 0.0) + 1.0
        elif change < 0:
            run = min(run, 0.0) - 1.0
        state[0] = run
        y[0, row] = (run > 0) - (run < 0)
        y[1, row] = run


@row_loop
def word_entropy(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Bits per sign of the words of p[1] signs in p[0] rows; state: the ring of signs, then a count for each word."""
    window, length = int(p[0]), int(p[1])
    words, many = window - length + 1, 1 << length
    signs, count = state[:window], state[window:]
    for row in range(x.shape[1]):
        at = seen + row
        signs[at % window] = 1.0 if x[0, row] > 0 else 0.0
        first = (at + 1) % window
        for word in range(many):
            count[word] = 0.0
        word = 0
        for step in range(window):
            index = (first + step) if first + step < window else first + step - window
            word = ((word << 1) | int(signs[index])) & (many - 1)
            if step >= length - 1:
                count[word] += 1.0
        bits = 0.0
        for word in range(many):
            if count[word] > 0:
                bits -= count[word] / words * math.log2(count[word] / words)
        y[0, row] = bits / length


@row_loop
def lempel_ziv(x, y, state, seen, p):  # type: ignore[no-untyped-def]
    """Phrases of the LZ78 parsing of p[0] signs as bits per sign; state: the ring, then both children of each node."""
    window = int(p[0])
    signs, child = state[:window], state[window:]
    for row in range(x.shape[1]):
        at = seen + row
        signs[at % window] = 1.0 if x[0, row] > 0 else 0.0
        first = (at + 1) % window
        child[0], child[1] = 0.0, 0.0
        node, phrases = 0, 0
        for step in range(window):
            index = (first + step) if first + step < window else first + step - window
            branch = 2 * node + int(signs[index])
            node = int(child[branch])
            if node == 0:
                phrases += 1
                child[branch] = phrases
                child[2 * phrases], child[2 * phrases + 1] = 0.0, 0.0
        y[0, row] = phrases * math.log2(phrases) / window


def vpin(bars: Columns, window: int) -> dict[str, Expression]:
    """Volume-synchronised probability of informed trading: the unbalanced share of volume, 0 to 1."""
    unbalanced = abs(bars.buy_volume - bars.sell_volume).rolling(window, "sum")
    return {"vpin": ratio(unbalanced, bars.volume.rolling(window, "sum"))}


def order_flow_imbalance(bars: Columns, window: int) -> dict[str, Expression]:
    """Net taker volume as a share of all volume over the window, -1 to 1."""
    net = (bars.buy_volume - bars.sell_volume).rolling(window, "sum")
    return {"order_flow_imbalance": ratio(net, bars.volume.rolling(window, "sum"))}


def imbalance_autocorrelation(bars: Columns, window: int, lag: int) -> dict[str, Expression]:
    """Autocorrelation of the bars' imbalances."""
    share = bars.trade_imbalance
    return {"imbalance_autocorrelation": correlation(share, share.lag(lag), window)}


def sign_autocorrelation(bars: Columns, window: int, lag: int) -> dict[str, Expression]:
    """Autocorrelation of the side that took more."""
    side = sign(bars.trade_imbalance)
    return {"sign_autocorrelation": correlation(side, side.lag(lag), window)}


def _tick_rule(bars: Columns) -> tuple[Expression, ...]:
    return loop(tick_rule, (bars.close - bars.close.lag(1),), state=1, outputs=2)


def price_run(bars: Columns) -> dict[str, Expression]:
    """How many times in a row the close has moved the same way, with the sign of the moves."""
    return {"price_run": _tick_rule(bars)[1]}


def tick_run_length(bars: Columns, window: int) -> dict[str, Expression]:
    """Mean number of price changes in a row that go the same way, inside the bars of the window."""
    runs = bars.num_directional_changes + (bars.num_price_changes > 0)
    return {"tick_run_length": ratio(bars.num_price_changes.rolling(window, "sum"), runs.rolling(window, "sum"))}


def _over_signs(function: RowLoop, signs: Expression, window: int, *parameters: int, scratch: int) -> Expression:
    return loop(function, (signs,), window, *parameters, state=window + scratch, warmup=window - 1)[0]


def tick_entropy(bars: Columns, window: int, word: int) -> dict[str, Expression]:
    """Plug-in entropy of the ups and downs of the close, in bits per bar, 0 to 1."""
    return {"tick_entropy": _over_signs(word_entropy, _tick_rule(bars)[0], window, word, scratch=1 << word)}


def flow_entropy(bars: Columns, window: int, word: int) -> dict[str, Expression]:
    """Plug-in entropy of the side that took more, in bits per bar, 0 to 1."""
    return {"flow_entropy": _over_signs(word_entropy, bars.trade_imbalance, window, word, scratch=1 << word)}


def tick_complexity(bars: Columns, window: int) -> dict[str, Expression]:
    """Lempel-Ziv complexity of the ups and downs of the close, in bits per bar."""
    return {"tick_complexity": _over_signs(lempel_ziv, _tick_rule(bars)[0], window, scratch=2 * window + 2)}


FEATURES = (
    Feature("vpin", vpin, Window),
    Feature("order_flow_imbalance", order_flow_imbalance, Window),
    Feature("imbalance_autocorrelation", imbalance_autocorrelation, LaggedWindow),
    Feature("sign_autocorrelation", sign_autocorrelation, LaggedWindow),
    Feature("price_run", price_run),
    Feature("tick_run_length", tick_run_length, Window),
    Feature("tick_entropy", tick_entropy, Words),
    Feature("flow_entropy", flow_entropy, Words),
    Feature("tick_complexity", tick_complexity, WideWindow),
)
