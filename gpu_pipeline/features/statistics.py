"""Statistics of the closes, one-bar log returns and volumes of the last w bars, this one included.

close_zscore_w       = (close - mean) / standard deviation (ddof 1) of the closes
close_std_ratio_w    = standard deviation (ddof 1) / mean of the closes
drawdown_w           = close / max of the closes - 1;  runup_w = close / min of the closes - 1
max_drawdown_w       = the deepest fall from an earlier close of the window, relative to that close, <= 0
return_mean_w, return_min_w, return_max_w = mean, smallest and largest r
return_zscore_w      = (r - mean) / standard deviation (ddof 1) of r
return_skewness_w    = m3 / m2^1.5;  return_kurtosis_w = m4 / m2^2 - 3, central moments of the population of r
close_rank_w, return_rank_w, volume_rank_w = (values below the last + half of those equal to it) / w, itself equal
return_quantile_w_q  = the quantile q of r, linear between the two nearest (Hyndman and Fan 1996, type 7)
return_autocorrelation_w_k = sum of (r_i - mean)(r_{i-k} - mean) over the pairs in the window / sum of (r_i - mean)^2
                       (Box and Jenkins 1970); absolute_return_autocorrelation_w_k the same of |r|
close_slope_w        = slope per bar of the least-squares line through ln close
close_r2_w           = share of the variance of ln close that the line explains, in [0, 1]

Where the window is constant: ranks are 1/2, all others of these without a value by their formula are 0.
Every window is computed anew or in fixed blocks: nothing drifts.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features._feature import Feature, ManyRows, Rows, WideWindow, Window
from gpu_pipeline.features._pairs import log_return, zscore
from gpu_pipeline.features._trailing import autocorrelation, deepest_fall, line
from gpu_pipeline.features.expression import Columns, Expression, log, loop
from kernels.loops import RowLoop
from kernels.windows import moments, quantile, rank


def _over(
    function: RowLoop, x: Expression, window: int, *parameters: float, outputs: int = 1
) -> tuple[Expression, ...]:
    return loop(function, (x,), window, *parameters, state=2 * window, outputs=outputs, warmup=window - 1)


def close_zscore(bars: Columns, window: int) -> dict[str, Expression]:
    """Close against its own recent mean, in standard deviations."""
    return {"close_zscore": zscore(bars.close, window)}


def close_std_ratio(bars: Columns, window: int) -> dict[str, Expression]:
    """Standard deviation of the closes relative to their mean."""
    return {"close_std_ratio": bars.close.rolling(window, "std", ddof=1) / bars.close.rolling(window, "mean")}


def drawdown(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close below the highest close."""
    return {"drawdown": bars.close / bars.close.rolling(window, "max") - 1.0}


def runup(bars: Columns, window: int) -> dict[str, Expression]:
    """Distance of the close above the lowest close."""
    return {"runup": bars.close / bars.close.rolling(window, "min") - 1.0}


def max_drawdown(bars: Columns, window: int) -> dict[str, Expression]:
    """Deepest fall from a close to a later one inside the window."""
    return {"max_drawdown": _over(deepest_fall, bars.close, window)[0]}


def return_mean(bars: Columns, window: int) -> dict[str, Expression]:
    """Mean of the one-bar log returns."""
    return {"return_mean": log_return(bars.close).rolling(window, "mean")}


def return_min(bars: Columns, window: int) -> dict[str, Expression]:
    """Smallest one-bar log return."""
    return {"return_min": log_return(bars.close).rolling(window, "min")}


def return_max(bars: Columns, window: int) -> dict[str, Expression]:
    """Largest one-bar log return."""
    return {"return_max": log_return(bars.close).rolling(window, "max")}


def return_zscore(bars: Columns, window: int) -> dict[str, Expression]:
    """Last log return against the mean of the last ones, in standard deviations."""
    return {"return_zscore": zscore(log_return(bars.close), window)}


def return_skewness(bars: Columns, window: int) -> dict[str, Expression]:
    """Skewness of the one-bar log returns."""
    return {"return_skewness": _over(moments, log_return(bars.close), window, outputs=2)[0]}


def return_kurtosis(bars: Columns, window: int) -> dict[str, Expression]:
    """Excess kurtosis of the one-bar log returns."""
    return {"return_kurtosis": _over(moments, log_return(bars.close), window, outputs=2)[1]}


def close_rank(bars: Columns, window: int) -> dict[str, Expression]:
    """Share of the closes below the last one."""
    return {"close_rank": _over(rank, bars.close, window)[0]}


def return_rank(bars: Columns, window: int) -> dict[str, Expression]:
    """Share of the one-bar log returns below the last one."""
    return {"return_rank": _over(rank, log_return(bars.close), window)[0]}


def volume_rank(bars: Columns, window: int) -> dict[str, Expression]:
    """Share of the volumes below the last one."""
    return {"volume_rank": _over(rank, bars.volume, window)[0]}


def return_quantile(bars: Columns, window: int, probability: float) -> dict[str, Expression]:
    """Quantile of the one-bar log returns."""
    change = log_return(bars.close)
    state = 2 * window + 1
    return {
        "return_quantile": loop(quantile, (change,), window, probability, state=state, warmup=window - 1)[0],
    }


def return_autocorrelation(bars: Columns, window: int, rows: int) -> dict[str, Expression]:
    """Autocorrelation of the one-bar log returns."""
    return {"return_autocorrelation": _over(autocorrelation, log_return(bars.close), window, rows)[0]}


def absolute_return_autocorrelation(bars: Columns, window: int, rows: int) -> dict[str, Expression]:
    """Autocorrelation of the sizes of one-bar log returns: how volatility clusters."""
    return {"absolute_return_autocorrelation": _over(autocorrelation, abs(log_return(bars.close)), window, rows)[0]}


def close_slope(bars: Columns, window: int) -> dict[str, Expression]:
    """Slope of the line through the log closes, per bar."""
    return {"close_slope": _over(line, log(bars.close), window, outputs=2)[0]}


def close_r2(bars: Columns, window: int) -> dict[str, Expression]:
    """How straight the log closes run: R squared of the line through them."""
    return {"close_r2": _over(line, log(bars.close), window, outputs=2)[1]}


class WindowAndProbability(Options):
    """A window, and which quantile of it."""

    window: Rows
    probability: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05


class WindowAndLag(Options):
    """A window, and how many bars apart its pairs are."""

    window: ManyRows
    rows: Rows = 1

    @model_validator(mode="after")
    def _shorter(self) -> WindowAndLag:
        if self.rows >= self.window:
            raise ValueError(f"rows must be below window ({self.window}), got {self.rows}")
        return self


FEATURES = (
    Feature("close_zscore", close_zscore, WideWindow),
    Feature("close_std_ratio", close_std_ratio, WideWindow),
    Feature("drawdown", drawdown, Window),
    Feature("runup", runup, Window),
    Feature("max_drawdown", max_drawdown, Window),
    Feature("return_mean", return_mean, Window),
    Feature("return_min", return_min, Window),
    Feature("return_max", return_max, Window),
    Feature("return_zscore", return_zscore, WideWindow),
    Feature("return_skewness", return_skewness, WideWindow),
    Feature("return_kurtosis", return_kurtosis, WideWindow),
    Feature("close_rank", close_rank, Window),
    Feature("return_rank", return_rank, Window),
    Feature("volume_rank", volume_rank, Window),
    Feature("return_quantile", return_quantile, WindowAndProbability),
    Feature("return_autocorrelation", return_autocorrelation, WindowAndLag),
    Feature("absolute_return_autocorrelation", absolute_return_autocorrelation, WindowAndLag),
    Feature("close_slope", close_slope, WideWindow),
    Feature("close_r2", close_r2, WideWindow),
)
