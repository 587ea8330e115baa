"""Order flow, runs and entropies against plain Python from their definitions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gpu_pipeline.core.errors import ConfigError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features._make import make_features
from tests.features.factory import plain_bars
from tests.features.flow_markets import assert_near, flow_markets, frames, only, real_markets

Frames = list[tuple[Bars, pd.DataFrame]]


@pytest.fixture(scope="module")
def markets() -> Frames:
    return frames(flow_markets())


def share(part: pd.Series, whole: pd.Series, window: int) -> pd.Series:
    top, bottom = (
        pd.Series([np.nan] * (window - 1) + [sum(each[t - window + 1 : t + 1]) for t in range(window - 1, len(each))])
        for each in (part.to_numpy(), whole.to_numpy())
    )
    return (top / bottom.replace(0, np.nan)).where(bottom != 0, 0.0).where(bottom.notna())


def autocorrelation(x: np.ndarray, window: int, lag: int) -> np.ndarray:
    out = np.full(len(x), np.nan)
    for t in range(window + lag - 1, len(x)):
        now, before = x[t - window + 1 : t + 1], x[t - window + 1 - lag : t + 1 - lag]
        still = now.min() == now.max() or before.min() == before.max()
        out[t] = 0.0 if still else np.corrcoef(now, before)[0, 1]
    return out


def tick_signs(close: np.ndarray) -> list[int]:
    signs = [0]
    for before, now in itertools.pairwise(close):
        signs.append(signs[-1] if now == before else int(np.sign(now - before)))
    return signs


def runs(close: np.ndarray) -> list[float]:
    moves: list[int] = []
    out = [np.nan]
    for before, now in itertools.pairwise(close):
        moves += [int(np.sign(now - before))] if now != before else []
        last = [list(group) for _, group in itertools.groupby(moves)][-1:]
        out.append(float(sum(last[0])) if last else 0.0)
    return out


def plug_in(symbols: list[bool], word: int) -> float:
    """Snippet 18.1: the frequencies of words, in bits per symbol."""
    message = "".join("01"[symbol] for symbol in symbols)
    words = Counter(message[start : start + word] for start in range(len(message) - word + 1))
    shares = [count / sum(words.values()) for count in words.values()]
    return -sum(p * np.log2(p) for p in shares) / word


def lempel_ziv_library(symbols: list[bool]) -> int:
    """Snippet 18.3: how many words the parser has met."""
    message = "".join("01"[symbol] for symbol in symbols)
    library, start = {message[0]}, 1
    while start < len(message):
        end = start + 1
        while message[start:end] in library and end < len(message):
            end += 1
        library.add(message[start:end])
        start = end
    return len(library)


def lempel_ziv_rate(symbols: list[bool]) -> float:
    phrases = lempel_ziv_library(symbols)
    return phrases * np.log2(phrases) / len(symbols)


def over(symbols: list[bool], window: int, measure: Callable[[list[bool]], float]) -> np.ndarray:
    out = np.full(len(symbols), np.nan)
    for t in range(window - 1, len(symbols)):
        out[t] = measure(symbols[t - window + 1 : t + 1])
    return out


@pytest.mark.parametrize("window", [1, 20])
def test_shares_of_volume(window: int, markets: Frames) -> None:
    for bars, frame in markets:
        signed = frame.buy_volume - frame.sell_volume
        assert_near(only(bars, "vpin", window), share(signed.abs(), frame.volume, window))
        assert_near(only(bars, "order_flow_imbalance", window), share(signed, frame.volume, window), least=1e-12)
        runs_inside = frame.num_directional_changes + (frame.num_price_changes > 0)
        assert_near(only(bars, "tick_run_length", window), share(frame.num_price_changes, runs_inside, window))


@pytest.mark.parametrize(("window", "lag"), [(20, 1), (7, 3)])
def test_autocorrelations(window: int, lag: int, markets: Frames) -> None:
    for bars, frame in markets:
        x = frame.trade_imbalance.to_numpy()
        ours = only(bars, "imbalance_autocorrelation", window, lag)
        assert_near(ours, autocorrelation(x, window, lag), least=1e-9)
        wanted = autocorrelation(np.sign(x), window, lag)
        assert_near(only(bars, "sign_autocorrelation", window, lag), wanted, least=1e-9)


def test_runs_of_closes(markets: Frames) -> None:
    for bars, frame in markets:
        assert only(bars, "price_run")[1:].tolist() == runs(frame.close.to_numpy())[1:]


def test_a_run_by_hand() -> None:
    bars = plain_bars(np.array([5.0, 5.0, 6.0, 6.0, 7.0, 6.5, 6.5, 6.0, 6.5]))
    assert only(bars, "price_run")[1:].tolist() == [0, 1, 1, 2, -1, -1, -2, 1]


@pytest.mark.parametrize(("window", "word"), [(20, 3), (8, 1), (12, 5)])
def test_entropies(window: int, word: int, markets: Frames) -> None:
    for bars, frame in markets:
        ups = [sign > 0 for sign in tick_signs(frame.close.to_numpy())]
        wanted = over(ups, window, lambda part: plug_in(part, word))
        wanted[window - 1] = np.nan
        assert_near(only(bars, "tick_entropy", window, word), wanted, least=1e-12)
        buys = [bool(value > 0) for value in frame.trade_imbalance]
        wanted = over(buys, window, lambda part: plug_in(part, word))
        assert_near(only(bars, "flow_entropy", window, word), wanted, least=1e-12)


@pytest.mark.parametrize("window", [2, 30])
def test_complexity_counts_the_phrases_of_the_parser(window: int, markets: Frames) -> None:
    for bars, frame in markets:
        ups = [sign > 0 for sign in tick_signs(frame.close.to_numpy())]
        wanted = over(ups, window, lempel_ziv_rate)
        wanted[window - 1] = np.nan
        assert_near(only(bars, "tick_complexity", window), wanted)


def test_order_has_less_entropy_than_chance() -> None:
    rng = np.random.default_rng(2)
    fair = plain_bars(100 + np.cumsum(rng.choice([-1.0, 1.0], 1001) * 0.01))
    ordered = plain_bars(100 + 0.01 * (np.arange(1001) % 2))
    assert only(fair, "tick_entropy", 1000, 3)[-1] > 0.99
    assert only(ordered, "tick_entropy", 1000, 3)[-1] == pytest.approx(1 / 3, abs=1e-3)
    assert only(fair, "tick_complexity", 1000)[-1] > 3 * only(ordered, "tick_complexity", 1000)[-1]


def test_a_word_longer_than_the_window_is_refused() -> None:
    with pytest.raises(ConfigError, match="word must be at most window"):
        make_features(plain_bars(np.ones(5)), {"tick_entropy": {"windows": [[4, 5]]}})


def test_real_bars(market_data: Path) -> None:
    for bars, frame in frames(real_markets(market_data)):
        ups = [sign > 0 for sign in tick_signs(frame.close.to_numpy())]
        wanted = over(ups[:600], 50, lambda part: plug_in(part, 3))
        ours = only(bars, "tick_entropy", 50, 3)
        assert_near(ours[50:600], wanted[50:])
        ours = only(bars, "imbalance_autocorrelation", 50, 1)
        assert_near(ours[:600], autocorrelation(frame.trade_imbalance.to_numpy()[:600], 50, 1), least=1e-9)
