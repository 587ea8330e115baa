"""Imbalance and runs bars from their definition alone: Python's integers and floats, one operation after the other."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

LIMIT = 2**62


def clip(value):
    return min(max(value, 1 - LIMIT), LIMIT - 1)


def power(base, exponent):
    result = 1.0
    for bit in reversed(f"{exponent:b}"):
        if bit == "1":
            result = result * base
        base = base * base
    return result


def nearest(value):
    return min(max(1, math.floor(Fraction(value) + Fraction(1, 2))), LIMIT - 1)


def bits(value):
    return struct.unpack("<q", struct.pack("<d", value))[0]


@dataclass(frozen=True)
class Rule:
    min_ticks: int
    max_ticks: int
    span_bars: int
    span_ticks: int
    expected_ticks: int
    expected: float | None = None

    @property
    def keys(self):
        return self.min_ticks, self.max_ticks, self.span_bars, self.span_ticks


class Bars:
    """The open bar and its expectations; `offset` tells imbalance from runs."""

    def __init__(self, rule, offset):
        self.rule, self.offset = rule, offset
        self.expected_ticks = float(rule.expected_ticks)
        self.means = [0.0 if rule.expected is None else float(rule.expected)] * (1 if offset else 2)
        self.threshold = None if rule.expected is None else self._threshold()
        self.ticks, self.totals = 0, [0] * len(self.means)

    def _threshold(self):
        most = abs(self.means[0]) if self.offset else max(self.means)
        return nearest(self.expected_ticks * most)

    def take(self, value):
        """Whether the bar closes at a trade of this signed amount."""
        self.ticks += 1
        parts = [value] if self.offset else [max(value, 0), max(-value, 0)]
        self.totals = [clip(total + clip(part)) for total, part in zip(self.totals, parts, strict=True)]
        if self.threshold is None:
            done = self.ticks >= self.rule.expected_ticks
        else:
            reached = max(abs(total) for total in self.totals) >= self.threshold
            done = self.ticks >= self.rule.max_ticks or (self.ticks >= self.rule.min_ticks and reached)
        if done:
            self._close()
        return done

    def _close(self):
        a = 2.0 / (self.rule.span_bars + 1)
        self.expected_ticks = self.expected_ticks + a * (float(self.ticks) - self.expected_ticks)
        w = power(1.0 - 2.0 / (self.rule.span_ticks + 1), self.ticks)
        fresh = [float(total) / float(self.ticks) for total in self.totals]
        if self.threshold is not None:
            fresh = [w * old + (1.0 - w) * new for old, new in zip(self.means, fresh, strict=True)]
        self.means, self.threshold = fresh, None
        self.threshold = self._threshold()
        self.ticks, self.totals = 0, [0] * len(self.means)

    @property
    def words(self):
        threshold = LIMIT if self.threshold is None else self.threshold
        return [self.ticks, threshold, *self.totals, bits(self.expected_ticks), *map(bits, self.means)]


def ends_by_hand(signed, rule, offset):
    """(ends, words of the state after, every threshold on the way)."""
    bars, ends, thresholds = Bars(rule, offset), [], []
    for row, value in enumerate(signed):
        if bars.take(value):
            ends.append(row + 1)
            thresholds.append(bars.threshold)
    return ends, bars.words, thresholds


def columns(signed):
    """The op's amount [N] and sign [N], from signed amounts."""
    amount = np.array([abs(value) for value in signed], np.int64)
    return torch.from_numpy(amount), torch.from_numpy(np.sign(np.array(signed, np.float64)).astype(np.int8))


def draw_rule(draw):
    """Short bars, with the first expectation known or not."""
    low, middle, high = sorted(draw.integers(1, 25, 3).tolist())
    spans = draw.choice([1, 2, 7, 100], 2).tolist()
    expected = [None, float(draw.integers(0, 50)), float(draw.random() * 20), 1e17][int(draw.integers(0, 4))]
    return Rule(low, high, *spans, middle, expected)


STREAMS = (
    lambda draw, rows: draw.choice([-1, 1], rows).tolist(),
    lambda draw, rows: (draw.integers(-200, 210, rows) * (draw.random(rows) < 0.9)).tolist(),
    lambda draw, rows: (draw.integers(0, 5, rows) * 10**15).tolist(),
    lambda draw, rows: draw.choice([-(2**62), 2**63 - 1, 2**61, 0, 1, -5], rows).tolist(),
)
ADVERSARIES = {
    "all bought": lambda rows: [1] * rows,
    "all sold": lambda rows: [-250] * rows,
    "alternating": lambda rows: [1, -1] * (rows // 2),
    "one giant": lambda rows: [1, -1, 2] * 9 + [2**63 - 1] + [-1, 1, 3] * (rows // 3 - 10) + [1] * (rows % 3 + 2),
    "no quantity": lambda rows: [0] * rows,
    "from nothing to much": lambda rows: [0] * (rows // 2) + [10**12, -(10**12), 10**12] * (rows // 6) + [1] * 2,
}
