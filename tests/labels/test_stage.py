"""The labels stage: exact round trip, metadata, counts, errors."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import digest_file, write_table
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.labels import _stage
from gpu_pipeline.labels._make import make_labels
from tests.labels.market import SYMBOL, random_bars

CPU = torch.device("cpu")
LABELS = {
    "target_tp2.0_sl1.0": {"name": "triple_barrier", "horizon_bars": 20, "classes": "codes"},
    "fair": {"name": "null_symmetric"},
}


def stage(folder, labels=LABELS):
    values = {
        "name": "t",
        "symbols": ["BTCUSDT"],
        "ingest": {"trades": {"source": "tests.bars.source"}},
        "bars": {"type": "dollar", "threshold": 5},
        "labels": labels,
    }

    def bars(symbol, resolution):
        assert resolution == "short"
        return random_bars(3, 300)

    return _stage.write(folder, check_config(values), {"BTCUSDT": SYMBOL}, bars, CPU, Trace())


def test_what_is_loaded_is_what_was_made(tmp_path):
    said = stage(tmp_path)
    for name, section in LABELS.items():
        options = {key: value for key, value in section.items() if key != "name"}
        made = make_labels(random_bars(3, 300), section["name"], label=name, **options)
        loaded = _stage.load(tmp_path, SYMBOL, name, CPU)
        for column in ("code", "valid", "t_end", "label_return", "weight", "known_row"):
            left, right = getattr(loaded, column), getattr(made, column)
            assert left.dtype == right.dtype
            assert left.numpy().tobytes() == right.numpy().tobytes(), column
        for field in ("symbol", "name", "codes", "classes", "class_names"):
            assert getattr(loaded, field) == getattr(made, field)
        counts = said["labels"][name]["BTCUSDT"]
        assert counts["labelled"] == sum(counts["codes"].values()) == int(made.valid.sum())
        assert counts["bars"] == said["rows_in"] == 300


def test_people_see_times_and_nulls(tmp_path):
    stage(tmp_path)
    table = pq.read_table(tmp_path / "target_tp2.0_sl1.0/BTCUSDT.parquet")
    assert table.column_names == ["timestamp", "code", "valid", "t_end", "return", "weight", "known_row"]
    assert str(table.schema.field("t_end").type) == "timestamp[ns, tz=UTC]"
    assert table["t_end"].null_count == table["valid"].to_pylist().count(False) > 0
    shown = _stage.load(tmp_path, SYMBOL, "target_tp2.0_sl1.0", CPU).to_pandas()
    assert (shown["t_end"].isna() == ~shown["valid"]).all()


def test_equal_content_gives_equal_bytes(tmp_path):
    stage(tmp_path / "a")
    stage(tmp_path / "b")
    for name in LABELS:
        assert digest_file(tmp_path / "a" / name / "BTCUSDT.parquet") == digest_file(
            tmp_path / "b" / name / "BTCUSDT.parquet"
        )


def test_errors_name_the_way_out(tmp_path):
    with pytest.raises(InputError, match="a name is made of letters, digits"):
        stage(tmp_path, {"../up": {"name": "null_symmetric"}})
    stage(tmp_path)
    with pytest.raises(InputError, match=r"no label 'fare'; there are fair, target_tp2.0_sl1.0; did you mean 'fair'\?"):
        _stage.load(tmp_path, SYMBOL, "fare", CPU)
    (tmp_path / "fair" / "BTCUSDT.parquet").unlink()
    with pytest.raises(InputError, match=r"BTCUSDT.parquet: cannot be read as Parquet"):
        _stage.load(tmp_path, SYMBOL, "fair", CPU)
    foreign = write_table(tmp_path / "foreign.parquet", random_bars(0, 5).to_arrow())
    with pytest.raises(InputError, match="its metadata names no codes; give a file that the labels stage wrote"):
        _stage.load_labels(foreign, CPU)
