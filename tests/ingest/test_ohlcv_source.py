"""Bars made by others as a source: hours, bad rows, order, pieces, and the monthly files of a run."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import gpu_pipeline as gp
from gpu_pipeline.core.config import RunConfig, check_config
from gpu_pipeline.core.errors import ConfigError, InputError
from gpu_pipeline.core.schema import BAR_COLUMNS, Bars
from gpu_pipeline.core.trace import Trace
from gpu_pipeline.core.units import parse_instant
from gpu_pipeline.ingest import _read, _stage, parquet
from gpu_pipeline.ingest._bar_rows import COUNTS

CPU = torch.device("cpu")
MINUTE_NS = 60_000_000_000
GLOBEX = {"sessions": ["sun-thu 17:00-16:00"], "timezone": "America/Chicago"}
NAMES = ("open", "high", "low", "close")
LEFT_OUT = ("duplicates", "outside_sessions", "holidays", "before_start", "after_end", "after_limit")


def read(path: Path | list[Path], **options: Any) -> Bars:
    return gp.read_bars(path, source="ohlcv", symbol="TEST", device="cpu", **options)


def minutes(path: Path, start: str, count: int = 5, *, every: int = 1, **columns: Any) -> Path:
    """Minute bars whose prices are 100 + the number of the row."""
    times = [parse_instant(start) + every * MINUTE_NS * at for at in range(count)]
    price = [100.0 + at for at in range(count)]
    table = {"ts": pa.array(times).cast(pa.timestamp("ns", tz="UTC")), "volume": [1.0] * count}
    table |= dict.fromkeys(("open", "high", "low", "close"), price) | columns
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bars.parquet"


@pytest.fixture
def euro(market_data: Path) -> Path:
    return market_data / "bars_1m" / "6EH4_1m_202401.parquet"


def accounted(bars: Bars) -> bool:
    told = bars.report
    left = sum(told[name] for name in LEFT_OUT) + sum(told["dropped"].values())
    return bool(told["rows_in"] == told["rows_out"] + left and told["rows_out"] == len(bars))


def test_the_sessions_of_a_real_future_say_that_its_rows_carry_the_close(euro: Path) -> None:
    closed, opened = read(euro, label="close", **GLOBEX), read(euro, **GLOBEX)
    assert closed.report["outside_sessions"] == 0 and len(closed) == 29_996
    assert opened.report["outside_sessions"] == 22 and len(opened) == 29_974
    assert accounted(closed) and accounted(opened)
    # Gaps within a session and the nights between two: as pandas counts them.
    times = pd.read_parquet(euro)["ts"]
    assert closed.report["gaps"] == int((times.diff() > pd.Timedelta("1min")).sum())


@pytest.mark.parametrize(
    ("sessions", "holidays"),
    [(["08:30-15:15"], []), (["mon,fri 00:00-24:00"], ["2024-01-05", "2024-01-15"]), (["22:00-02:00"], [])],
)
def test_hours_on_real_bars_against_pandas(euro: Path, sessions: list[str], holidays: list[str]) -> None:
    bars = read(euro, sessions=sessions, holidays=holidays, timezone="America/Chicago")
    frame = pd.read_parquet(euro)
    local = frame["ts"].dt.tz_convert("America/Chicago")
    away = local.dt.strftime("%Y-%m-%d").isin(holidays)
    days, _, clocks = sessions[0].rpartition(" ")
    start, end = clocks.replace("24:00", "23:59").split("-")
    inside = pd.Series(False, index=frame.index)
    inside.iloc[pd.DatetimeIndex(local).indexer_between_time(start, end, include_end=end == "23:59")] = True
    if days:
        inside &= local.dt.strftime("%a").str.lower().isin(days.split(","))
    kept = frame[inside & ~away]
    assert bars.close.tolist() == kept["close"].tolist() and len(kept)
    assert bars.open_timestamp.tolist() == kept["ts"].astype("datetime64[ns, UTC]").astype("int64").tolist()
    assert (bars.report["holidays"], bars.report["outside_sessions"]) == (int(away.sum()), int((~inside & ~away).sum()))
    assert accounted(bars) and bars.last_trade_row.tolist() == list(range(len(bars)))


@pytest.mark.parametrize(
    ("zone", "date", "before", "after"),
    [
        ("Europe/London", "2024-03-31", 8, 7),
        ("Europe/London", "2024-10-27", 7, 8),
        ("America/Chicago", "2024-03-10", 14, 13),
        ("America/Chicago", "2024-11-03", 13, 14),
    ],
)
def test_sessions_move_in_utc_when_the_clocks_change(file: Path, zone: str, date: str, before: int, after: int) -> None:
    start = pd.Timestamp(date) - pd.Timedelta("2D")
    minutes(file, str(start), 4 * 1440)
    bars = read(file, sessions=["08:00-16:30"], timezone=zone)
    opens = bars.open_timestamp[torch.diff(bars.open_timestamp, prepend=bars.open_timestamp[:1] - 10**15) > MINUTE_NS]
    hours = pd.DatetimeIndex(opens.numpy(), tz="UTC").hour.tolist()
    assert hours == [before, before, after, after]
    assert len(bars) == 4 * 510 and bars.report["gaps"] == 3


def test_hours_of_the_source_and_of_the_symbol(file: Path) -> None:
    minutes(file, "2024-01-01T23:58", 5)
    by_symbol = run_file(file, symbol={"timezone": "UTC", "holidays": ["2024-01-02"]})
    by_source = run_file(file, holidays=["2024-01-02"])
    for config in (by_symbol, by_source):
        bars = loaded(config, file.parent / f"clean_{id(config)}")
        assert bars.close.tolist() == [100.0, 101.0] and bars.symbol.holidays == ("2024-01-02",)
    zoned = run_file(file, holidays=["2024-01-02"], timezone="America/Chicago")
    assert loaded(zoned, file.parent / "zoned").symbol.timezone == "America/Chicago"


def test_bad_rows_are_dropped_and_counted_where_asked(file: Path) -> None:
    nan, inf = float("nan"), float("inf")
    columns = {
        "open": [100.0, nan, 102.0, 103.0, 104.0, 105.0, 2.0],
        "high": [100.0, 101.0, inf, 103.0, 104.0, 105.0, 1.0],
        "low": [100.0, 101.0, 102.0, -103.0, 104.0, 105.0, 3.0],
        "volume": [1.0, 1.0, 1.0, 1.0, -1.0, nan, 1.0],
    }
    minutes(file, "2024-01-02", 7, **columns)
    bars = read(file, on_bad_row="drop")
    assert bars.close.tolist() == [100.0]
    names = ("open_missing", "high_infinite", "low_not_positive", "volume_negative", "volume_missing", "outside_range")
    assert bars.report["dropped"] == dict.fromkeys(sorted(names), 1) and accounted(bars)
    with pytest.raises(InputError, match=r"row 2: open must be a number \(value nan\); mend the file, or set on_bad_r"):
        read(file)
    with pytest.raises(InputError, match=r"^TEST: no bars are left \(.*'volume_missing': 1.*check path, start and end"):
        minutes(file, "2024-01-02", 1, volume=[nan])
        read(file, on_bad_row="drop")


@pytest.mark.parametrize("piece_rows", [7, 1 << 18])
def test_rows_out_of_order_are_sorted_and_the_last_of_a_time_counts(
    piece_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PIECE_ROWS", piece_rows)
    rows = [*range(400), 7, 7, 250]
    random.Random(5).shuffle(rows)
    times = [parse_instant("2024-01-02") + MINUTE_NS * row for row in rows]
    price = [float(at + 1) for at in range(len(rows))]
    path = minutes(tmp_path / "a.parquet", "2024-01-02", len(rows), ts=times, **dict.fromkeys(NAMES, price))
    bars = read(path)
    last = dict(zip(rows, price, strict=True))
    assert bars.close.tolist() == [last[row] for row in range(400)]
    highest, behind = -1, 0
    for row in rows:
        behind, highest = behind + (row < highest), max(row, highest)
    assert (bars.report["duplicates"], bars.report["rows_sorted"]) == (3, behind) and accounted(bars)
    for name, start in (("b.parquet", "2024-01-02T06:39"), ("c.parquet", "2024-01-02T06:38")):
        second = minutes(tmp_path / name, start, 3)
        if name == "b.parquet":
            assert read([path, second]).report["duplicates"] == 4
        else:
            with pytest.raises(
                InputError, match=r"c\.parquet, row 1: begins at 2024-01-02T06:38Z, before .*a\.parquet"
            ):
                read([path, second])


def test_rows_without_a_time_are_bad_rows(file: Path) -> None:
    times = pa.array([parse_instant("2024-01-02") + MINUTE_NS * at for at in (0, 1, 2)]).cast(pa.timestamp("ns"))
    minutes(file, "2024-01-02", 3, ts=pa.array([times[0].as_py(), None, times[2].as_py()], pa.timestamp("ns")))
    assert read(file, on_bad_row="drop").report["dropped"] == {"time_missing": 1}
    with pytest.raises(InputError, match=r"row 2: a bar needs a time in the file's unit \(value 'empty'\)"):
        read(file)


def test_a_limit_counts_the_bars_that_are_kept(file: Path) -> None:
    minutes(file, "2024-01-02", 10)
    bars = read(file, start="2024-01-02T00:02", limit=3)
    assert bars.close.tolist() == [102.0, 103.0, 104.0]
    assert (bars.report["after_limit"], bars.report["before_start"]) == (5, 2) and accounted(bars)


def test_tiny_prices_and_bars_without_volume_stay_exact(file: Path) -> None:
    tiny = [2.7e-05, 2.701e-05, 2.699e-05, 2.7e-05, 2.7e-05]
    minutes(file, "2024-01-02", **dict.fromkeys(NAMES, tiny), volume=[0.0, 0.0, 1.5, 0.0, 2.0])
    bars = read(file)
    assert str(bars.symbol.price_tick) == "1E-8" and bars.close.tolist() == tiny
    assert bars.volume.tolist() == [0.0, 0.0, 1.5, 0.0, 2.0]


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("room", [0, 1 << 26])
def test_any_size_of_pieces_gives_the_same_bars(
    rows: int, room: int, tmp_path: Path, euro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(euro)
    few = table.slice(0, 60 if rows == 1 else 2_500)
    again = pa.concat_tables([few.slice(0, 20), few.slice(19, 1), few.slice(20)])
    pq.write_table(again, tmp_path / "a.parquet")
    pq.write_table(few.slice(len(few) - 1, 1), tmp_path / "b.parquet")
    options: dict[str, Any] = {"sessions": ["00:00-12:00"], "holidays": ["2024-01-03"], "start": "2024-01-01T23:10"}
    whole = read(tmp_path, **options)
    monkeypatch.setattr(parquet, "PIECE_ROWS", rows)
    monkeypatch.setattr(_read, "KEEP_BYTES", room)
    found = read(tmp_path, **options)
    assert found.report == whole.report and whole.report["duplicates"] == 2 and len(whole)
    for name in BAR_COLUMNS:
        assert torch.equal(found.columns[name].nan_to_num(-7), whole.columns[name].nan_to_num(-7))


def run_file(path: Path, symbol: dict[str, Any] | None = None, **source: Any) -> RunConfig:
    stream = {"source": "ohlcv", "path": str(path), **source}
    return check_config({"name": "x", "symbols": {"TEST": symbol or {}}, "ingest": {"bars": stream}})


def loaded(config: RunConfig, folder: Path) -> Bars:
    manifest = _stage.write(folder, config, CPU, Trace())
    return Bars.concat(list(_stage.load_bars(folder, _stage.load_symbols(manifest)["TEST"], CPU)))


def test_monthly_files_give_the_bars_that_were_read(tmp_path: Path, market_data: Path) -> None:
    path = market_data / "bars_1m" / "btc_perp_ftx_1m_202112_202202.parquet"
    config = run_file(path, timezone="Europe/Berlin")
    manifest = _stage.write(tmp_path, config, CPU, Trace())
    names = sorted(found.name for found in (tmp_path / "TEST").iterdir())
    assert names == [f"TEST_{month}.parquet" for month in ("2021_12", "2022_01", "2022_02")]
    entry = manifest["symbols"]["TEST"]
    assert (entry["kind"], entry["rows_out"], entry["volumes_off_lot"]) == ("bars", 45_031, 6)
    assert set(COUNTS) <= set(entry) and manifest["streams"] == {}
    symbol = _stage.load_symbols(manifest)["TEST"]
    with pytest.raises(InputError, match=r"TEST_2021_12\.parquet: holds bars made by others, and no trades; give"):
        list(_stage.load_trades(tmp_path, symbol, CPU))
    found = Bars.concat(list(_stage.load_bars(tmp_path, symbol, CPU)))
    whole = read(path)
    for name in BAR_COLUMNS:
        assert torch.equal(found.columns[name].nan_to_num(-7), whole.columns[name].nan_to_num(-7)), name


def test_a_volume_in_quote_currency_survives_the_files(tmp_path: Path, market_data: Path) -> None:
    path = market_data / "bars_1m" / "adabtc_binance_1m_20211127_28.parquet"
    found = loaded(run_file(path, columns={"timestamp": "open_time"}), tmp_path / "clean")
    whole = read(path, columns={"timestamp": "open_time"})
    for name in ("dollar_volume", "vwap", "volume", "close"):
        assert torch.equal(found.columns[name], whole.columns[name])


def test_what_a_run_file_must_not_say(file: Path, tmp_path: Path) -> None:
    minutes(file, "2024-01-02")
    base: dict[str, Any] = {"name": "x", "symbols": ["TEST"]}
    bars = {"source": "ohlcv", "path": str(file), "step": "5m"}
    assert check_config({**base, "ingest": {"bars": bars}}).ingest["bars"].options.step == "5min"
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"bars": {"type": "dollar", "threshold": 5}},
            r"bars\.type: of bars made by others only time bars can be made",
        ),
        ({"bars": {"type": "time", "step": "1min"}}, r"bars\.step: must be a multiple of ingest\.bars\.step \(5min\)"),
        ({"bars": {"type": "time", "step": "5min", "time": ["7min"]}}, r"bars\.time\.0: must be a multiple of"),
        ({"bars": {"type": "time", "step": "5min"}, "engine": "dask"}, r"engine\.name: bars of the stream 'bars' are"),
    ]
    for section, words in cases:
        with pytest.raises(ConfigError, match=words):
            check_config({**base, "ingest": {"bars": bars}, **section})
    both = {"bars": bars, "trades": {"source": "simulated"}}
    with pytest.raises(ConfigError, match=r"ingest\.bars: bars are made of 'trades' or of 'bars', not of both"):
        check_config({**base, "ingest": both, "bars": {"type": "time", "step": "5min"}})
    wrong = check_config({**base, "ingest": {"minutes": {**bars, "step": "1min"}}})
    with pytest.raises(InputError, match=r"ingest\.minutes: holds bars; a run has one stream of bars, and its name is"):
        _stage.write(tmp_path / "clean", wrong, CPU, Trace())
    for key, value, words in (
        ("sessions", ["9-17"], "is no session"),
        ("holidays", ["soon"], "is no date"),
        ("timezone", "Mars", "is no time zone"),
        ("label", "middle", "'open' or 'close'"),
    ):
        with pytest.raises(ConfigError, match=rf"ingest\.bars\.{key}.*{words}"):
            check_config({**base, "ingest": {"bars": {**bars, key: value}}})
