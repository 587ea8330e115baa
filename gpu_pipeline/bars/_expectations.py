"""What imbalance and runs bars share: the keys of their expectations, bounds on a bar's length, and the fold.

The memory over trades must not be longer than a bar: signed means of many bars average to nothing, thresholds follow,
and bars shrink to `min_ticks`. On the BTCUSDT perpetual of 2020-02-22, with 100 ticks expected, `span_ticks` 300 leaves
71 to 86 % of imbalance bars and 28 to 85 % of runs bars at `min_ticks`; 50 leaves 5 % and none.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from gpu_pipeline.bars._signs import signs
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.schema import Tensor, Trades
from gpu_pipeline.core.units import format_threshold
from kernels.imbalance_ends import imbalance_ends
from kernels.imbalance_ends import initial_state as new_imbalance
from kernels.runs_ends import initial_state as new_runs
from kernels.runs_ends import runs_ends

State: TypeAlias = Mapping[str, Tensor]
LONGEST = 1 << 50
_USUAL_SPAN_BARS = 100
_SHORT_NAMES = {
    "span_bars": "bars",
    "span_ticks": "ticks",
    "min_ticks": "min",
    "max_ticks": "max",
    "expected_imbalance": "from",
    "expected_run": "from",
}


def _not_nothing(value: float) -> float:
    if value == 0:
        raise ValueError("must not be 0, bars would begin at min_ticks; leave it out, and the first bar measures it")
    return value


Imbalance = Annotated[float, Field(gt=-1e30, lt=1e30), AfterValidator(_not_nothing)]
Run = Annotated[float, Field(gt=0, lt=1e30)]


class Expectations(Options):
    """Keys of all imbalance and runs bars.

    Attributes:
        expected_ticks: trades of a bar to begin with.
        span_bars: bars over which the expected number of trades forgets.
        span_ticks: trades over which expectations per trade forget; null: half of expected_ticks.
        min_ticks: no bar has fewer trades; null: a tenth of expected_ticks.
        max_ticks: no bar has more trades; null: five times expected_ticks.
    """

    expected_ticks: int = Field(default=100, ge=1, le=LONGEST)
    span_bars: int = Field(default=_USUAL_SPAN_BARS, ge=1, le=LONGEST)
    span_ticks: int | None = Field(default=None, ge=1, le=LONGEST)
    min_ticks: int | None = Field(default=None, ge=1, le=LONGEST)
    max_ticks: int | None = Field(default=None, ge=1, le=LONGEST)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high, _, _ = self.rule
        if not low <= self.expected_ticks <= high:
            raise ValueError(
                f"min_ticks <= expected_ticks <= max_ticks is the rule, got {low}, {self.expected_ticks} and {high}; "
                "a bound that is left out follows expected_ticks"
            )
        return self

    @property
    def rule(self) -> tuple[int, int, int, int]:
        """min_ticks, max_ticks, span_bars, span_ticks, with those left out filled in."""
        usual = self.usual
        given = {key: getattr(self, key) for key in usual}
        low, high, bars, ticks = (usual[key] if value is None else int(value) for key, value in given.items())
        return low, high, bars, ticks

    @property
    def usual(self) -> dict[str, int]:
        """What the bounds and spans are where they are left out."""
        ticks = self.expected_ticks
        return {
            "min_ticks": max(1, ticks // 10),
            "max_ticks": 5 * ticks,
            "span_bars": _USUAL_SPAN_BARS,
            "span_ticks": max(1, ticks // 2),
        }


def imbalance(
    amount: Tensor,  # [N] int64, what each trade weighs, or [1] where all weigh the same
    unit: Fraction,
    trades: Trades,
    config: Any,
    state: State | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Where imbalance bars end in a chunk of trades.

    Args:
        amount: see above.
        unit: one step of the amounts, in the unit of the config's `expected_imbalance`.
        trades: the chunk.
        config: the bar type's.
        state: `expectations` of kernels.imbalance_ends; without sides also `last_trade`. None before the first trade.
    """
    sign, after = signs(trades, state)
    begin = _per_trade(config.expected_imbalance, unit)
    learnt = state["expectations"] if state else new_imbalance(config.expected_ticks, begin, trades.device)
    ends, learnt = imbalance_ends(amount, sign, *config.rule, learnt)
    return ends, {"expectations": learnt, **after}


def runs(
    amount: Tensor, unit: Fraction, trades: Trades, config: Any, state: State | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Where runs bars end in a chunk of trades: as `imbalance`, by kernels.runs_ends and `expected_run`."""
    sign, after = signs(trades, state)
    begin = _per_trade(config.expected_run, unit)
    learnt = state["expectations"] if state else new_runs(config.expected_ticks, begin, trades.device)
    ends, learnt = runs_ends(amount, sign, *config.rule, learnt)
    return ends, {"expectations": learnt, **after}


def _per_trade(expected: float | None, unit: Fraction) -> float | None:
    return None if expected is None else float(Fraction(expected) / unit)


def label(config: Expectations) -> str:
    """The ticks expected as file names write them, and every key that is not as usual: 100, 1k.bars50.from0.02."""
    parts = [format_threshold(config.expected_ticks)]
    for key, name in _SHORT_NAMES.items():
        value = getattr(config, key, None)
        if value is not None and value != config.usual.get(key):
            parts.append(name + format_threshold(abs(value)) + ("sold" if value < 0 else ""))
    return ".".join(parts)
