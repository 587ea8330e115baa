"""The stage on bars made by others: monthly files, file borders, and the account of rows and lots."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_pipeline.bars import _from_bars, _stage, _stage_from_bars
from gpu_pipeline.bars._make import make_resolutions
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.errors import InputError, PipelineError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.core.units import month_of, parse_instant
from tests.bars.market import BTC
from tests.bars.test_from_bars import MINUTE, minutes_of

CPU = torch.device("cpu")
OPTIONS = {"step": "15min", "time": ["7hour", "1day"], "resolutions": {"medium": 4}}


def history() -> Bars:
    """Minutes of 35 days over two month borders, with holes."""
    first = parse_instant("2024-01-29T20:00") // MINUTE
    at = first + np.flatnonzero(np.random.default_rng(4).random(35 * 1440) < 0.2)
    return minutes_of(list(zip(at.tolist(), (at * 7919 % 10_007 + 1).tolist(), strict=True)))


def pieces_of(bars: Bars, rows: int) -> list[Bars]:
    """Pieces of at most so many rows, none of them in two months."""
    months = [month_of(time_ns) for time_ns in bars.open_timestamp.tolist()]
    borders = {at for at in range(1, len(bars)) if months[at] != months[at - 1]}
    edges = sorted({*borders, *range(0, len(bars), rows), len(bars)})
    return [bars.select(slice(start, stop)) for start, stop in pairwise(edges)]


def write(folder: Path, pieces: list[Bars], **options):
    section = {"type": "time", **OPTIONS, **options}
    config = check_config({"name": "x", "symbols": ["BTCUSDT"], "ingest": {"bars": source()}, "bars": section})
    return _stage_from_bars.write(folder, config, {"BTCUSDT": BTC}, lambda symbol: pieces, Trace())


def source() -> dict[str, str]:
    return {"source": "ohlcv", "path": "nowhere.parquet"}


def same(found: Bars, expected: Bars) -> None:
    assert len(found) == len(expected)
    for name, column in expected.columns.items():
        assert torch.equal(found.columns[name].nan_to_num(-7), column.nan_to_num(-7)), name


@pytest.mark.parametrize("rows", [701, 100_000])
def test_the_files_hold_the_bars_made_in_memory(rows: int, tmp_path: Path) -> None:
    bars = history()
    manifest = write(tmp_path, pieces_of(bars, rows))
    made = make_resolutions(bars, "time", **OPTIONS)
    for resolution, table in made.items():
        same(_stage.load(tmp_path, BTC, resolution, CPU), table)
        folder = tmp_path / manifest["folders"][resolution]
        for file in sorted(folder.iterdir()):
            closes = _stage.read_bars(file, CPU).close_timestamp.tolist()
            assert {month_of(time_ns) for time_ns in closes} == {tuple(map(int, file.name.split("_")[1:3]))}
    account = manifest["symbols"]["BTCUSDT"]
    assert account["input"]["rows"] == manifest["rows_in"] == len(bars)
    assert manifest["rows_out"] == len(made["short"])
    lots = sum(torch.round(bars.volume * 1000).long().tolist())
    for resolution, told in account["resolutions"].items():
        assert told["in_bars"]["rows"] + told["in_open_rest"]["rows"] == len(bars)
        volumes = [round(float(told[part]["volume"]) * 1000) for part in ("in_bars", "in_open_rest")]
        assert sum(volumes) == lots and told["bars"] == len(made[resolution])


def test_flush_makes_every_month_stand_alone(tmp_path: Path) -> None:
    bars = history()
    write(tmp_path, pieces_of(bars, 997), at_file_end="flush")
    alone = [make_resolutions(month, "time", **OPTIONS) for month in pieces_of(bars, 10**9)]
    assert len(alone) == 3
    for resolution in alone[0]:
        same(_stage.load(tmp_path, BTC, resolution, CPU), Bars.concat([made[resolution] for made in alone]))
        files = sorted((tmp_path / f"time_{'15min' if resolution in ('short', 'medium') else resolution}").iterdir())
        assert len(files) == 3
    short = sorted((tmp_path / "time_15min").iterdir())
    for file, made in zip(short, alone, strict=True):
        found, rest = _stage.read_bars(file, CPU), made["short"].partial
        same(found, Bars.concat([made["short"], rest] if rest is not None else [made["short"]]))


def test_a_resolution_without_a_bar_has_an_empty_file(tmp_path: Path) -> None:
    write(tmp_path, [history().select(slice(0, 30))])
    assert len(_stage.load(tmp_path, BTC, "1day", CPU)) == 0
    assert len(_stage.load(tmp_path, BTC, "short", CPU)) > 2


def test_nothing_to_make_bars_of(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bars: there are no bars of BTCUSDT; check ingest's start, end and limit"):
        write(tmp_path, [])


def test_an_account_that_does_not_balance_is_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = _from_bars.step

    def lossy(bars, chains, state):
        made, after = step(bars, chains, state)
        return {name: table.select(slice(1, None)) for name, table in made.items()}, after

    monkeypatch.setattr(_from_bars, "step", lossy)
    with pytest.raises(
        PipelineError, match="bars of BTCUSDT, short: rows and lots over bars and the open rest are not"
    ):
        write(tmp_path, [history()])
