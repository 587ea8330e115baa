"""The stage through the store: what is written, that it reads back, equal bytes, targets, classes, errors."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline.core.config import plain
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import verify, write_table
from gpu_pipeline.dataset.data import load_dataset
from gpu_pipeline.dataset.model_input import Fitted, model_input
from gpu_pipeline.dataset.streams import feature_rows
from tests.dataset.market import CPU, config, labels, market, write


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return write(tmp_path_factory.mktemp("store"), market(("AAA", "BBB")), config("webdataset"))


def test_written_and_read_back(output):
    assert verify(output) == []
    dataset = load_dataset(output.path, CPU)
    assert dataset.symbol_names == ("AAA", "BBB") and dataset.class_names == ("down", "up")
    assert list(dataset.streams) == ["bars", "book"] and dataset.streams["bars"].values.dtype == torch.float32
    assert {part: len(positions) for part, positions in dataset.parts.items()} == {
        part: values["samples"] for part, values in output.manifest["parts"].items()
    }
    counted = sum(output.manifest["dropped"].values()) + output.manifest["eligible"]
    assert counted == output.manifest["rows_in"] == 817 and len(dataset) == output.manifest["rows"]
    in_parts = sum(map(len, dataset.parts.values())) + sum(output.manifest["purged"].values())
    assert in_parts == len(dataset)


def test_stream_values_are_the_model_input_of_the_saved_scaler(output):
    stored = json.loads((output.path / "scaler.json").read_text())["bars"]
    source = market(("AAA", "BBB"))
    rows = feature_rows("bars", config().dataset.streams["bars"], list(source.features.values()))
    wanted = model_input(rows.values, Fitted.from_json(stored, CPU))
    assert torch.equal(load_dataset(output.path, CPU).streams["bars"].values, wanted)
    assert output.manifest["streams"]["bars"]["imputed_columns"] == ["never_db_l"]
    assert output.manifest["streams"]["bars"]["zero_spread_columns"] == ["flat_db_l"]
    assert output.manifest["streams"]["bars"]["dropped_levels"] == ["sma_db_s"]


def test_samples_know_the_row_that_decides_them_although_rows_share_their_time(output):
    dataset, source = load_dataset(output.path, CPU), market(("AAA", "BBB"))
    start = 0
    for number, (name, features) in enumerate(source.features.items()):
        own = dataset.symbol_id == number
        label = source.labels["up"][name]
        rows = dataset.row[own] - start
        assert torch.equal(dataset.end_row[own] - start, label.known_row[rows])
        assert torch.equal(dataset.t_end_ns[own], features.time_ns[label.known_row[rows]])
        assert (features.time_ns.diff() == 0).any()
        start += len(features)


def test_the_sample_table_is_for_people_too(output):
    table = pq.read_table(output.path / "samples.parquet").to_pandas()
    assert set(table["part"]) == {"train", "validation", "test", "none"}
    assert set(table["symbol"]) == {"AAA", "BBB"}
    assert str(table["decision_timestamp"].dtype) == "datetime64[ns, UTC]"
    assert (table["t_end/up"] >= table["decision_timestamp"]).all()
    assert table["decision_timestamp"].is_monotonic_increasing
    assert (table.loc[table["part"] == "none", "uniqueness"] == 0).all()


def test_the_same_inputs_give_the_same_bytes(output, tmp_path):
    again = write(tmp_path, market(("AAA", "BBB")), config("webdataset"))
    assert again.manifest["files"] == output.manifest["files"]
    assert any(name.startswith("shards/train-") for name in output.manifest["files"])


def test_shards_are_plain_archives_of_npy_and_json(output):
    with tarfile.open(output.path / "shards" / "train-000000.tar") as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [
        f"train-000000.{name}"
        for name in ("segment.json", "sample.npy", "target.npy", "weight.npy", "last0.npy", "rows0.npy", "last1.npy")
    ] + ["train-000000.rows1.npy"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_shards_hold_rows_once_and_not_once_per_window(output):
    sizes = output.manifest["shards"]
    assert {part: values["samples"] for part, values in sizes["parts"].items()} == {
        part: values["samples"] for part, values in output.manifest["parts"].items()
    }
    dataset = load_dataset(output.path, CPU)
    windows = len(dataset.parts["train"]) * sum(
        stream.window * len(stream.columns) * 4 for stream in dataset.streams.values()
    )
    files = output.manifest["files"]
    rows = 0
    for name in files:
        if name.startswith("shards/train-"):
            with tarfile.open(output.path / name) as archive:
                for s in (0, 1):
                    rows += archive.getmember(f"{Path(name).stem}.rows{s}.npy").size - 128
    assert rows < windows / 2


def test_no_shards_without_a_loader_of_shards(tmp_path):
    output = write(tmp_path, market(), config("device"))
    assert output.manifest["shards"] is None and not (output.path / "shards").exists()


def test_streams_that_are_not_resident_stay_in_the_file(output):
    lazy, resident = load_dataset(output.path, CPU), load_dataset(output.path, CPU, resident=True)
    for name, stream in lazy.streams.items():
        assert torch.equal(stream.values, resident.streams[name].values)


def test_several_targets_and_the_purge_by_the_latest_end(tmp_path):
    source = market()
    longer = labels(source.features["AAA"], "slow", horizon=30)
    source.labels["slow"] = {"AAA": longer}
    output = write(tmp_path, source, config(target=["up", "slow"]))
    dataset = load_dataset(output.path, CPU)
    assert list(dataset.targets) == ["up", "slow"] and dataset.targets["up"].target is dataset.target
    slow = dataset.targets["slow"]
    assert (slow.target < 0).any() and (slow.t_end_ns[slow.target < 0] == -1).all()
    for earlier, later in (("train", "validation"), ("validation", "test")):
        first = dataset.decision_ns[dataset.parts[later][0]]
        assert torch.maximum(dataset.t_end_ns, slow.t_end_ns)[dataset.parts[earlier]].max() < first
    assert output.manifest["purged"]["train"] > 10


def test_streams_keep_the_order_of_the_run_file(tmp_path):
    streams = {"z": {"from": "features", "window": 8}, "a": {"from": "book", "window": 4}}
    dataset = load_dataset(write(tmp_path, market(), config(streams=streams)).path, CPU)
    assert list(dataset.streams) == ["z", "a"] and len(dataset.streams["z"].columns) == 5


def test_a_class_absent_from_training_leaves_the_head_and_is_named(tmp_path):
    source = market()
    label = source.labels["up"]["AAA"]
    code = label.code.clone()
    code[-20:-10] = 0
    source.labels["up"]["AAA"] = replace(
        label, code=code, classes={-1: 0, 0: 1, 1: 2}, class_names=("down", "timeout", "up")
    )
    dataset = load_dataset(write(tmp_path, source, config()).path, CPU)
    assert dataset.class_names == ("down", "up") and dataset.manifest["absent_classes"] == {"up": ["timeout"]}
    assert dataset.manifest["dropped_with_absent_class"] == {"train": 0, "validation": 0, "test": 10}
    chosen = torch.cat(list(dataset.parts.values()))
    assert torch.equal(dataset.target[chosen], (dataset.code[chosen] == 1).to(torch.int64))
    assert (dataset.target[dataset.code == 0] == -1).all()


def test_one_class_in_training_is_an_error(tmp_path):
    source = market()
    label = source.labels["up"]["AAA"]
    source.labels["up"]["AAA"] = replace(label, code=label.code.abs())
    with pytest.raises(InputError, match=r"training part of 'up' holds one class only \(value \('up',\), .* samples\)"):
        write(tmp_path, source, config())
    assert not list(tmp_path.glob("dataset/*"))


def test_listed_levels_enter(tmp_path):
    output = write(tmp_path, market(), config(include=["all"]))
    assert "sma_db_s" in output.manifest["streams"]["bars"]["columns"]


def test_missing_and_damaged_datasets_are_one_line_each(tmp_path):
    with pytest.raises(InputError, match=r"no finished output of stage 'dataset' here; run it first"):
        load_dataset(tmp_path, CPU)
    output = write(tmp_path, market(), config())
    stream = output.path / "streams" / "bars.safetensors"
    whole = stream.read_bytes()
    for content in (whole[:-100], b"", b"{" * 64):
        stream.write_bytes(content)
        with pytest.raises(InputError, match=r"bars.safetensors: has .* bytes, and the manifest says .* run the stage"):
            load_dataset(output.path, CPU)
    stream.write_bytes(b"{" * len(whole))
    with pytest.raises(InputError, match=r"bars.safetensors: cannot be read: .*delete the folder and rerun"):
        load_dataset(output.path, CPU)
    stream.write_bytes(whole)
    manifest = json.loads((output.path / "manifest.json").read_text())
    samples = output.path / "samples.parquet"
    table = pq.read_table(samples)
    _write_listed(samples, table.drop_columns(["row/book"]), manifest)
    with pytest.raises(InputError, match=r"samples.parquet: lacks the column 'row/book'"):
        load_dataset(output.path, CPU)
    _write_listed(samples, table.set_column(0, "symbol", [["XXX"] * len(table)]), manifest)
    with pytest.raises(InputError, match=r"column 'symbol' holds a value that is none of AAA"):
        load_dataset(output.path, CPU)


def _write_listed(path, table, manifest):
    """Writes a file and its new size into the manifest: only what the file holds is wrong then."""
    write_table(path, table)
    manifest["files"][path.name]["bytes"] = path.stat().st_size
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


def test_everything_in_the_manifest_is_plain(output):
    assert json.loads(json.dumps(output.manifest)) == output.manifest
    assert plain(output.manifest)["targets"]["up"]["codes"] == {"-1": "down", "0": "timeout", "1": "up"}
    assert np.isfinite([values["effective"] for values in output.manifest["parts"].values()]).all()
