# ruff: noqa: E501 - messages are quoted whole
"""Bars made by others: against pandas on real files, and every message."""

from __future__ import annotations

import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import talib
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpu_pipeline as gp
from gpu_pipeline.core.errors import ConfigError, EnvironmentProblem, InputError
from gpu_pipeline.core.schema import BAR_COLUMNS, BAR_FLOATS, Bars

MINUTE_NS = 60_000_000_000
T_MS = 1_700_000_040_000  # 2023-11-14T22:14Z
PRICES = ["open", "high", "low", "close"]
REAL = {
    "6EH4_1m_202401.parquet": (29_996, {"timestamp": "ts"}, "0.00001", "1"),
    "adabtc_binance_1m_20211127_28.parquet": (2_880, {"timestamp": "ts"}, "1E-8", "0.1"),
    "btc_perp_ftx_1m_202112_202202.parquet": (45_031, None, "0.001", "1E-7"),
}


def read(path: Path | list[Path], **options: Any) -> Bars:
    return gp.read_bars(path, source="ohlcv", symbol="TEST", device="cpu", **options)


def frame(**columns: Any) -> dict[str, Any]:
    base = {
        "timestamp": [T_MS + 60_000 * at for at in range(4)],
        "open": [100.0, 100.5, 100.25, 99.0],
        "high": [101.0, 100.75, 100.5, 99.0],
        "low": [99.5, 100.25, 99.0, 99.0],
        "close": [100.5, 100.25, 99.0, 99.0],
        "volume": [1.5, 2.0, 0.25, 0.0],
    }
    return {name: value for name, value in {**base, **columns}.items() if value is not None}


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(frame(**columns)), path)
    return path


def write_csv(path: Path, **columns: Any) -> Path:
    pd.DataFrame(frame(**columns)).to_csv(path, index=False)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bars.parquet"


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    return tmp_path / "bars.csv"


@pytest.mark.parametrize("name", REAL)
def test_real_files_row_for_row(name: str, market_data: Path) -> None:
    rows, columns, tick, lot = REAL[name]
    path = market_data / "bars_1m" / name
    bars, theirs = read(path, columns=columns), pd.read_parquet(path)
    ours = bars.to_pandas()
    assert len(bars) == len(theirs) == rows and bars.name == "time_1min"
    for column in [*PRICES, "volume"]:
        assert ours[column].tolist() == theirs[column].astype(float).tolist()
    opened = theirs["ts"].astype("datetime64[ns, UTC]")
    assert (ours["open_timestamp"] == opened).all()
    assert (ours["close_timestamp"] == opened + pd.Timedelta("1min")).all()
    gaps = int((theirs["ts"].diff() > pd.Timedelta("1min")).sum())
    assert bars.report["gaps"] == gaps == (375 if name.startswith("6E") else 0)
    assert (bars.symbol.price_tick, bars.symbol.quantity_lot) == (Decimal(tick), Decimal(lot))


def test_a_real_bar_without_volume_and_the_volumes_that_are_float_sums(market_data: Path) -> None:
    path = market_data / "bars_1m" / "adabtc_binance_1m_20211127_28.parquet"
    bars, theirs = read(path, columns={"timestamp": "open_time"}), pd.read_parquet(path)
    empty = torch.tensor((theirs["volume"] == 0).tolist())
    assert int(empty.sum()) == 1 and bars.vwap[empty].tolist() == theirs["close"][empty.tolist()].tolist()
    assert bars.dollar_volume.tolist() == theirs["quote_volume"].tolist()
    vwap = (theirs["quote_volume"] / theirs["volume"])[(~empty).tolist()]
    assert bars.vwap[~empty].tolist() == vwap.tolist()
    assert bars.report["volumes_off_lot"] == 0

    noisy = market_data / "bars_1m" / "btc_perp_ftx_1m_202112_202202.parquet"
    repeated = [Decimal(repr(value)) for value in pd.read_parquet(noisy)["volume"].tolist()]
    off = sum(value % Decimal("1E-7") != 0 for value in repeated)
    assert read(noisy).report["volumes_off_lot"] == off == 6


def test_features_and_labels_work_on_real_bars(market_data: Path) -> None:
    bars = read(market_data / "bars_1m" / "6EH4_1m_202401.parquet")
    made = gp.make_features(bars, {"sma": {"windows": [20]}, "rsi": {"windows": [14]}}).to_pandas()
    close = bars.close.numpy()
    for name, oracle in (("sma_20", talib.SMA(close, 20)), ("rsi_14", talib.RSI(close, 14))):
        pd.testing.assert_series_equal(made[name], pd.Series(oracle, name=name), rtol=1e-9, atol=1e-9)
    labels = gp.make_labels(bars, "triple_barrier", take_profit=2.0, stop_loss=1.0, horizon_bars=100)
    assert len(labels) == len(bars) and int(labels.valid.sum()) == len(bars) - 14 - 100
    ends = set(bars.close_timestamp.tolist())
    assert set(labels.t_end[labels.valid].tolist()) <= ends


@pytest.mark.parametrize(
    ("feature", "column"),
    [("log_taker_ratio", "buy_volume"), ("trade_imbalance", "trade_imbalance")],
)
def test_features_that_need_absent_columns_are_refused(file: Path, feature: str, column: str) -> None:
    message = f"features: '{feature}' needs the column '{column}' of the bars time_1min of TEST, but the bars do not have it because their trades have no taker side"
    with pytest.raises(InputError, match=message):
        gp.make_features(read(write(file)), {feature: {}})


def test_what_the_file_does_not_tell_is_absent(file: Path) -> None:
    bars = read(write(file))
    told = {*PRICES, "volume"}
    assert tuple(bars.columns) == BAR_COLUMNS and not bars.has_side
    assert all(bool(bars.columns[name].isnan().all()) == (name not in told) for name in BAR_FLOATS)
    for name in ("num_ticks", "num_price_changes", "num_directional_changes"):
        assert bars.columns[name].tolist() == [-1] * 4
    assert bars.first_move.tolist() == bars.last_move.tolist() == [0] * 4
    assert bars.first_trade_row.tolist() == bars.last_trade_row.tolist() == [0, 1, 2, 3]
    assert not bars.is_partial.any()
    nothing = ("rows_sorted", "duplicates", "outside_sessions", "holidays", "before_start", "after_end", "after_limit")
    assert bars.report == {
        **dict.fromkeys((*nothing, "gaps", "volumes_off_lot"), 0),
        **{"rows_in": 4, "rows_out": 4, "dropped": {}, "checked": {"page checksums": 1}},
    }


@pytest.mark.parametrize("scale", [1, 1_000, 1_000_000], ids=["ms", "us", "ns"])
def test_units_of_whole_times_are_found(tmp_path: Path, scale: int) -> None:
    times = [(T_MS + 60_000 * at) * scale for at in range(4)]
    for path in (write(tmp_path / "a.parquet", timestamp=times), write_csv(tmp_path / "a.csv", timestamp=times)):
        assert read(path).open_timestamp.tolist() == [(T_MS + 60_000 * at) * 1_000_000 for at in range(4)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/Chicago"])
def test_timestamp_types_are_instants(file: Path, unit: str, zone: str | None) -> None:
    times = pa.array([T_MS + 60_000 * at for at in range(4)], pa.timestamp("ms", tz=zone)).cast(
        pa.timestamp(unit, zone)
    )
    assert read(write(file, timestamp=times)).open_timestamp.tolist()[0] == T_MS * 1_000_000


@pytest.mark.parametrize(
    "first",
    ["2023-11-14 22:14:00", "2023-11-14T22:14:00Z", "2023-11-14 22:14:00+00:00", "2023-11-14T16:14:00-06:00"],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".zip"])
def test_iso_text_in_csv(tmp_path: Path, first: str, suffix: str) -> None:
    times = [first.replace(":14:", f":{14 + at}:") for at in range(4)]
    path = tmp_path / f"bars{suffix}"
    plain = write_csv(tmp_path / "plain.csv", timestamp=times)
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain, "bars.csv")
    else:
        write_csv(path, timestamp=times)
    bars = read(path)
    assert bars.open_timestamp.tolist() == [(T_MS + 60_000 * at) * 1_000_000 for at in range(4)]
    assert bars.close.tolist() == frame()["close"] and bars.volume.tolist() == frame()["volume"]


def test_a_label_at_the_close_moves_the_bar(file: Path) -> None:
    opened, closed = read(write(file)), read(file, label="close")
    assert opened.close_timestamp.tolist() == [time + MINUTE_NS for time in opened.open_timestamp.tolist()]
    assert closed.close_timestamp.tolist() == opened.open_timestamp.tolist()
    assert closed.open_timestamp.tolist() == [time - MINUTE_NS for time in opened.open_timestamp.tolist()]


def test_duplicates_keep_the_last_and_gaps_stay(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", timestamp=[T_MS, T_MS, T_MS + 60_000, T_MS + 240_000])
    second = write(tmp_path / "b.parquet", timestamp=[T_MS + 240_000 + 60_000 * at for at in range(4)])
    bars, joined = read(first), read(tmp_path)
    assert bars.close.tolist() == [100.25, 99.0, 99.0] and bars.first_trade_row.tolist() == [0, 1, 2]
    assert (bars.report["rows_in"], bars.report["rows_out"], bars.report["duplicates"]) == (4, 3, 1)
    assert torch.diff(bars.open_timestamp).tolist() == [MINUTE_NS, 3 * MINUTE_NS] and bars.report["gaps"] == 1
    assert joined.close.tolist() == [100.25, 99.0, *read(second).close.tolist()] and joined.report["duplicates"] == 2
    assert joined.first_trade_row.tolist() == list(range(6))


def test_start_and_end_cut_by_the_open(file: Path) -> None:
    bars = read(write(file), start="2023-11-14T22:15", end="2023-11-14T22:17")
    assert bars.close.tolist() == [100.25, 99.0] and bars.first_trade_row.tolist() == [0, 1]
    assert (bars.report["before_start"], bars.report["after_end"]) == (1, 1)
    with pytest.raises(
        InputError, match=r"^TEST: no bars are left \(.*'before_start': 4.*\); check path, start and end$"
    ):
        read(file, start="2024-01-01")


def test_other_names_and_a_volume_in_quote_currency(file: Path) -> None:
    quote = [150.0, 201.0, 25.0, 0.0]
    write(file, close=None, c=frame()["close"], quoteVolume=quote)
    bars = read(file, columns={"close": "c"}, multiplier=2)
    assert bars.dollar_volume.tolist() == quote
    assert bars.vwap.tolist() == [150.0 / 3.0, 201.0 / 4.0, 25.0 / 0.5, 99.0]
    without = read(file, columns={"close": "c", "quote_volume": None})
    assert bool(without.dollar_volume.isnan().all()) and bool(without.vwap.isnan().all())
    inverse = read(file, columns={"close": "c"}, inverse=True)
    assert inverse.dollar_volume.tolist() == quote and bool(inverse.vwap.isnan().all())


def test_decimals_whole_numbers_and_float32_are_the_same_bars(tmp_path: Path) -> None:
    plain = read(write(tmp_path / "a.parquet"))
    for kind in (pa.float32(), pa.decimal128(20, 6)):
        values = {name: pa.array(frame()[name]).cast(kind) for name in [*PRICES, "volume"]}
        other = read(write(tmp_path / "b.parquet", **values))
        assert all(torch.equal(other.columns[name], plain.columns[name]) for name in [*PRICES, "volume"])
        assert other.symbol == plain.symbol
    tenths = [0.1, 0.2, 0.3, 0.7]
    narrow = read(write(tmp_path / "c.parquet", volume=pa.array(tenths, pa.float32())))
    assert narrow.volume.tolist() == tenths


def test_scales_that_are_known_are_used(file: Path) -> None:
    bars = read(write(file), price_tick="0.25", quantity_lot=0.5)
    assert (bars.symbol.price_tick, bars.symbol.quantity_lot) == (Decimal("0.25"), Decimal("0.5"))
    assert bars.close.tolist() == frame()["close"]
    assert bars.volume.tolist() == frame()["volume"] and bars.report["volumes_off_lot"] == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 10**9)] * 2, st.integers(1, 5)), min_size=1, max_size=20), st.integers(0, 9))
def test_prices_come_back_as_the_decimals_they_are(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], places: int
) -> None:
    low = [float(Decimal(min(a, b)).scaleb(-places)) for a, b, _ in rows]
    high = [float(Decimal(max(a, b)).scaleb(-places)) for a, b, _ in rows]
    times = [T_MS + 60_000 * sum(gap for *_, gap in rows[: at + 1]) for at in range(len(rows))]
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    write(path, timestamp=times, open=low, low=low, high=high, close=high, volume=[1] * len(rows))
    bars = read(path)
    assert bars.open.tolist() == bars.low.tolist() == low and bars.close.tolist() == bars.high.tolist() == high
    assert bars.report["gaps"] == sum(gap > 1 for *_, gap in rows[1:])


BAD = {
    "no number": (
        {"open": [100.0, None, 100.25, 99.0]},
        "row 2: open must be a number (value nan); mend the file, or set on_bad_row: drop",
    ),
    "nan": (
        {"low": [99.5, 100.25, 99.0, float("nan")]},
        "row 4: low must be a number (value nan); mend the file, or set on_bad_row: drop",
    ),
    "infinite": (
        {"high": [float("inf"), 101.0, 101.0, 99.0]},
        "row 1: high must be finite (value inf); mend the file, or set on_bad_row: drop",
    ),
    "zero": (
        {"close": [100.5, 100.25, 0.0, 99.0]},
        "row 3: close must be above 0 (value 0.0); mend the file, or set on_bad_row: drop",
    ),
    "whole": (
        {"open": [-100, 100, 100, 99]},
        "row 1: open must be above 0 (value '-100'); mend the file, or set on_bad_row: drop",
    ),
    "volume": (
        {"volume": [1.0, -2.5, 1.0, 1.0]},
        "row 2: volume must not be negative (value -2.5); mend the file, or set on_bad_row: drop",
    ),
    "quote": (
        {"quote_volume": [1.0, 1.0, 1.0, None]},
        "row 4: quote_volume must be a number (value nan); mend the file, or set on_bad_row: drop",
    ),
    "low": (
        {"low": [99.5, 100.375, 99.0, 99.0]},
        "row 2: open and close must lie between low and high (value 'open 100.5, high 100.75, low 100.375, close 100.25'); mend the file, or set on_bad_row: drop",
    ),
    "high": (
        {"high": [101.0, 100.75, 100.125, 99.0]},
        "row 3: open and close must lie between low and high (value 'open 100.25, high 100.125, low 99.0, close 99.0'); mend the file, or set on_bad_row: drop",
    ),
    "no time": (
        {"timestamp": [T_MS, None, T_MS + 60_000, T_MS + 120_000]},
        "row 2: a bar needs a time in the file's unit (value 'empty'); mend the file, or set on_bad_row: drop",
    ),
    "another unit": (
        {"timestamp": [T_MS, T_MS * 1000, T_MS + 60_000, T_MS + 120_000]},
        f"row 2: a bar needs a time in the file's unit (value '{T_MS * 1000} in a file of ms'); mend the file, or set on_bad_row: drop",
    ),
    "seconds": (
        {"timestamp": [1_700_000_040 + 60 * at for at in range(4)]},
        "row 1: timestamp is no time in ms, us or ns since 1970 (1973 or later) (value 1700000040); map timestamp to the right column, or convert it",
    ),
    "too near": (
        {"timestamp": [T_MS, T_MS + 30_000, T_MS + 60_000, T_MS + 90_000]},
        "row 2: the bar begins 30s after the one before, but step is 1min (value '2023-11-14T22:14:30Z'); set step to the length of the bars",
    ),
    "missing": (
        {"high": None, "volume": None},
        "has no column for high and volume; its columns are timestamp, open, low, close; name it under columns, for example columns: {high: COLUMN}",
    ),
    "two": (
        {"ts": [1, 2, 3, 4]},
        "columns timestamp and ts could both be timestamp; name one under columns, for example columns: {timestamp: timestamp}",
    ),
    "text": (
        {"timestamp": ["a", "b", "c", "d"]},
        "column for timestamp holds text values; it needs whole numbers in ms, us or ns since 1970, or a timestamp type; map timestamp to another column, or to null where it is optional",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(file: Path, case: str) -> None:
    columns, message = BAD[case]
    with pytest.raises(InputError) as raised:
        read(write(file, **columns))
    assert str(raised.value) in (f"{file}, {message}", f"{file}: {message}")


def test_the_scale_is_kept_or_the_row_named(file: Path) -> None:
    with pytest.raises(InputError) as raised:
        read(write(file), price_tick="0.5")
    assert (
        str(raised.value)
        == f"{file}, row 3: open is no multiple of the step 0.5 (value 100.25); mend the file, or set a finer price_tick"
    )
    noisy = [100.0, 100.5, 100.25, 99.0 + 2**-44]
    with pytest.raises(InputError) as raised:
        read(write(file, open=noisy, high=[101.0, 101.0, 101.0, 101.0]))
    assert str(raised.value).startswith(f"{file}, row 4: open has more digits than float64 holds at the step 0.0")
    assert str(raised.value).endswith("; mend the file, or set price_tick")


def test_later_files_name_their_own_rows(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.parquet"), write(tmp_path / "b.parquet", quote_volume=[1.0] * 4)
    later = write(tmp_path / "c.parquet", timestamp=[T_MS + 60_000 * at for at in (4, 5, 6, 5)])
    assert read([first, later]).report["rows_sorted"] == 1
    sorted_later = write(tmp_path / "d.parquet", timestamp=[T_MS + 60_000 * at for at in range(4, 8)])
    with pytest.raises(InputError) as raised:
        read([sorted_later, first])
    assert str(raised.value).startswith(
        f"{first}, row 1: begins at 2023-11-14T22:14Z, before {sorted_later} ended at 2023-11-14T22:21Z; give the files in order and without overlap"
    )
    assert len(read([first, sorted_later])) == 8
    with pytest.raises(InputError) as raised:
        read([first, second])
    assert (
        str(raised.value)
        == f"{second}: has the column quote_volume, unlike the files before it; read such files apart, or map the column to null"
    )
    with pytest.raises(InputError) as raised:
        read([second, first])
    assert str(raised.value).startswith(f"{first}: lacks the column quote_volume, unlike the files before it")
    for column, way in (("timestamps", "did you mean 'timestamp'?"), ("q", f"its columns are {', '.join(frame())}")):
        with pytest.raises(InputError) as raised:
            read(first, columns={"timestamp": column})
        assert str(raised.value) == f"{first}: columns.timestamp: the file has no such column (value '{column}'); {way}"


def test_csv_faults_name_the_row(text_file: Path) -> None:
    good = "ts,open,high,low,close,volume\n2023-11-14T22:14Z,1,1,1,1,1\n"
    cases = {
        good + "2023-11-14T22:15Z,1,x,1,1,1\n": f"{text_file}, row 2: column high holds no number (value 'x'); ",
        good
        + "2023-11-14T22:15Z,1,1\n": f"{text_file}, row 2: has 3 columns where 6 are due (value '2023-11-14T22:15Z,1,1'); ",
        good
        + "yesterday,1,1,1,1,1\n": f"{text_file}, row 2: timestamp must be an ISO 8601 time with a zone, like the first one (value 'yesterday'); mend the file",
        good.replace("Z", "")
        + "2023-11-14T22:15Z,1,1,1,1,1\n": f"{text_file}, row 2: timestamp must be an ISO 8601 time without a zone, like the first one (value '2023-11-14T22:15Z'); mend the file",
        good
        + ",1,1,1,1,1\n": f"{text_file}, row 2: a bar needs a time in the file's unit (value 'empty'); mend the file, or set on_bad_row: drop",
        good
        + "2023-11-14T22:15Z,1,1,1,1,\n": f"{text_file}, row 2: volume must be a number (value nan); mend the file",
        f"{T_MS},1,1,1,1,1\n": f"{text_file}: has no header (value '{T_MS},1,1,1,1,1'); write the names of the columns into its first line",
        "": f"{text_file}: is empty; download it again",
        "ts,open,high,low,close,volume\n": f"ingest.bars: source 'ohlcv' holds nothing for TEST in {text_file}",
    }
    for content, message in cases.items():
        text_file.write_text(content)
        with pytest.raises(InputError) as raised:
            read(text_file)
        assert str(raised.value).startswith(message)


def test_damaged_and_other_files(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "bars.txt"
    other.write_text("x")
    file.write_bytes(b"PAR1" + bytes(40))
    packed = tmp_path / "bars.zip"
    packed.write_bytes(b"PK")
    for path, message in (
        (other, f"{other}: is neither Parquet nor CSV; its name must end in .parquet, .pq, .parq, .csv, .csv.gz, .zip"),
        (file, f"{file}: cannot be read as Parquet: "),
        (packed, f"{packed}: cannot be unpacked: "),
        (tmp_path / "none.csv", f"{tmp_path / 'none.csv'}: no such file or folder; "),
    ):
        with pytest.raises(InputError) as raised:
            read(path)
        assert str(raised.value).startswith(message)


def test_wrong_arguments(file: Path) -> None:
    write(file)
    with pytest.raises(InputError, match=r"^read_bars: no source of bars 'parquet'; there is ohlcv$"):
        gp.read_bars(file, source="parquet", symbol="TEST")
    for options, words in (
        ({"step": "soon"}, "read_bars: step: .*'soon' is not a duration"),
        ({"step": "0min"}, "read_bars: step: .*step must be longer than 0"),
        ({"label": "middle"}, "read_bars: label: .*middle"),
        ({"columns": {"price": "p"}}, "read_bars: columns.*price"),
        ({"start": "then"}, "read_bars: start: .*then"),
        ({"price_tik": 1}, "read_bars: price_tik: .*did you mean 'price_tick'"),
    ):
        with pytest.raises(ConfigError, match=words):
            read(file, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a machine without CUDA")
def test_a_device_that_is_not_there_is_no_silent_fallback(file: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="'cuda' was asked for"):
        gp.read_bars(write(file), symbol="TEST", device="cuda")
