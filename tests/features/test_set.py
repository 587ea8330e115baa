"""Feature sets: what can be written, and every mistake at once."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.features import _feature
from gpu_pipeline.features._make import make_features
from gpu_pipeline.features._set import read_include, read_set
from gpu_pipeline.features.expression import Columns, Expression
from tests.features.factory import plain_bars


def mistake(values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read_set(values)  # type: ignore[arg-type]
    return str(caught.value)


def test_windows_and_resolutions() -> None:
    choices = read_set(
        {"sma": [{"windows": [5, [20]], "on": "short"}, {"windows": [3], "on": ["1m", "long"]}], "hour": None}
    )
    assert [choice.parameters.model_dump() for choice in choices] == [{"window": 5}, {"window": 20}, {"window": 3}, {}]
    assert [choice.on for choice in choices] == [("short",), ("short",), ("1min", "long"), None]


def test_a_file_and_its_mapping_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "set.yaml"
    path.write_text("sma: {windows: [20, 50]}\nrsi: {windows: [14]}\n")
    assert read_set(path) == read_set(str(path)) == read_set({"sma": {"windows": [20, 50]}, "rsi": {"windows": [14]}})


def test_all_mistakes_are_reported_at_once() -> None:
    text = mistake({"smaa": {}, "ema": {"window": [5]}, "rsi": {"windows": [1]}, "hour": {"windows": [3]}, "sma": 20})
    assert text.splitlines() == [
        "feature set: smaa: no feature 'smaa'; did you mean 'sma'?",
        "feature set: ema.window: unknown key; allowed: windows, on (value [5]); did you mean 'windows'?",
        "feature set: rsi.windows: window: Input should be greater than or equal to 2 (parameters: window) (value 1)",
        "feature set: hour.windows: takes no parameters; leave windows out (value 3)",
        "feature set: sma: must be a mapping such as {windows: [14]} (value 20)",
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"windows": 14}, "must be a list of parameter sets"),
        ({"windows": []}, "must be a list of parameter sets"),
        ({"windows": ["14"]}, "window: Input should be a valid integer"),
        ({"windows": [True]}, "window: Input should be a valid integer"),
        ({"windows": [[12, 26]]}, r"takes 1 parameters (window) (value [12, 26])"),
        ({}, "window: Field required"),
        ({"windows": [5], "on": []}, "must be a resolution or a list of them"),
    ],
)
def test_wrong_entries(entry: object, message: str) -> None:
    assert message in mistake({"sma": entry})


def test_a_set_that_is_no_mapping(tmp_path: Path) -> None:
    path = tmp_path / "set.yaml"
    path.write_text("- sma\n")
    with pytest.raises(InputError, match=r"set.yaml: must map features to their windows"):
        read_set(path)
    with pytest.raises(InputError, match=r"nowhere.yaml: no such file"):
        read_set(tmp_path / "nowhere.yaml")


def test_include_lists(tmp_path: Path) -> None:
    path = tmp_path / "top.txt"
    path.write_text("# chosen\nsma_20_db_s\n\n rsi_14_db_s  # second\n")
    assert read_include(path) == read_include(["sma_20_db_s", "rsi_14_db_s"]) == ("sma_20_db_s", "rsi_14_db_s")
    assert read_include(None) is None
    with pytest.raises(InputError, match="names no column"):
        read_include([])
    with pytest.raises(InputError, match="cannot be read as a list of columns"):
        read_include(tmp_path / "gone.txt")


class Bands(Options):
    window: int
    deviations: float


def band(bars: Columns, window: int, deviations: float) -> dict[str, Expression]:
    """A band above the mean."""
    return {"band_upper": bars.close.rolling(window, "mean") + deviations * bars.close.rolling(window, "std")}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("my_own_features")
    module.FEATURES = (_feature.Feature("band", band, Bands, levels=("band_upper",)),)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_own_features", module)
    return module


def test_a_dotted_path_reaches_an_outside_module(outside: types.ModuleType) -> None:
    features = make_features(plain_bars([1.0, 3.0]), {"my_own_features.band": {"windows": [[2, 2.0], [2, 0.5]]}})
    assert features.names == ("band_upper_2_2", "band_upper_2_0.5") == features.levels
    assert features.values[1].tolist() == [4.0, 2.5]
    assert "no feature 'my_own_features.bnd'; did you mean 'band'?" in mistake({"my_own_features.bnd": {}})
    assert "cannot import 'not_there'" in mistake({"not_there.band": {}})
    assert "module 'math' declares no FEATURES" in mistake({"math.band": {}})


def test_names_are_unique_over_all_modules(outside: types.ModuleType) -> None:
    with pytest.raises(InputError, match=r"feature 'band' is declared by .* and again by my_own_features; rename one"):
        _feature.collect([outside, outside])


def test_two_features_that_make_one_column(outside: types.ModuleType) -> None:
    twin = _feature.Feature("twin", lambda bars: {"body_ratio": bars.close})
    outside.FEATURES += (twin,)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="'twin' makes the column 'body_ratio', which another"):
        make_features(plain_bars([1.0]), {"body_ratio": {}, "my_own_features.twin": {}})
