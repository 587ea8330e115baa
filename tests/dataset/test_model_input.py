"""Quantiles, the robust scaler and the one function that makes model input, against numpy and scikit-learn."""

import json
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import RobustScaler

from gpu_pipeline.core.config import ScalerSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.dataset.model_input import Fitted, fit, model_input
from gpu_pipeline.dataset.quantiles import quantiles
from gpu_pipeline.dataset.scalers import robust

ROBUST = ScalerSection.model_validate("robust")
QUARTERS = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))


def sample(rows, columns, seed=0):
    values = np.random.default_rng(seed).standard_t(2, (rows, columns))
    values[np.random.default_rng(seed + 1).random((rows, columns)) < 0.1] = np.nan
    return values


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 100, 1009])
def test_quantiles_are_numpys(rows):
    values = sample(rows, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        wanted = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
    found = quantiles(torch.from_numpy(values), QUARTERS)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-14, atol=0)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), st.randoms())
def test_median_does_not_depend_on_the_order_of_rows(values, random):
    mixed = random.sample(values, len(values))
    one, other = (quantiles(torch.tensor(rows, dtype=torch.float64)[:, None], QUARTERS) for rows in (values, mixed))
    assert one.numpy().tobytes() == other.numpy().tobytes()


def test_infinities_are_left_out():
    column = torch.tensor([[math.inf], [1.0], [2.0], [-math.inf], [math.nan], [9.0]], dtype=torch.float64)
    assert quantiles(column, (Fraction(1, 2),)).tolist() == [[2.0]]


def test_robust_is_scikit_learns_with_unit_variance():
    values = sample(500, 5)
    center, scale = robust.fit(torch.from_numpy(values), robust.Config())
    wanted = RobustScaler(unit_variance=True).fit(values)
    np.testing.assert_allclose(center.numpy(), wanted.center_, rtol=1e-13)
    np.testing.assert_allclose(scale.numpy(), wanted.scale_, rtol=1e-13)


def test_normal_data_get_unit_variance():
    values = torch.from_numpy(np.random.default_rng(3).standard_normal((200_000, 1)) * 4 + 10)
    made = model_input(values, fit(("a",), values, ROBUST))
    assert abs(float(made.std()) - 1) < 0.01 and abs(float(made.mean())) < 0.01


def test_imputation_and_zero_spread_by_hand():
    nan = math.nan
    training = torch.tensor([[1.0, 5.0, nan], [2.0, 5.0, nan], [3.0, 5.0, nan], [nan, 5.0, nan]], dtype=torch.float64)
    fitted = fit(("a", "flat", "never"), training, ROBUST)
    assert fitted.imputed == ("never",) and fitted.zero_spread == ("flat",)
    assert fitted.fill.tolist() == [2.0, 5.0, 0.0] and fitted.center.tolist() == [2.0, 5.0, 0.0]
    assert fitted.scale.tolist() == [1 / robust.NORMAL_IQR, 1.0, 1.0]
    made = model_input(
        torch.tensor([[nan, nan, nan], [4.0, 7.0, 0.5], [math.inf, 4.0, 1.0]], dtype=torch.float64), fitted
    )
    assert made.dtype == torch.float32
    assert made.tolist() == [[0, 0, 0], [np.float32(2 * robust.NORMAL_IQR), 2.0, 0.5], [0, -1.0, 1.0]]


def test_one_row_at_a_time_gives_the_same_bits():
    values = torch.from_numpy(sample(257, 13))
    fitted = fit(tuple("abcdefghijklm"), values[:100], ROBUST)
    whole = model_input(values, fitted)
    rows = torch.stack([model_input(row, fitted) for row in values])
    assert whole.numpy().tobytes() == rows.numpy().tobytes()
    plain = np.where(np.isfinite(values.numpy()), values.numpy(), fitted.fill.numpy())
    wanted = ((plain - fitted.center.numpy()) / fitted.scale.numpy()).astype(np.float32)
    assert whole.numpy().tobytes() == wanted.tobytes()


def test_json_keeps_every_bit():
    fitted = fit(tuple("abcde"), torch.from_numpy(sample(333, 5)), ROBUST)
    again = Fitted.from_json(json.loads(json.dumps(fitted.to_json())), torch.device("cpu"))
    for name in ("fill", "center", "scale"):
        assert getattr(fitted, name).numpy().tobytes() == getattr(again, name).numpy().tobytes()
    assert (again.columns, again.imputed, again.zero_spread) == (fitted.columns, fitted.imputed, fitted.zero_spread)


def test_errors_name_column_and_way_out():
    fitted = fit(("a", "b"), torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64), ROBUST)
    with pytest.raises(InputError, match=r"3 columns, but 2 were fitted; use the same features"):
        model_input(torch.zeros(1, 3, dtype=torch.float64), fitted)
    with pytest.raises(InputError, match=r"column 'b' leaves the range of float32 after scaling; drop it"):
        model_input(torch.tensor([[0.0, 1e300]], dtype=torch.float64), fitted)
    with pytest.raises(InputError, match=r"no training rows to fit on"):
        fit(("a",), torch.empty(0, 1, dtype=torch.float64), ROBUST)
