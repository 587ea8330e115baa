"""The book stage: exact round trip, equal bytes, counts, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpu_pipeline.book import _stage
from gpu_pipeline.book.snapshots import Config, make
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.store import digest_file
from gpu_pipeline.core.trace import Trace
from tests.book.market import SYMBOL, random_book

CPU = torch.device("cpu")
OPTIONS = {"near_levels": 3, "deep_bins": {"count": 2, "levels_each": 2}}


def stage(folder: Path):
    source = {"source": "tests.bars.source"}
    values = {"name": "t", "symbols": ["BTCUSDT"], "ingest": {"trades": source, "book": source}, "book": OPTIONS}
    return _stage.write(
        folder, check_config(values), {"BTCUSDT": SYMBOL}, lambda symbol: iter([random_book(2)]), Trace()
    )


def test_what_is_loaded_is_what_was_made(tmp_path):
    said = stage(tmp_path)
    loaded, made = _stage.load(tmp_path, SYMBOL, CPU), make(random_book(2), Config(**OPTIONS))
    for name in ("depth", "beyond", "time_ns", "known_ns", "age_ns", "valid", "filled"):
        left, right = getattr(loaded, name), getattr(made, name)
        assert left.dtype == right.dtype
        assert left.numpy().tobytes() == right.numpy().tobytes()
    assert loaded.symbol == SYMBOL
    assert (said["rows_in"], said["rows_out"]) == (60, len(made))
    counts = said["symbols"]["BTCUSDT"]
    assert counts["fresh"] + counts["filled"] + counts["missing"] == counts["cells"] == len(made)
    assert counts["span_ns"] == [int(made.time_ns[0]), int(made.time_ns[-1])]


def test_equal_content_gives_equal_bytes(tmp_path):
    stage(tmp_path / "a")
    stage(tmp_path / "b")
    assert digest_file(tmp_path / "a/BTCUSDT.safetensors") == digest_file(tmp_path / "b/BTCUSDT.safetensors")


def test_missing_and_damaged_files_are_one_line(tmp_path):
    with pytest.raises(
        InputError, match=r"BTCUSDT.safetensors: cannot be read as a depth tensor: .*rerun the book stage"
    ):
        _stage.load(tmp_path, SYMBOL, CPU)
    stage(tmp_path)
    path = tmp_path / "BTCUSDT.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read as a depth tensor"):
        _stage.load(tmp_path, SYMBOL, CPU)
