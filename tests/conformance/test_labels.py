"""What every label must keep, files not yet written included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.core import plugins
from tests.conformance.options import example, strict_example
from tests.labels.market import random_bars

NAMES = plugins.names("labels")
COLUMNS = {
    "code": torch.int64,
    "valid": torch.bool,
    "t_end": torch.int64,
    "label_return": torch.float64,
    "weight": torch.float64,
    "known_row": torch.int64,
}


def test_there_are_labels():
    assert {"triple_barrier", "null_symmetric"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_config_is_strict_frozen_and_documented(name):
    plugin = plugins.load("labels", name)
    config = strict_example(plugin)
    assert plugin.config.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("classes", ["binary", "codes"])
@pytest.mark.parametrize("name", NAMES)
def test_tables_hold_together(name, classes):
    plugin, bars = plugins.load("labels", name), random_bars(1, 600)
    labels = plugin.module.make(bars, example(plugin.config), classes)
    for column, dtype in COLUMNS.items():
        assert (getattr(labels, column).dtype, len(getattr(labels, column))) == (dtype, 600)
    valid = labels.valid
    assert bool(valid.any())
    assert set(labels.code[valid].tolist()) <= set(labels.codes)
    assert set(labels.classes) == set(labels.codes)
    assert set(labels.classes.values()) == set(range(len(labels.class_names)))
    assert len(labels.class_names) == (2 if classes == "binary" else len(labels.codes))
    assert labels.t_end[valid].equal(bars.close_timestamp[labels.known_row[valid]])
    assert bool((labels.known_row > torch.arange(600))[valid].all())
    assert labels.label_return[valid].isfinite().all()
    assert labels.label_return[~valid].isnan().all()
    assert set(labels.t_end[~valid].tolist()) | set(labels.known_row[~valid].tolist()) == {-1}
    assert not bool(labels.code[~valid].any())
    assert bool((labels.weight >= 0).all())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100), stop=st.integers(0, 400))
def test_a_label_depends_on_no_bar_after_the_one_that_decides_it(name, seed, stop):
    plugin, bars = plugins.load("labels", name), random_bars(seed, 400)
    config = example(plugin.config)
    whole = plugin.module.make(bars, config, "codes")
    part = plugin.module.make(bars.select(slice(0, stop)), config, "codes")
    both = part.valid & whole.valid[:stop]
    for column in COLUMNS:
        left, right = getattr(part, column)[both], getattr(whole, column)[:stop][both]
        assert left.numpy().tobytes() == right.numpy().tobytes(), column
    assert bool((part.valid <= whole.valid[:stop]).all()), "what has a label in the part has it in the whole"


@pytest.mark.parametrize("name", NAMES)
def test_censoring_does_not_depend_on_the_outcome(name):
    """Cutting the data removes labels of the last rows only: none that stays is newer than one that goes."""
    plugin, config = plugins.load("labels", name), None
    config = example(plugin.config)
    bars = random_bars(9, 700)
    whole = plugin.module.make(bars, config, "codes").valid[:500]
    part = plugin.module.make(bars.select(slice(0, 500)), config, "codes").valid
    gone = torch.nonzero(whole & ~part)[:, 0]
    kept = torch.nonzero(part)[:, 0]
    assert len(gone) > 0
    assert int(kept.max()) < int(gone.min())
