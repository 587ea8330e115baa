"""The bars stage: files by month, exact round trip, and an account that raises when something was lost."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest
import torch

from gpu_pipeline.bars import _fold, _months, _stage
from gpu_pipeline.bars._account import Account
from gpu_pipeline.bars._make import make_resolutions
from gpu_pipeline.core import store
from gpu_pipeline.core.config import check_config
from gpu_pipeline.core.errors import InputError, PipelineError
from gpu_pipeline.core.schema import BAR_COLUMNS, Bars, Symbol, Trades
from gpu_pipeline.core.store import digest_file, write_table
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.core.units import month_of
from tests.bars.market import BTC, random_trades, real_day, trades_of

CPU = torch.device("cpu")
DAY = 86_400 * 10**9
FEBRUARY_END = 1_583_020_800 * 10**9


def config_of(**bars):
    values = {
        "name": "t",
        "symbols": ["BTCUSDT"],
        "ingest": {},
        "bars": {"type": "dollar", "threshold": 50_000, **bars},
    }
    values["ingest"] = {"trades": {"source": "tests.bars.source"}}
    return check_config(values)


@dataclass(frozen=True)
class File:
    """A file of trades that lies in memory."""

    trades: Trades
    chunk: int = 1 << 20

    @property
    def rows(self):
        return len(self.trades)

    @property
    def month(self):
        return month_of(int(self.trades.time_ns[0]))


def read(file: File, symbol, device):
    yield from (file.trades[at : at + file.chunk] for at in range(0, len(file.trades), file.chunk))


def stage(folder: Path, pieces, chunk: int = 1 << 20, **bars):
    symbols = {"BTCUSDT": pieces[0].symbol} if pieces else {"BTCUSDT": BTC}
    files = [File(piece, chunk) for piece in pieces]
    return _stage.write(folder, config_of(**bars), symbols, lambda symbol: files, read, CPU, Trace())


def two_months():
    """Trades across the end of February 2020, in two monthly pieces."""
    trades = random_trades(8, 4_000, start_ns=FEBRUARY_END - 20_000 * 10**9)
    border = int(torch.searchsorted(trades.time_ns, FEBRUARY_END))
    assert 500 < border < 3_500
    return trades, [trades[:border], trades[border:]]


def same(left: Bars, right: Bars):
    assert len(left) == len(right)
    for name in BAR_COLUMNS:
        assert left.columns[name].numpy().tobytes() == right.columns[name].numpy().tobytes(), name


def test_files_are_named_by_type_threshold_resolution_symbol_and_month(tmp_path):
    stage(tmp_path, two_months()[1], time=["1min"], resolutions={"medium": 10})
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet"))
    assert names == [
        "dollar_50k/BTCUSDT_2020_02_dollar_bars_50k.parquet",
        "dollar_50k/BTCUSDT_2020_03_dollar_bars_50k.parquet",
        "dollar_50k_medium/BTCUSDT_2020_02_dollar_bars_50k.parquet",
        "dollar_50k_medium/BTCUSDT_2020_03_dollar_bars_50k.parquet",
        "time_1min/BTCUSDT_2020_02_time_bars_1min.parquet",
        "time_1min/BTCUSDT_2020_03_time_bars_1min.parquet",
    ]


def test_what_is_loaded_is_what_was_made_and_a_bar_lies_in_the_month_of_its_close(tmp_path):
    trades, pieces = two_months()
    options = {"time": ["1min"], "resolutions": {"medium": 10, "wide": {"threshold": 10**6}}}
    stage(tmp_path, pieces, **options)
    for resolution, bars in make_resolutions(trades, threshold=50_000, **options).items():
        loaded = _stage.load(tmp_path, BTC, resolution, CPU)
        same(loaded, bars)
        assert (loaded.name, loaded.symbol) == (bars.name, BTC)
        files = sorted((tmp_path / bars.name).iterdir())
        months = [_stage.read_bars(file, CPU).close_timestamp for file in files]
        assert int(months[0].max()) < FEBRUARY_END <= int(months[1].min())


def digests(folder: Path):
    return {str(path.relative_to(folder)): digest_file(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("at_file_end", ["continue", "flush"])
@pytest.mark.parametrize("chunk", [1, 333, 1_000])
def test_how_a_file_is_cut_into_chunks_does_not_change_a_byte(tmp_path, monkeypatch, chunk, at_file_end):
    monkeypatch.setattr(store, "ROW_GROUP", 100)
    _, pieces = two_months()
    if chunk == 1:
        pieces = [piece[:300] for piece in pieces]
        pieces[1] = replace(pieces[1], first_row=300)
    options = {"at_file_end": at_file_end, "time": ["1min"], "threshold": 10_000}
    whole = stage(tmp_path / "a", pieces, **options)
    assert stage(tmp_path / "b", pieces, chunk, **options) == whole
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_month_that_fails_leaves_no_file_of_its_own(tmp_path):
    _, pieces = two_months()

    def broken(file, symbol, device):
        yield from read(file, symbol, device)
        if file.trades is pieces[1]:
            raise InputError("stop")

    with pytest.raises(InputError, match="stop"):
        _stage.write(
            tmp_path, config_of(), {"BTCUSDT": BTC}, lambda symbol: [File(p) for p in pieces], broken, CPU, Trace()
        )
    assert {path.name[8:15] for path in tmp_path.rglob("*") if path.is_file()} == {"2020_02"}


def test_flush_ends_bars_with_their_month_and_partial_rows_are_not_loaded(tmp_path):
    _, pieces = two_months()
    said = stage(tmp_path, pieces, at_file_end="flush", time=["1min"])
    alone = [make_resolutions(piece, threshold=50_000, time=["1min"]) for piece in pieces]
    for resolution, name in said["folders"].items():
        files = sorted((tmp_path / name).iterdir())
        assert len(files) == 2
        for file, one in zip(files, alone, strict=True):
            same(_stage.read_bars(file, CPU), Bars.concat([one[resolution], one[resolution].partial]))
        same(_stage.load(tmp_path, BTC, resolution, CPU), Bars.concat([one[resolution] for one in alone]))
    counts = said["symbols"]["BTCUSDT"]["resolutions"]["short"]
    assert counts["partial_rows"] == 2
    assert counts["in_open_rest"]["trades"] == 0
    assert counts["in_bars"]["trades"] == 4_000


def test_the_manifest_accounts_for_the_real_day(tmp_path, market_data: Path):
    said = stage(tmp_path, [real_day(market_data)], time=["1min", "15min"])
    assert (said["rows_in"], said["rows_out"]) == (137_988, 9_237)
    account = said["symbols"]["BTCUSDT"]
    assert account["input"]["volume"] == "58419.475"
    for resolution in account["resolutions"].values():
        for key in ("trades", "volume_lots", "notional_units", "buy_lots"):
            assert resolution["in_bars"][key] + resolution["in_open_rest"][key] == account["input"][key]
        for key in ("volume", "notional", "buy_volume"):
            parts = [Decimal(resolution[part][key]) for part in ("in_bars", "in_open_rest")]
            assert sum(parts) == Decimal(account["input"][key])
    assert json.loads(json.dumps(said)) == said


def test_without_a_side_nothing_is_said_of_buys(tmp_path):
    part = random_trades(1, 100)
    trades = trades_of(
        BTC, part.time_ns.numpy(), part.price_ticks.numpy(), part.quantity_lots.numpy(), [False] * 100, has_side=False
    )
    account = stage(tmp_path, [trades], threshold=1000)["symbols"]["BTCUSDT"]
    assert account["input"]["buy_lots"] is None
    assert account["resolutions"]["short"]["in_bars"]["buy_volume"] is None
    loaded = _stage.load(tmp_path, BTC, "short", CPU)
    assert loaded.has_side is False
    assert loaded.buy_volume.isnan().all()


def test_the_account_raises_when_something_was_lost():
    trades = random_trades(1, 100)
    chains = _fold.plan(config_of().bars)
    sums, state = _fold.step(trades, chains, {})
    account = Account(BTC)
    account.input.add_trades(trades)
    account.take({name: rows[:, :-1] if name == "short" else rows for name, rows in sums.items()})
    with pytest.raises(PipelineError, match="bars of BTCUSDT, short: the sums over bars and the open rest are not"):
        account.close(_fold.open_rest(chains, state))


def test_a_resolution_without_bars_yet_loads_empty(tmp_path):
    stage(tmp_path, [random_trades(0, 50)], threshold=10**9)
    for resolution in ("short", "medium", "long"):
        assert len(_stage.load(tmp_path, BTC, resolution, CPU)) == 0


def test_empty_pieces_change_nothing(tmp_path):
    trades, pieces = two_months()
    stage(tmp_path / "a", pieces)

    def with_empty(file, symbol, device):
        yield from (trades[:0], file.trades[:500], trades[500:500], file.trades[500:], trades[4_000:])

    files = [File(piece) for piece in pieces]
    _stage.write(tmp_path / "b", config_of(), {"BTCUSDT": BTC}, lambda symbol: files, with_empty, CPU, Trace())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_errors_name_what_is_there(tmp_path):
    stage(tmp_path, [random_trades(0, 500)])
    with pytest.raises(InputError, match="no bars of resolution 'medum'; there are long, medium, short; did you mean"):
        _stage.load(tmp_path, BTC, "medum", CPU)
    with pytest.raises(InputError, match="no bars of symbol 'ETHUSDT'; rerun the bars stage"):
        _stage.load(tmp_path, Symbol("ETHUSDT", Decimal(1), Decimal(1)), "short", CPU)
    with pytest.raises(InputError, match="there are no trades of BTCUSDT; check ingest's start, end and limit"):
        stage(tmp_path / "none", [])
    bars = make_resolutions(random_trades(0, 500), threshold=5_000)["short"]
    foreign = write_table(tmp_path / "foreign.parquet", bars.to_arrow())
    with pytest.raises(InputError, match="its metadata names no symbol; give a file that the bars stage wrote"):
        _stage.read_bars(foreign, CPU)


def test_symbols_of_like_names_are_kept_apart(tmp_path):
    symbols = {name: Symbol(name, Decimal("0.01"), Decimal("0.001")) for name in ("BTC", "BTC_2020")}
    sizes = dict(zip(symbols, (300, 700), strict=True))

    def files(symbol):
        return [File(random_trades(1, sizes[symbol.name], symbol=symbol))]

    _stage.write(tmp_path, config_of(threshold=1000), symbols, files, read, CPU, Trace())
    for symbol in symbols.values():
        expected = make_resolutions(random_trades(1, sizes[symbol.name]), threshold=1000)["short"]
        same(_stage.load(tmp_path, symbol, "short", CPU), expected)


def test_many_years_of_rows_are_cut_at_each_month():
    count = 400
    days = [day * 3 * DAY for day in range(count)]
    trades = trades_of(BTC, days, [10**6] * count, [10**6] * count, [True] * count)
    bars = make_resolutions(trades, threshold=1, resolutions={})["short"]
    parts = list(_months.by_month(bars))
    moments = bars.to_pandas()["close_timestamp"]
    expected = [(key, len(list(rows))) for key, rows in itertools.groupby((t.year, t.month) for t in moments)]
    assert [(month, len(part)) for month, part in parts] == expected
