"""Steps of a feature selection beside their definitions: regressions, pandas, scikit-learn, a written-out purge."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import mutual_info_classif

from gpu_pipeline.core.errors import InputError
from train.selectors import correlation, gradient_boosting, mutual_information, pca, random_forest, rfe, vif
from train.selectors._relation import correlations
from train.selectors._study import Study


def study(values: np.ndarray, target: np.ndarray | None = None, life: int = 25, **given) -> Study:
    times = np.arange(len(values), dtype=np.int64) * 10
    target = np.arange(len(values)) % 2 if target is None else target
    names = tuple(f"c{number}" for number in range(values.shape[1]))
    given = {"sample": np.arange(len(values)), **given}
    return Study(names, values.astype(np.float32), target.astype(np.int64), times, times + life, **given)


def mixed(samples: int = 400, columns: int = 8, seed: int = 0) -> np.ndarray:
    """Correlated columns with ties."""
    random = np.random.default_rng(seed)
    made = random.normal(size=(samples, columns)) @ random.normal(size=(columns, columns))
    made[:, 0] = made[:, 0].round()
    return made.astype(np.float32)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_correlations_are_those_of_pandas(method):
    values = mixed()
    expected = pd.DataFrame(values.astype(np.float64)).corr(method=method).to_numpy()
    np.testing.assert_allclose(correlations(study(values), method), expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), limit=st.floats(0.1, 0.9))
def test_what_stays_differs_and_what_goes_follows_a_better_one(seed, limit):
    values = mixed(60, 12, seed)
    strength = np.abs(np.corrcoef(values.T.astype(np.float64)))
    order = np.random.default_rng(seed).permutation(12)
    head = correlation.clusters(strength, order, limit)
    stayed = [place for place in range(12) if head[place] == place]
    assert all(strength[a, b] <= limit for a in stayed for b in stayed if a != b)
    taken = {int(place): number for number, place in enumerate(order)}
    for place in set(range(12)) - set(stayed):
        assert head[place] in stayed
        assert strength[place, head[place]] > limit and taken[head[place]] < taken[place]


def test_of_two_copies_the_more_informative_stays():
    random = np.random.default_rng(1)
    clean = random.normal(size=500)
    target = clean > 0
    values = np.stack([clean + 0.2 * random.normal(size=500), random.normal(size=500), clean], axis=1)
    seen = study(values, target)
    assert list(correlation.judge(seen, correlation.Config(limit=0.9)).dropped) == ["c0"]
    first = correlation.judge(seen, correlation.Config(limit=0.9, keep="first"))
    assert list(first.dropped) == ["c2"]
    table = first.tables["correlation_clusters"].to_pylist()
    expected = pd.Series(values[:, 0]).corr(pd.Series(values[:, 2]), method="spearman")
    assert table == [{"kept": "c0", "pruned": "c2", "correlation": pytest.approx(expected, abs=1e-9)}]


def r_squared(values: np.ndarray, place: int) -> float:
    y, x = values[:, place], np.delete(values, place, axis=1)
    design = np.column_stack([np.ones(len(x)), x])
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return 1 - rest.var() / y.var()


def test_factors_are_those_of_regressions():
    values = mixed().astype(np.float64)
    expected = [1 / (1 - r_squared(values, place)) for place in range(8)]
    np.testing.assert_allclose(vif.judge(study(values), vif.Config()).numbers["vif"], expected, rtol=1e-6)


def test_the_largest_factor_goes_until_none_exceeds_the_limit():
    values, left, gone = mixed(seed=3).astype(np.float64), list(range(8)), []
    while True:
        factors = [1 / (1 - r_squared(values[:, left], place)) for place in range(len(left))]
        if max(factors) <= 5:
            break
        gone.append(f"c{left.pop(int(np.argmax(factors)))}")
    assert gone
    assert list(vif.judge(study(values), vif.Config(limit=5)).dropped) == gone


def test_exact_combinations_go_by_name():
    random = np.random.default_rng(5)
    values = random.integers(-50, 50, (300, 6)).astype(np.float64)
    values[:, 3] = values[:, 0] - 2 * values[:, 1]
    values[:, 5] = values[:, 3] + values[:, 4]
    said = vif.judge(study(values), vif.Config())
    assert list(said.dropped) == ["c3", "c5"] and "exact linear combination" in said.dropped["c3"]
    assert np.isinf(said.numbers["vif"][[3, 5]]).all() and np.isfinite(said.numbers["vif"][[0, 1, 2, 4]]).all()


def test_mutual_information_is_scikit_learns():
    values = mixed()[:, 1:]
    target = (values[:, 0] > 0).astype(np.int64)
    expected = mutual_info_classif(values[::2], target[::2], random_state=1)
    said = mutual_information.judge(study(values, target, sample=np.arange(0, 400, 2)), mutual_information.Config())
    np.testing.assert_allclose(said.score, expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_earlier_half_ends_before_the_later_one_begins(data):
    count = data.draw(st.integers(20, 60))
    times = np.sort(data.draw(st.lists(st.integers(0, 30), min_size=count, max_size=count)))
    lives = np.array(data.draw(st.lists(st.integers(1, 6), min_size=count, max_size=count)))
    later = data.draw(st.sampled_from([0.1, 0.25, 0.5]))
    seen = study(np.zeros((count, 1)))
    seen = Study(("c0",), seen.values, seen.target, times, times + lives, np.arange(count))
    try:
        before, after = seen.halves(later)
    except InputError:
        return
    first = times[after[0]]
    assert after.tolist() == [place for place in range(count) if times[place] >= first]
    assert before.tolist() == [
        place for place in range(count) if times[place] < first and times[place] + lives[place] < first
    ]
    assert times[int(count * (1 - later))] == first


def test_too_little_to_fit_on_is_said():
    with pytest.raises(InputError, match="0 training samples end before the last 25% of them begin, of 0 classes"):
        study(np.zeros((40, 1)), life=10**6).halves(0.25)


def informative(samples: int = 800) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    values = random.normal(size=(samples, 5))
    return values, (values[:, 3] + 0.5 * random.normal(size=samples) > 0).astype(np.int64)


@pytest.mark.parametrize(
    ("module", "config"),
    [
        (random_forest, random_forest.Config(trees=20)),
        (gradient_boosting, gradient_boosting.Config(iterations=20)),
        (rfe, rfe.Config()),
    ],
)
def test_noise_is_worth_next_to_nothing(module, config):
    values, target = informative()
    score = module.judge(study(values, target), config).score
    assert score.argmax() == 3
    if module is not rfe:
        assert score[3] > 0.1 and np.abs(np.delete(score, 3)).max() < 0.03


def test_a_column_that_helps_only_early_is_worth_nothing_later():
    """Importance is measured on the later slice: what held in the earlier one alone does not count."""
    values, target = informative()
    values[600:, 3] = np.random.default_rng(9).normal(size=200)
    config = random_forest.Config(trees=20, least_leaf=5)
    said = random_forest.judge(study(values, target), config)
    assert said.score[3] < 0
    assert said.numbers["random_forest_impurity"].argmax() == 3


def test_impurity_is_asked_for():
    values, target = informative()
    said = random_forest.judge(study(values, target), random_forest.Config(trees=20, importance="impurity"))
    np.testing.assert_array_equal(said.score, said.numbers["random_forest_impurity"])
    assert said.score.sum() == pytest.approx(1)
    other = random_forest.judge(study(values, target, seed=1), random_forest.Config(trees=20, importance="impurity"))
    assert (other.score != said.score).all()


def test_on_cuda_the_forest_is_cumls_where_it_is_installed(monkeypatch, caplog):
    """A stand-in with cuML's name and keywords: which class is called, not what a GPU would make of it."""
    asked = {}

    class Forest(RandomForestClassifier):
        def __init__(self, *, n_streams=4, **given):
            asked.update(given, n_streams=n_streams)
            super().__init__(**given)
            self.n_streams = n_streams

        def get_params(self, deep=True):
            return {**asked}

    values, target = informative(300)
    seen = study(values, target, device="cuda")
    with caplog.at_level("INFO", "gpu_pipeline"):
        random_forest.judge(seen, random_forest.Config(trees=5))
    assert "cuML is not installed" in caplog.text
    package, ensemble = ModuleType("cuml"), ModuleType("cuml.ensemble")
    package.__spec__ = sys.__spec__
    ensemble.RandomForestClassifier = Forest
    monkeypatch.setitem(sys.modules, "cuml", package)
    monkeypatch.setitem(sys.modules, "cuml.ensemble", ensemble)
    said = random_forest.judge(seen, random_forest.Config(trees=5))
    assert said.facts["library"] == "cuml" and asked["n_streams"] == 1 and asked["n_estimators"] == 5


def test_components_are_eigenvalues_of_the_correlation_matrix():
    values = mixed().astype(np.float64)
    expected = np.linalg.eigvalsh(np.corrcoef(values.T))[::-1] / 8
    said = pca.judge(study(values), pca.Config(loadings=2))
    table = said.tables["pca"].to_pydict()
    np.testing.assert_allclose(table["explained"], expected, atol=1e-9)
    enough = int((np.cumsum(expected) < 0.9).sum()) + 1
    assert said.facts["components_for_90%"] == enough
    assert all(len(names.split(", ")) == 2 for names in table["largest"])
