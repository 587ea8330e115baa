"""What every step of a feature selection must keep, files not yet written included."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import SelectSection
from tests.conformance.options import strict_example
from train.selectors._study import Study, Verdict

NAMES = plugins.names("selectors")


def study(columns: int = 6, samples: int = 600, seed: int = 0, jobs: int = 1) -> Study:
    """The first column decides the class; the last copies it; the others are noise."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(samples, columns)).astype(np.float32)
    target = (values[:, 0] + 0.3 * random.normal(size=samples) > 0).astype(np.int64)
    values[:, -1] = values[:, 0]
    times = np.arange(samples, dtype=np.int64) * 10
    sample = np.arange(0, samples, 2)
    names = tuple(f"c{number}" for number in range(columns))
    return Study(names, values, target, times, times + 25, sample, seed=3, jobs=jobs)


def judge(name: str, seen: Study) -> Verdict:
    plugin = plugins.load("selectors", name)
    return plugin.function(seen, strict_example(plugin))


def test_there_are_selectors_and_the_default_runs_them_all() -> None:
    assert {step.name for step in SelectSection().steps} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_speaks_of_the_columns_that_it_saw(name: str) -> None:
    seen = study()
    said = judge(name, seen)
    assert (said.score is not None) == plugins.load("selectors", name).module.RANKS
    for values in [*([] if said.score is None else [said.score]), *said.numbers.values()]:
        assert values.shape == (len(seen.columns),) and values.dtype == np.float64
        assert not np.isnan(values).any()
    assert set(said.dropped) < set(seen.columns) and all(said.dropped.values())
    assert all(isinstance(table, pa.Table) for table in said.tables.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_on_one_thread_and_on_three(name: str) -> None:
    one, three = judge(name, study()), judge(name, study(jobs=3))
    np.testing.assert_array_equal(one.score, three.score)
    assert (one.dropped, one.facts) == (three.dropped, three.facts)
    assert all(one.numbers[key].tobytes() == three.numbers[key].tobytes() for key in one.numbers)
    assert all(one.tables[key].equals(three.tables[key]) for key in one.tables)


@pytest.mark.parametrize("name", [name for name in NAMES if plugins.load("selectors", name).module.RANKS])
def test_what_decides_the_class_ranks_above_noise(name: str) -> None:
    score = judge(name, study().among(["c0", "c1", "c2", "c3", "c4"])).score
    assert score[0] > score[1:].max()


@pytest.mark.parametrize("name", NAMES)
def test_one_column_is_enough(name: str) -> None:
    said = judge(name, study().among(["c0"]))
    assert not said.dropped
