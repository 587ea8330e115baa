"""Open, high, low, close and volume against those of earlier bars.

gap                = open / close_{t-1} - 1;  log_gap = ln(open / close_{t-1})
open_change_n      = open / open_{t-n} - 1;   high_change_n and low_change_n likewise
open_log_return_n  = ln(open / open_{t-n});   high_log_return_n and low_log_return_n likewise
high_to_close      = high / close_{t-1} - 1;  low_to_close = low / close_{t-1} - 1
close_to_open      = close / open - 1;        log_body = ln(close / open)
true_range_ratio   = max(high, close_{t-1}) / min(low, close_{t-1}) - 1
volume_change_n    = (volume - volume_{t-n}) / (volume + volume_{t-n}), in [-1, 1]; 0 where both are 0
log_volume_change_n = ln((volume + lot) / (volume_{t-n} + lot)); the lot keeps empty bars finite
return_lag_n       = the one-bar log return n bars ago
volume_change_lag_n = the one-bar log_volume_change n bars ago
"""

from __future__ import annotations

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, Rows, Window
from gpu_pipeline.features.expression import Columns, Expression, log, maximum, minimum, where


def _change(x: Expression, rows: int) -> Expression:
    return x / x.lag(rows) - 1.0


def _log_change(x: Expression, rows: int) -> Expression:
    return log(x / x.lag(rows))


def gap(bars: Columns) -> dict[str, Expression]:
    """Distance of the open from the close before."""
    return {"gap": bars.open / bars.close.lag(1) - 1.0}


def log_gap(bars: Columns) -> dict[str, Expression]:
    """Logarithm of the open over the close before."""
    return {"log_gap": log(bars.open / bars.close.lag(1))}


def open_change(bars: Columns, window: int) -> dict[str, Expression]:
    """Relative change of the open over `window` bars."""
    return {"open_change": _change(bars.open, window)}


def high_change(bars: Columns, window: int) -> dict[str, Expression]:
    """Relative change of the high over `window` bars."""
    return {"high_change": _change(bars.high, window)}


def low_change(bars: Columns, window: int) -> dict[str, Expression]:
    """Relative change of the low over `window` bars."""
    return {"low_change": _change(bars.low, window)}


def open_log_return(bars: Columns, window: int) -> dict[str, Expression]:
    """Logarithm of the ratio of opens `window` bars apart."""
    return {"open_log_return": _log_change(bars.open, window)}


def high_log_return(bars: Columns, window: int) -> dict[str, Expression]:
    """Logarithm of the ratio of highs `window` bars apart."""
    return {"high_log_return": _log_change(bars.high, window)}


def low_log_return(bars: Columns, window: int) -> dict[str, Expression]:
    """Logarithm of the ratio of lows `window` bars apart."""
    return {"low_log_return": _log_change(bars.low, window)}


def high_to_close(bars: Columns) -> dict[str, Expression]:
    """Distance of the high from the close before."""
    return {"high_to_close": bars.high / bars.close.lag(1) - 1.0}


def low_to_close(bars: Columns) -> dict[str, Expression]:
    """Distance of the low from the close before."""
    return {"low_to_close": bars.low / bars.close.lag(1) - 1.0}


def close_to_open(bars: Columns) -> dict[str, Expression]:
    """Distance of the close from the open of its bar."""
    return {"close_to_open": bars.close / bars.open - 1.0}


def log_body(bars: Columns) -> dict[str, Expression]:
    """Logarithm of the close over the open of its bar."""
    return {"log_body": log(bars.close / bars.open)}


def true_range_ratio(bars: Columns) -> dict[str, Expression]:
    """Range of the bar and the close before, relative to its lower end."""
    before = bars.close.lag(1)
    return {"true_range_ratio": maximum(bars.high, before) / minimum(bars.low, before) - 1.0}


def volume_change(bars: Columns, window: int) -> dict[str, Expression]:
    """Change of volume over `window` bars as a share of both volumes."""
    before = bars.volume.lag(window)
    both = bars.volume + before
    return {"volume_change": where(both > 0, (bars.volume - before) / both, 0.0)}


def log_volume_change(bars: Columns, window: int) -> dict[str, Expression]:
    """Logarithm of the ratio of volumes `window` bars apart, one lot added to both."""
    return {"log_volume_change": _log_change(bars.volume + bars.quantity_lot, window)}


def return_lag(bars: Columns, rows: int) -> dict[str, Expression]:
    """One-bar log return of an earlier bar."""
    return {"return_lag": _log_change(bars.close, 1).lag(rows)}


def volume_change_lag(bars: Columns, rows: int) -> dict[str, Expression]:
    """One-bar logarithmic change of volume of an earlier bar."""
    return {"volume_change_lag": log_volume_change(bars, 1)["log_volume_change"].lag(rows)}


class Lag(Options):
    """How many bars ago."""

    rows: Rows = 1


FEATURES = (
    Feature("gap", gap),
    Feature("log_gap", log_gap),
    Feature("open_change", open_change, Window),
    Feature("high_change", high_change, Window),
    Feature("low_change", low_change, Window),
    Feature("open_log_return", open_log_return, Window),
    Feature("high_log_return", high_log_return, Window),
    Feature("low_log_return", low_log_return, Window),
    Feature("high_to_close", high_to_close),
    Feature("low_to_close", low_to_close),
    Feature("close_to_open", close_to_open),
    Feature("log_body", log_body),
    Feature("true_range_ratio", true_range_ratio),
    Feature("volume_change", volume_change, Window),
    Feature("log_volume_change", log_volume_change, Window),
    Feature("return_lag", return_lag, Lag),
    Feature("volume_change_lag", volume_change_lag, Lag),
)
