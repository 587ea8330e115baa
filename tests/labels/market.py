"""Bars for label tests, and the label rules written again as plain loops."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import torch

from gpu_pipeline.core.schema import BAR_COLUMNS, BAR_FLOATS, Bars, Symbol

SYMBOL = Symbol("BTCUSDT", Decimal("0.01"), Decimal("0.001"))
SECOND = 10**9


def bars_of(open_, high, low, close, *, step_ns: int = 60 * SECOND, open_ns=None) -> Bars:
    rows = len(close)
    opens = np.arange(rows) * step_ns if open_ns is None else np.array(open_ns)
    given = {"open": open_, "high": high, "low": low, "close": close}
    columns = {
        name: torch.zeros(rows, dtype=torch.float64 if name in BAR_FLOATS else torch.int64) for name in BAR_COLUMNS
    }
    columns |= {name: torch.from_numpy(np.array(column, np.float64)) for name, column in given.items()}
    columns["open_timestamp"] = torch.from_numpy(opens.astype(np.int64))
    columns["close_timestamp"] = columns["open_timestamp"] + step_ns - 1
    columns["is_partial"] = torch.zeros(rows, dtype=torch.bool)
    return Bars(SYMBOL, "test", columns)


def random_bars(seed: int, rows: int, *, jumps: float = 0.3) -> Bars:
    """A random walk in whole ticks whose bars do not always open at the last close."""
    draw = np.random.default_rng(seed)
    path = 10_000 + np.cumsum(draw.integers(-8, 9, (rows, 6)).ravel()).reshape(rows, 6)
    path[:, 0] += (draw.random(rows) < jumps) * draw.integers(-40, 41, rows)
    return bars_of(path[:, 0] / 100, path.max(1) / 100, path.min(1) / 100, path[:, -1] / 100)


def atr_by_hand(bars: Bars, window: int) -> list[float]:
    high, low, close = (getattr(bars, name).tolist() for name in ("high", "low", "close"))
    out, ranges = [math.nan] * len(close), []
    for i in range(1, len(close)):
        ranges.append(max(high[i] - low[i], abs(high[i] - close[i - 1]), abs(low[i] - close[i - 1])))
        if len(ranges) == window:
            out[i] = sum(ranges) / window
        elif len(ranges) > window:
            out[i] = (out[i - 1] * (window - 1) + ranges[-1]) / window
    return out


def barriers_by_hand(bars: Bars, take_profit: float, stop_loss: float, horizon: int, window: int, entry_at: str):
    """Per bar (which, deciding row, return), which one of up, down, both, timeout, None."""
    opens, highs, lows, closes = (getattr(bars, name).tolist() for name in ("open", "high", "low", "close"))
    atr, out = atr_by_hand(bars, window), []
    for i in range(len(closes)):
        if math.isnan(atr[i]) or i + horizon >= len(closes):
            out.append((None, -1, math.nan))
            continue
        entry = closes[i] if entry_at == "close" else opens[i + 1]
        top, bottom = entry + take_profit * atr[i], entry - stop_loss * atr[i]
        decided = ("timeout", i + horizon, closes[i + horizon])
        for j in range(i + 1, i + horizon + 1):
            up, down = highs[j] >= top, lows[j] <= bottom
            if down:
                decided = ("both" if up else "down", j, min(opens[j], bottom))
                break
            if up:
                decided = ("up", j, max(opens[j], top))
                break
        out.append((decided[0], decided[1], decided[2] / entry - 1.0))
    return out
