"""Books and quotes as monthly files: as they were from any pieces, streamed by row group, refused where damaged."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from gpu_pipeline.core import store
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import BookEvents, BookSnapshots, Quotes, Symbol
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.ingest import _book_files, _device, _event_files, _quote_files, _stage
from gpu_pipeline.ingest._columns import Cells

CPU = torch.device("cpu")
SYMBOL = Symbol("BTCUSDT", Decimal("0.01"), Decimal("0.001"))
FEBRUARY_END = 1_709_251_200 * 10**9
KINDS: list[tuple[Any, Any]] = [(BookEvents, _event_files), (Quotes, _quote_files)]


def ticker() -> Ticker:
    return Ticker("test", None, Console(file=io.StringIO()))


def table(kind: Any, files: Any, rows: int = 700, seed: int = 3) -> Any:
    """Random rows across the end of February 2024."""
    draw = torch.Generator().manual_seed(seed)
    columns = {name: torch.randint(0, 2**40, (rows,), generator=draw) for name in files.TABLE.columns}
    steps = torch.randint(0, 10**9, (rows,), generator=draw)
    columns["time_ns"] = torch.cumsum(steps, 0) + FEBRUARY_END - rows * 10**9 // 4
    columns["known_ns"] = columns["time_ns"] + 5
    return kind(SYMBOL, **columns, report={"stale": 4})


def cut(whole: Any, files: Any, borders: list[int]) -> Iterator[Any]:
    at = 0
    for border in [*sorted(borders), len(whole)]:
        yield replace(whole, **{name: getattr(whole, name)[at:border] for name in files.TABLE.columns})
        at = max(at, border)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROW_GROUP", 100)


@pytest.mark.parametrize(("kind", "files"), KINDS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(borders=st.lists(st.integers(0, 700), max_size=6))
def test_rows_come_back_from_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, kind: Any, files: Any, borders: list[int]
) -> None:
    folders, whole = [tmp_path_factory.mktemp("rows") for _ in range(2)], table(kind, files)
    entries = [
        files.write(folder, cut(whole, files, some), ticker())
        for folder, some in zip(folders, ([], borders), strict=True)
    ]
    assert entries[0] == entries[1]
    for one, other in zip(*(sorted(folder.iterdir()) for folder in folders), strict=True):
        assert one.read_bytes() == other.read_bytes()
    pieces = list(files.load(folders[1], SYMBOL, CPU))
    assert max(map(len, pieces)) <= 100
    for name in files.TABLE.columns:
        assert torch.cat([getattr(piece, name) for piece in pieces]).equal(getattr(whole, name)), name
    entry = entries[0]
    assert (entry["rows_in"], entry["rows_out"], entry["stale"]) == (700, 700, 4)
    assert (entry["first_time_ns"], entry["last_time_ns"]) == (int(whole.time_ns[0]), int(whole.time_ns[-1]))
    assert entry["kind"] == ("events" if kind is BookEvents else "quotes")


def snapshots(count: int = 90) -> BookSnapshots:
    sizes = torch.arange(count) % 13
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(sizes, 0)])
    times = FEBRUARY_END + (torch.arange(count) - 40) * 10**9
    levels = int(offsets[-1])
    return BookSnapshots(SYMBOL, times, times + 1, offsets, sizes // 3, torch.arange(levels), torch.arange(levels) * 7)


def test_a_snapshot_that_ends_in_the_next_row_group_stays_whole(tmp_path: Path) -> None:
    book = snapshots()
    pieces = [_book_files.part(book, slice(at, at + 7)) for at in range(0, len(book), 7)]
    _book_files.write(tmp_path / "pieces", iter(pieces), ticker())
    _book_files.write(tmp_path / "whole", iter([book]), ticker())
    for name in ("BTCUSDT_2024_02.parquet", "BTCUSDT_2024_03.parquet"):
        assert (tmp_path / "pieces" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    loaded = list(_stage.load_book(tmp_path, "whole", SYMBOL, CPU))
    assert len(loaded) > 4 and all(len(piece) for piece in loaded)
    again = _book_files.joined(loaded)  # type: ignore[arg-type]
    for name in ("time_ns", "known_ns", "offsets", "bid_count", "price_ticks", "quantity_lots"):
        assert getattr(again, name).equal(getattr(book, name)), name


@pytest.mark.parametrize(("kind", "files"), KINDS)
def test_times_that_fall_are_refused(tmp_path: Path, kind: Any, files: Any) -> None:
    whole = table(kind, files)
    back = [*cut(whole, files, [500])][::-1]
    with pytest.raises(InputError, match=rf"BTCUSDT: times of {files.TABLE.title} must not fall"):
        files.write(tmp_path, iter(back), ticker())
    if kind is BookEvents:
        wrong = replace(whole, known_ns=whole.known_ns.flip(0))
        with pytest.raises(InputError, match="BTCUSDT: times at which book events are known must not fall"):
            files.write(tmp_path, iter([wrong]), ticker())


def test_the_stage_knows_what_a_stream_holds(tmp_path: Path) -> None:
    _event_files.write(tmp_path / "book", iter([table(BookEvents, _event_files)]), ticker())
    _quote_files.write(tmp_path / "bbo", iter([table(Quotes, _quote_files)]), ticker())
    assert {type(piece) for piece in _stage.load_book(tmp_path, "book", SYMBOL, CPU)} == {BookEvents}
    assert {type(piece) for piece in _stage.load_quotes(tmp_path, "bbo", SYMBOL, CPU)} == {Quotes}
    with pytest.raises(InputError, match=r"ingest\.bbo: holds quotes, not a book; name a stream of snapshots or depth"):
        _stage.load_book(tmp_path, "bbo", SYMBOL, CPU)
    with pytest.raises(InputError, match=r"BTCUSDT_2024_02\.parquet: holds no quotes of this project; run the stage"):
        list(_stage.load_quotes(tmp_path, "book", SYMBOL, CPU))
    other = replace(SYMBOL, price_tick=Decimal("0.1"))
    with pytest.raises(InputError, match=r"its scales are not those of BTCUSDT in this run; run the stage ingest"):
        list(_stage.load_quotes(tmp_path, "bbo", other, CPU))


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    _quote_files.write(tmp_path / "bbo", iter([table(Quotes, _quote_files)]), ticker())
    path = min((tmp_path / "bbo").iterdir())
    path.write_bytes(path.read_bytes()[:-5])
    for load in (_stage.load_quotes, _stage.load_book):
        with pytest.raises(InputError, match=rf"{path.name}: cannot be read as Parquet") as caught:
            list(load(tmp_path, "bbo", SYMBOL, CPU))
        assert "\n" not in str(caught.value)


def test_on_cuda_chunks_pass_as_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pylibcudf hands over may end anywhere in a snapshot; here its place is taken on the CPU."""
    book = _book_files.part(snapshots(), slice(0, 40))
    _book_files.write(tmp_path / "book", iter([book]), ticker())
    columns = _book_files.tall(book)
    rows = len(columns["side"])

    def in_pieces(path: Path, names: list[str], device: torch.device) -> Iterator[dict[str, Cells]]:
        for at in range(0, rows, 17):
            yield {name: Cells("integer", columns[name][at : at + 17]) for name in names}

    monkeypatch.setattr(_device, "read_chunks", in_pieces)
    loaded = list(_book_files.load(tmp_path / "book", SYMBOL, torch.device("cuda")))
    again = _book_files.joined(loaded)
    assert len(loaded) > 10 and [int(count) for count in torch.diff(again.offsets)] == [at % 13 for at in range(40)]
    assert again.price_ticks.equal(book.price_ticks) and again.bid_count.equal(book.bid_count)
