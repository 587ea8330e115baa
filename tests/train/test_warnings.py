"""Each warning appears when it should, and only then."""

from __future__ import annotations

import pytest

from train._warnings import warnings


def metrics(difference: dict | None = None, effective: float = 5000, metric: str = "log_loss", **changes) -> dict:
    compared = {"value": -0.02, "low": -0.03, "high": -0.01} if difference is None else difference
    facts = {"samples": 9000, "effective_samples": effective}
    model = {"kind": "model", "parts": {"test": {"against": {"majority": {metric: compared}}}}}
    baseline = {"kind": "baseline", "parts": {"test": {}}}
    return {
        "parts": {"test": facts, "validation": facts},
        "predictors": {"net": model, "majority": baseline},
        **changes,
    }


def dataset(**changes) -> dict:
    stream = {"imputed_columns": [], "zero_spread_columns": []}
    clean = {"streams": {"bars": stream}, "absent_classes": {"up": []}, "dropped_with_absent_class": {"test": 0}}
    return {**clean, **changes}


def told(judged=None, data=None, ingest=None, moves=None, fees=None) -> list[str]:
    return warnings(
        metrics() if judged is None else judged, data or dataset(), ingest or {"symbols": {}}, moves or {}, fees or {}
    )


def test_nothing_is_said_where_nothing_is_wrong():
    assert told(moves={"BTC": 0.0011}, fees={"BTC": 5.0}) == []


def test_nothing_is_said_of_models_where_there_are_none():
    assert told(judged={}) == []


def test_few_effective_samples_are_told_for_each_part_in_order():
    said = told(metrics(effective=300.4))
    assert [line.split(" part has")[0].rsplit(" ", 1)[1] for line in said] == ["validation", "test"]
    assert "9,000 samples" in said[0]
    assert "300 independent ones" in said[0]
    assert "±0.07" in said[0]
    assert told(metrics(effective=1000)) == []


@pytest.mark.parametrize(("move", "warned"), [(0.00099, True), (0.00101, False)])
def test_barriers_are_compared_with_a_round_trip(move, warned):
    said = told(moves={"BTC": move}, fees={"BTC": 5.0})
    assert [line.startswith("Barriers smaller than round-trip costs") for line in said] == [True] * warned


def test_an_unknown_fee_is_told():
    assert told(moves={"BTC": 0.1}, fees={"BTC": None}) == [
        "The fee of BTC is unknown (symbols.BTC.fee_bps): moves and costs were not compared."
    ]
    assert told(moves={"BTC": 1e-9}, fees={"BTC": 0.0}) == []


@pytest.mark.parametrize(
    ("metric", "difference", "beaten"),
    [
        ("log_loss", {"value": -0.02, "low": -0.03, "high": -0.01}, True),
        ("log_loss", {"value": -0.02, "low": -0.05, "high": 0.01}, False),
        ("log_loss", {"value": -0.02, "low": None, "high": None}, True),
        ("log_loss", {"value": 0.02, "low": None, "high": None}, False),
        ("log_loss", {"value": None, "low": None, "high": None}, False),
        ("auc", {"value": 0.02, "low": 0.01, "high": 0.03}, True),
        ("auc", {"value": 0.02, "low": -0.01, "high": 0.05}, False),
    ],
)
def test_a_baseline_counts_as_beaten_by_the_whole_interval(metric, difference, beaten):
    said = told(metrics(difference, metric=metric))
    assert [line.startswith("A baseline is not beaten") for line in said] == [True] * (not beaten)
    if not beaten:
        assert "of 'net' is not better than that of 'majority'" in said[0]
        assert ("interval" in said[0]) == (difference["low"] is not None)


def test_a_model_without_a_baseline_is_told():
    alone = metrics()
    alone["predictors"]["net"]["parts"]["test"]["against"] = {}
    assert [line.startswith("No baseline was asked for") for line in told(alone)] == [True]


def test_absent_classes_are_told_with_what_they_cost():
    data = dataset(
        absent_classes={"up": ["timeout"], "other": []}, dropped_with_absent_class={"test": 3, "validation": 4}
    )
    assert told(data=data) == [
        "Classes of 'up' absent from training have no output: timeout; 7 samples of the validation and test parts "
        "were left out for it."
    ]


def test_imputed_and_constant_columns_are_told_and_cut_short():
    stream = {"imputed_columns": [f"f{n}" for n in range(14)], "zero_spread_columns": ["c"]}
    said = told(data=dataset(streams={"bars": stream}))
    assert said[0].startswith("Columns without a single training value were filled with 0: bars.f0, ")
    assert said[0].endswith("bars.f11 and 2 more.")
    assert said[1].endswith("bars.c.")


def test_what_cleaning_changed_is_told():
    account = {"duplicates": 2, "dropped": {"nan_price": 3}, "id_gaps": {"missing": 5, "gaps": 1}, "times_set_back": 0}
    assert told(ingest={"symbols": {"BTC": account}}) == [
        "2 duplicate trades of BTC were dropped.",
        "3 bad rows of BTC were dropped (on_bad_row: drop).",
        "5 trade ids of BTC are missing from the input.",
    ]
