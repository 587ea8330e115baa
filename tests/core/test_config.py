from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from gpu_pipeline.core.config import check_config, load_config
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.runfile import apply_overrides, read_yaml, write_yaml
from gpu_pipeline.core.units import parse_instant

GOOD: dict[str, Any] = {
    "name": "t",
    "symbols": ["BTCUSDT"],
    "ingest": {"trades": {"source": "simulated"}},
    "bars": {"type": "dollar", "threshold": 50000, "time": ["1m"]},
    "features": {"set": {"sma": {"windows": [20]}}},
    "labels": {"up": {"name": "triple_barrier", "take_profit": 2.0, "stop_loss": 1.0}},
    "dataset": {"target": "up", "streams": {"bars": {"from": "features", "window": 64}}},
    "train": {"models": [{"name": "cnn_lstm", "inputs": ["bars"]}]},
}


def lines_of(values: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_config(values, "run.yaml")
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def test_a_good_file_passes_and_fills_defaults() -> None:
    config = check_config(GOOD)
    assert config.bars is not None and config.bars.time == ["1min"]
    assert config.bars.resolutions["long"].bars == 16
    assert config.train is not None and config.train.models[0].title == "cnn_lstm"


def test_six_mistakes_give_six_lines_each_naming_file_section_key_value_and_way_out() -> None:
    bad = deepcopy(GOOD)
    bad["devise"] = "cpu"
    bad["bars"]["threshhold"] = bad["bars"].pop("threshold")
    bad["bars"]["threshold"] = 50000
    bad["labels"]["up"]["name"] = "tripple_barrier"
    bad["dataset"]["streams"]["bars"]["window"] = 0
    bad["train"]["optimizer"] = {"name": "adam"}
    bad["train"]["epochs"] = "many"
    lines = lines_of(bad)
    assert len(lines) == 6
    assert all(line.startswith("run.yaml: ") for line in lines)
    text = "\n".join(lines)
    assert "devise: unknown key (value 'cpu'); did you mean 'device'?" in text
    assert "bars.threshhold: unknown key (value 50000); did you mean 'threshold'?" in text
    assert "triple_barrier" in text
    assert "dataset.streams.bars.window" in text and "(value 0)" in text
    assert "train.optimizer.name" in text and "did you mean 'adamw'?" in text
    assert "train.epochs" in text and "(value 'many')" in text


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("dataset.target", "down", "dataset.target: no label of this name; there are up (value 'down')"),
        ("train.models", [{"name": "cnn_lstm", "inputs": ["bar"]}], "did you mean 'bars'?"),
        (
            "dataset.streams",
            {"b": {"from": "features", "window": 4}, "k": {"from": "book", "window": 4}},
            "needs the section 'book'",
        ),
        ("dataset.streams", {"k": {"from": "book", "window": 4}}, "one stream must be 'from: features'"),
        ("dataset.streams.bars.assets", "all", "assets needs 'from: book'"),
        ("dataset.streams.k", {"from": "book", "window": 4, "reference": "A"}, "reference needs several assets"),
        ("dataset.streams.k", {"from": "book", "window": 4, "assets": []}, "name at least one symbol"),
        ("dataset.streams.k", {"from": "book", "window": 4, "assets": ["A", "A"]}, "'A' is there twice"),
        (
            "dataset.streams.k",
            {"from": "book", "window": 4, "assets": ["BTCUSDT", "BTCUSD"]},
            "streams.k.assets: no such symbol; there are BTCUSDT (value 'BTCUSD'); did you mean 'BTCUSDT'?",
        ),
        (
            "dataset.streams.k",
            {"from": "book", "window": 4, "assets": "all", "reference": "ETH", "min_assets_required": 2},
            "streams.k.reference: no such asset; there are BTCUSDT (value 'ETH')",
        ),
        (
            "dataset.streams.k",
            {"from": "book", "window": 4, "assets": "all", "min_assets_required": 2},
            "streams.k.min_assets_required: there are only 1 assets (value 2)",
        ),
        ("dataset.streams.k", {"from": "book", "window": 4, "levels": {"min_nonzero": 0}}, "greater than 0"),
        ("bars.resolutions", {"long": {"of": "medium", "bars": 16}}, "is of 'medium', which is not defined before it"),
        ("bars.resolutions", {"medium": {"of": "short"}}, "needs exactly one of 'bars'"),
        ("bars.time", ["5 minutes"], "is not a duration"),
        ("bars.type", "dolar", "did you mean 'dollar'?"),
        ("ingest.trades.start", "yesterday", "Invalid isoformat"),
        ("train.loader", "devise", "no loader 'devise'"),
        ("train.models", [{"name": "cnn_lstm"}, {"name": "cnn_lstm"}], "give one of them a 'label'"),
        ("search", {"keys": {"train.epochs": {"low": 5, "high": 1}}}, "low 5 is above high 1"),
        ("search", {"keys": {"train.epochs": {}}}, "needs 'choices', or 'low' and 'high'"),
        ("search", {"keys": {"a": {"choices": [1]}}, "model": "lstm"}, "no model of this name"),
        ("bars", None, "needs the section 'bars'"),
        ("bars.time", ["0min"], "bars.time.0: a step must be longer than 0, got 0min"),
        ("bars.time", ["1min", "60s"], "time: the step 1min is there twice"),
        ("bars.resolutions", {"short": 10}, "resolution 'short' is the bar type itself"),
        (
            "ingest.trades",
            {"source": "simulated", "start": "2024-12-01", "end": "2024-11-01"},
            "start must be before end (values 2024-12-01 and 2024-11-01)",
        ),
        ("ingest", {"trade": {"source": "simulated"}}, "the stream 'trades', which is not there (value 'trade')"),
        ("train.models", [{"name": "cnn_lstm", "inputs": []}], "train.models.0.inputs: List should have at least 1"),
        ("train.optimizer", {"lr": float("inf")}, "train.optimizer.lr: Input should be a finite number"),
        ("train.processes", 0, "train.processes: Input should be greater than 0; or Input should be 'auto' (value 0)"),
        ("evaluate", {"metrics": ["aucc"]}, "did you mean 'auc'?"),
        ("seed", 1 << 63, "seed: Input should be less than"),
        ("timezone", "Mars/Olympus", "'Mars/Olympus' is no time zone; write an IANA name"),
    ],
)
def test_each_mistake_says_what_and_how(path: str, value: Any, expected: str) -> None:
    bad = deepcopy(GOOD)
    *parents, last = path.split(".")
    node = bad
    for parent in parents:
        node = node[parent]
    node[last] = value
    assert any(expected in line for line in lines_of(bad)), lines_of(bad)


def test_times_without_a_zone_are_in_the_zone_of_the_run() -> None:
    stream = {"source": "simulated", "start": "2024-07-01", "end": "2024-07-02T00:00:00Z"}
    trades = check_config({**GOOD, "timezone": "Europe/Berlin", "ingest": {"trades": stream}}).ingest["trades"]
    assert trades.start is not None and parse_instant(trades.start) == parse_instant("2024-06-30T22:00:00")
    assert trades.end is not None and parse_instant(trades.end) == parse_instant("2024-07-02")


def test_a_date_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("start: 2024-13-01\n")
    with pytest.raises(InputError, match=r"is not valid YAML: month must be in 1\.\.12"):
        read_yaml(file)


def test_scalars_follow_yaml_1_2(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("rate: 1e-3\ncountry: NO\nyes: on\n")
    assert read_yaml(file) == {"rate": 0.001, "country": "NO", "yes": "on"}


def test_duplicate_keys_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: a\nname: b\n")
    with pytest.raises(InputError, match=r"is not valid YAML.*duplicate key"):
        read_yaml(file)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: no such file; check the path"):
        load_config(tmp_path / "none.yaml")


def test_overrides_reach_nested_keys_and_list_items() -> None:
    values = apply_overrides(
        deepcopy(GOOD),
        ["train.epochs=3", "train.models.0.name=transformer", "train.optimizer.lr=1e-4", "labels.up.take_profit=1.5"],
    )
    assert values["train"]["epochs"] == 3
    assert values["train"]["models"][0]["name"] == "transformer"
    assert values["train"]["optimizer"] == {"lr": 0.0001}
    assert values["labels"]["up"]["take_profit"] == 1.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "write key=value"),
        ("train.models.4.name=x", "'4' is no item of a list of 1"),
        ("name.x=1", "'name' is a plain value and has no key 'x'"),
        ("name=[1", "the value is not valid YAML"),
        ("ingest.trades.start=2024-13-01", "the value is not valid YAML: month must be in 1"),
    ],
)
def test_bad_overrides_say_why(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply_overrides(deepcopy(GOOD), [override])


def test_yaml_written_is_yaml_read(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(write_yaml(GOOD))
    assert read_yaml(file) == GOOD
    assert list(read_yaml(file)) == list(GOOD)
