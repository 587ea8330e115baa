"""Clean trades as streams: the same bytes from any pieces, row groups back, a subset of columns, no thread left."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from gpu_pipeline.core import store
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Symbol, Trades
from gpu_pipeline.core.trace import Ticker
from gpu_pipeline.ingest import _device, _trade_files
from gpu_pipeline.ingest._columns import Cells
from gpu_pipeline.ingest._trade_files import TradeFile, read_file, trade_files
from tests.bars.market import BTC, random_trades

CPU = torch.device("cpu")
FEBRUARY_END = 1_583_020_800 * 10**9
COINS = Symbol("BTCUSD_PERP", Decimal("0.1"), Decimal(1), Decimal(100), inverse=True, quote="USD")


class Counter(Ticker):
    """A ticker that remembers."""

    def __init__(self) -> None:
        super().__init__("test", None, Console(file=io.StringIO()))
        self.steps = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.steps += steps


def market(count: int = 4_000, symbol: Symbol = BTC) -> Trades:
    """Trades across the end of February 2020."""
    return random_trades(8, count, symbol=symbol, start_ns=FEBRUARY_END - count * 5 * 10**9)


def cut(trades: Trades, borders: list[int]) -> Iterator[Trades]:
    at = 0
    for border in [*sorted(borders), len(trades)]:
        if border > at:
            yield trades[at:border]
            at = border


def written(folder: Path, trades: Trades, borders: list[int] | None = None) -> list[TradeFile]:
    _trade_files.write(folder, cut(trades, borders or []), Counter())
    return trade_files(folder, trades.symbol)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(store, "ROW_GROUP", 300)
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def same(left: Trades, right: Trades) -> None:
    assert (left.symbol, left.first_row, left.has_side) == (right.symbol, right.first_row, right.has_side)
    assert all(getattr(left, name).equal(getattr(right, name)) for name in Trades.COLUMNS)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(borders=st.lists(st.integers(0, 4_000), max_size=12))
def test_months_do_not_depend_on_the_pieces_that_came(
    tmp_path_factory: pytest.TempPathFactory, borders: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("clean")
    whole, pieces = (written(folder / name, market(), some) for name, some in (("whole", []), ("pieces", borders)))
    for one, other in zip(whole, pieces, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()


@pytest.mark.parametrize("symbol", [BTC, COINS])
def test_a_file_comes_back_in_its_row_groups(tmp_path: Path, symbol: Symbol) -> None:
    trades = market(symbol=symbol)
    files = written(tmp_path, trades, [100, 1_900])
    assert [file.month for file in files] == [(2020, 2), (2020, 3)]
    assert [file.first_row for file in files] == [0, files[0].rows] and sum(file.rows for file in files) == 4_000
    for file in files:
        chunks = list(read_file(file, symbol, CPU))
        assert [len(chunk) for chunk in chunks[:-1]] == [300] * (file.rows // 300)
        same(Trades.concat(chunks), trades[file.first_row : file.first_row + file.rows])
        assert [chunk.first_row for chunk in chunks] == list(range(file.first_row, file.first_row + file.rows, 300))
    same(_trade_files.load_all(tmp_path, symbol, CPU), trades)
    same(Trades.concat(list(_trade_files.load(tmp_path, symbol, CPU))), trades)


@pytest.mark.parametrize(
    ("symbol", "columns", "there"),
    [
        (BTC, [], {"time_ns"}),
        (BTC, ["quantity_lots"], {"time_ns", "quantity_lots"}),
        (BTC, ["notional"], {"time_ns", "price_ticks", "quantity_lots", "notional"}),
        (COINS, ["notional", "is_buyer_maker"], {"time_ns", "quantity_lots", "notional", "is_buyer_maker"}),
    ],
)
def test_columns_that_nobody_wants_are_not_read(
    tmp_path: Path, symbol: Symbol, columns: list[str], there: set[str]
) -> None:
    trades = market(1_000, symbol)
    for file in written(tmp_path, trades):
        for chunk in read_file(file, symbol, CPU, columns):
            expected = trades[chunk.first_row : chunk.first_row + len(chunk)]
            for name in Trades.COLUMNS:
                column = getattr(chunk, name)
                assert column.equal(getattr(expected, name)) if name in there else len(column) == 0, name


def test_a_column_that_trades_do_not_have(tmp_path: Path) -> None:
    file = written(tmp_path, market(10))[0]
    with pytest.raises(ValueError, match="trades have no column notionals; they have time_ns, price_ticks"):
        next(read_file(file, BTC, CPU, ["notionals"]))


def test_files_and_their_reader_go_to_other_processes(tmp_path: Path) -> None:
    file = written(tmp_path, market(1_000))[0]
    again, reader = pickle.loads(pickle.dumps((file, read_file)))
    assert (again, reader) == (file, read_file) and len(pickle.dumps(file)) < 1_000


def test_damage_in_the_middle_comes_after_what_is_whole(tmp_path: Path) -> None:
    trades = market(2_000)
    file = max(written(tmp_path, trades), key=lambda file: file.rows)
    column = pq.read_metadata(file.path).row_group(2).column(0)
    content = bytearray(file.path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    file.path.write_bytes(bytes(content))
    chunks = []
    with pytest.raises(InputError, match=rf"{file.path.name}: cannot be read as Parquet: .*CRC") as caught:
        for chunk in read_file(file, BTC, CPU):
            chunks.append(chunk)
    assert len(chunks) == 2 and "\n" not in str(caught.value)
    same(Trades.concat(chunks), trades[file.first_row : file.first_row + 600])


@pytest.mark.parametrize("rows", [-1, 1])
def test_a_file_that_changed_since_it_was_listed(tmp_path: Path, rows: int) -> None:
    file = written(tmp_path, market(1_000))[0]
    with pytest.raises(InputError, match=r"holds .* rows where .* were seen before; run the stage ingest again"):
        list(read_file(replace(file, rows=file.rows + rows), BTC, CPU))


def test_a_footer_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    file = written(tmp_path, market(1_000))[0]
    file.path.write_bytes(file.path.read_bytes()[:-9])
    with pytest.raises(InputError, match=rf"{file.path.name}: cannot be read as Parquet"):
        trade_files(tmp_path, BTC)
    with pytest.raises(InputError, match=rf"{file.path.name}: cannot be read as Parquet"):
        next(read_file(file, BTC, CPU))


def test_the_progress_counts_every_trade(tmp_path: Path) -> None:
    ticker = Counter()
    _trade_files.write(tmp_path, cut(market(), [7, 2_000]), ticker)
    assert ticker.steps == 4_000


def test_on_cuda_chunks_pass_as_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pylibcudf hands over is one chunk each, never a whole file; here its place is taken on the CPU."""
    trades = market(1_000)
    file = written(tmp_path, trades)[0]
    asked: list[list[str]] = []
    decoded: list[int] = []

    def in_two(path: Path, columns: list[str], device: torch.device) -> Iterator[dict[str, Cells]]:
        asked.append(columns)
        for rows in (slice(0, 10), slice(10, file.rows)):
            decoded.append(rows.start)
            yield {name: Cells("integer", getattr(trades, name)[rows]) for name in columns}

    monkeypatch.setattr(_device, "read_chunks", in_two)
    chunks = list(read_file(file, BTC, torch.device("cuda"), ["notional"]))
    assert [len(chunk) for chunk in chunks] == [10, file.rows - 10] and decoded == [0, 10]
    assert asked == [["time_ns", "price_ticks", "quantity_lots"]]
    assert Trades.concat(chunks).notional.equal(trades.notional[: file.rows])


def test_pieces_are_made_in_a_thread_that_is_gone_when_writing_ends_or_fails(tmp_path: Path) -> None:
    trades, names = market(), []

    def pieces(stop: int | None) -> Iterator[Trades]:
        for number, piece in enumerate(cut(trades, list(range(0, 4_000, 500)))):
            names.append(threading.current_thread().name)
            if number == stop:
                raise InputError("row 1,500: no price")
            yield piece

    _trade_files.write(tmp_path / "whole", pieces(None), Counter())
    with pytest.raises(InputError, match="row 1,500: no price"):
        _trade_files.write(tmp_path / "half", pieces(3), Counter())
    assert len(names) == 8 + 4 and all(name.startswith("ahead") for name in names)
    assert not list((tmp_path / "half").glob("*.parquet"))
