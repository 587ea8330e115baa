"""What every scaler must keep, files not yet written included."""

from __future__ import annotations

import math

import pytest
import torch

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import ScalerSection
from gpu_pipeline.dataset.model_input import fit, model_input
from tests.conformance.options import example

NAMES = plugins.names("scalers")


def rows(count=200, seed=0):
    values = torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 + 5
    values[::7, 1] = math.nan
    values[:, 2] = 4.0
    values[:, 3] = math.nan
    return values


def test_there_are_scalers():
    assert "robust" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_config_is_documented(name):
    plugin = plugins.load("scalers", name)
    assert plugin.summary and example(plugin.config) is not None


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_no_value_without_data(name):
    plugin = plugins.load("scalers", name)
    center, scale = plugin.function(rows(), example(plugin.config))
    assert center.shape == scale.shape == (4,) and center.dtype == scale.dtype == torch.float64
    assert torch.isfinite(center[:3]).all() and (scale[:2] > 0).all()
    assert scale[2] == 0 and center[3].isnan()


@pytest.mark.parametrize("name", NAMES)
def test_neither_the_order_of_rows_nor_missing_values_matter(name):
    plugin = plugins.load("scalers", name)
    config, values = example(plugin.config), rows()[:, :3]
    mixed = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(1))]
    wider = torch.cat([values, torch.full((50, 3), math.nan, dtype=torch.float64)])
    for one, other in zip(plugin.function(values, config), plugin.function(mixed, config), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    for one, other in zip(plugin.function(values, config), plugin.function(wider, config), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_model_input_is_finite_float32_about_zero(name):
    made = model_input(rows(), fit(("a", "b", "c", "d"), rows(), ScalerSection.model_validate(name)))
    assert made.dtype == torch.float32 and torch.isfinite(made).all()
    assert made[:, :2].abs().median() < 2 and (made[:, 3] == 0).all()
