"""From clean files to bars, row group by row group: the same bytes, borders at files alone, nothing held."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from gpu_pipeline.bars import _stage
from gpu_pipeline.bars._make import make_resolutions
from gpu_pipeline.core import store
from gpu_pipeline.core.config import RunConfig, check_config
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BAR_COLUMNS, Bars, Trades
from gpu_pipeline.core.store import digest_file
from gpu_pipeline.core.trace import Ticker, Trace
from gpu_pipeline.ingest import _trade_files
from gpu_pipeline.ingest._trade_files import TradeFile, read_file, trade_files
from tests.bars.market import BTC, random_trades

CPU = torch.device("cpu")
FEBRUARY_END = 1_583_020_800 * 10**9
COUNT = 3_000
RULES: dict[str, dict[str, Any]] = {
    "reset": {"type": "dollar", "threshold": 20_000},
    "carry": {"type": "dollar", "threshold": 20_000, "on_close": "carry"},
    "wide": {"type": "dollar", "threshold": 10_000_000},
    "time": {"type": "time", "step": "15min"},
}


def market() -> Trades:
    """Two months."""
    return random_trades(5, COUNT, start_ns=FEBRUARY_END - COUNT * 6 * 10**9)


def config_of(**bars: Any) -> RunConfig:
    ingest = {"trades": {"source": "tests.bars.source"}}
    return check_config({"name": "t", "symbols": ["BTCUSDT"], "ingest": ingest, "bars": bars})


def clean_files(folder: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> list[TradeFile]:
    """Clean files in row groups of `group` trades."""
    with monkeypatch.context() as patch, Trace().progress("clean") as ticker:
        patch.setattr(store, "ROW_GROUP", group)
        _trade_files.write(folder, iter([market()]), ticker)
    return trade_files(folder, BTC)


def written(folder: Path, files: list[TradeFile], read: Any = read_file, **bars: Any) -> dict[str, Any]:
    return _stage.write(folder, config_of(**bars), {"BTCUSDT": BTC}, lambda symbol: files, read, CPU, Trace())


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest_file(path) for path in folder.rglob("*") if path.is_file()}


def same(left: Bars, right: Bars) -> None:
    for name in BAR_COLUMNS:
        assert left.columns[name].numpy().tobytes() == right.columns[name].numpy().tobytes(), name


@pytest.mark.parametrize("at_file_end", ["continue", "flush"])
@pytest.mark.parametrize("rule", RULES)
def test_row_groups_of_any_size_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, at_file_end: str
) -> None:
    bars = {**RULES[rule], "at_file_end": at_file_end, "time": ["1min"]}
    whole = clean_files(tmp_path / "whole", monkeypatch, 1 << 20)
    account = written(tmp_path / "a", whole, **bars)
    for group in (137, 1_000):
        files = clean_files(tmp_path / str(group), monkeypatch, group)
        assert pq.read_metadata(files[0].path).num_row_groups == -(-files[0].rows // group)
        assert written(tmp_path / f"bars{group}", files, **bars) == account
        assert digests(tmp_path / f"bars{group}") == digests(tmp_path / "a")


@pytest.mark.parametrize("rule", ["reset", "wide"])
def test_borders_are_those_of_files_and_never_of_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    files, trades = clean_files(tmp_path / "in", monkeypatch, 150), market()
    months = [trades[file.first_row : file.first_row + file.rows] for file in files]
    for at_file_end, tables in (("continue", [trades]), ("flush", months)):
        said = written(tmp_path / at_file_end, files, **RULES[rule], at_file_end=at_file_end)
        alone = [make_resolutions(table, **RULES[rule])["short"] for table in tables]
        same(_stage.load(tmp_path / at_file_end, BTC, "short", CPU), Bars.concat(alone))
        counts = said["symbols"]["BTCUSDT"]["resolutions"]["short"]
        opened = sum(bars.partial is not None for bars in alone)
        assert opened and counts["partial_rows"] == (opened if at_file_end == "flush" else 0)
        assert counts["in_bars"]["trades"] + counts["in_open_rest"]["trades"] == COUNT


class Watched:
    """Hands over chunks and counts how many of them somebody still holds."""

    def __init__(self) -> None:
        self.given: list[weakref.ref[Any]] = []
        self.most = 0

    def cut(self, trades: Trades, rows: int = 100) -> Iterator[Trades]:
        for start in range(0, len(trades), rows):
            # Fresh columns: a slice of a table would keep all of it.
            columns = {name: getattr(trades, name)[start : start + rows].clone() for name in Trades.COLUMNS}
            chunk = Trades(trades.symbol, first_row=trades.first_row + start, **columns)
            self.given.append(weakref.ref(chunk.notional))
            self.most = max(self.most, sum(one() is not None for one in self.given))
            yield chunk


def test_the_stage_holds_one_chunk_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, trades, watched = clean_files(tmp_path / "in", monkeypatch, 1 << 20), market(), Watched()

    def read(file: TradeFile, symbol: Any, device: torch.device, columns: Any = None) -> Iterator[Trades]:
        return watched.cut(trades[file.first_row : file.first_row + file.rows])

    written(tmp_path / "out", files, read, **RULES["reset"])
    assert len(watched.given) >= 30 and watched.most <= 2


def test_bars_in_memory_hold_one_piece_of_an_iterator_at_a_time() -> None:
    watched = Watched()
    bars = make_resolutions(watched.cut(market()), **RULES["reset"])["short"]
    assert len(watched.given) == 30 and watched.most <= 2 and bars.source is None
    same(bars, make_resolutions(market(), **RULES["reset"])["short"])


def test_a_single_piece_of_an_iterator_stays_reachable_from_its_bars() -> None:
    trades = market()
    assert make_resolutions(iter([trades]), **RULES["reset"])["short"].source is trades


def test_damage_in_a_later_month_leaves_no_thread_and_no_half_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = clean_files(tmp_path / "in", monkeypatch, 100)
    column = pq.read_metadata(files[1].path).row_group(3).column(1)
    content = bytearray(files[1].path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    files[1].path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"2020_03\.parquet: cannot be read as Parquet: .*CRC"):
        written(tmp_path / "out", files, **RULES["reset"])
    assert {path.name[8:15] for path in (tmp_path / "out").rglob("*.parquet")} == {"2020_02"}
    assert not list((tmp_path / "out").rglob(".*"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_the_progress_is_in_trades_of_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int | None, int]] = []

    def advance(self: Ticker, steps: int = 1, note: str = "") -> None:
        told.append((self._title, self._total, steps))

    files = clean_files(tmp_path / "in", monkeypatch, 500)
    monkeypatch.setattr(Ticker, "advance", advance)
    written(tmp_path / "out", files, **RULES["reset"])
    assert {(title, total) for title, total, _ in told} == {("bars", COUNT)}
    assert sum(steps for _, _, steps in told) == COUNT and len(told) >= COUNT // 500
