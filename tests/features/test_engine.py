"""What a row sees of the other resolutions, by hand; and what the engine refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Bars
from gpu_pipeline.features import _audit
from gpu_pipeline.features._columns import read_columns
from gpu_pipeline.features._make import make_features
from gpu_pipeline.features._set import read_set
from gpu_pipeline.features.engine import Engine, suffix
from tests.features.factory import SYMBOL, market, plain_bars, random_tape

NAN = math.nan


def bars_of(name: str, closes: list[float], times: list[int], rows: list[int]) -> Bars:
    """Bars that close at these times (ns) and trade rows; the close says which is which."""
    closed, last = torch.tensor(times), torch.tensor(rows)
    price = torch.tensor(closes, dtype=torch.float64)
    columns = {
        "open_timestamp": closed - 1,
        "close_timestamp": closed,
        "first_trade_row": last,
        "last_trade_row": last,
        "close": price,
        "open": price,
        "is_partial": torch.zeros(len(rows), dtype=torch.bool),
    }
    return Bars(SYMBOL, name, columns)


def seen(tables: dict[str, Bars], resolution: str) -> list[float]:
    features = make_features(tables, {"sma": {"windows": [1], "on": [resolution]}})
    assert features.names == (f"sma_1{suffix(resolution)}",)
    return features.values[:, 0].tolist()


def same(ours: list[float], wanted: list[float]) -> bool:
    return len(ours) == len(wanted) and all(a == b or (a != a and b != b) for a, b in zip(ours, wanted, strict=True))


def test_trade_bars_are_seen_by_trade_row_even_where_all_times_are_equal() -> None:
    short = bars_of("short", [1, 2, 3, 4, 5, 6], [50] * 6, [3, 7, 8, 12, 15, 20])
    medium = bars_of("medium", [70, 80, 90], [50] * 3, [7, 13, 21])
    tables = {"short": short, "medium": medium}
    assert same(seen(tables, "medium"), [NAN, 70, 70, 70, 80, 80])


def test_a_time_bar_that_ends_at_t_is_seen_by_the_bar_that_closes_at_exactly_t() -> None:
    short = bars_of("short", [1, 2, 3, 4, 5], [90, 99, 100, 100, 205], [0, 1, 2, 3, 9])
    minute = bars_of("time_1min", [10, 20], [100, 200], [1, 6])
    assert same(seen({"short": short, "1min": minute}, "1min"), [NAN, NAN, 10, 10, 20])


def test_several_longer_bars_between_two_short_ones_leave_the_last() -> None:
    short = bars_of("short", [1, 2], [10, 500], [0, 90])
    minute = bars_of("time_1min", [10, 20, 30], [100, 200, 600], [20, 40, 80])
    assert same(seen({"short": short, "1min": minute}, "1min"), [NAN, 20])


def test_rows_wait_in_the_state_until_a_short_bar_sees_them() -> None:
    tables = {
        "short": bars_of("short", [1, 2, 3], [10, 20, 30], [5, 6, 30]),
        "medium": bars_of("medium", [70, 80, 90], [10, 20, 30], [6, 20, 30]),
    }
    engine = Engine(read_set({"sma": {"windows": [1], "on": "medium"}}), tuple(tables))
    assert not _audit.check_chunks(engine, tables, [5, 6, 19, 20, 25])
    assert same(_audit.run_chunks(engine, tables, [20, 25])[:, 0].tolist(), [NAN, 70, 90])


def test_no_row_of_another_resolution_at_all() -> None:
    short = bars_of("short", [1, 2], [10, 20], [5, 6])
    assert same(seen({"short": short, "medium": short.select(slice(0, 0))}, "medium"), [NAN, NAN])


def test_warmup_of_a_longer_resolution_lasts_until_its_own_rows_are_enough() -> None:
    tables = market(random_tape(1500, seed=4, minutes=15), threshold=15_000)
    features = make_features(tables, {"sma": {"windows": [3], "on": ["medium"]}})
    first = int((~torch.isnan(features.values[:, 0])).nonzero()[0])
    assert features.last_trade_row[first] == tables["medium"].last_trade_row[2]
    assert dict(features.warmup) == {"sma_3_db_m": 2}


def test_rows_stand_beside_the_short_bars_and_are_known_at_their_close() -> None:
    tables = market(random_tape(1500, seed=4, minutes=15), threshold=15_000)
    features = make_features(tables, {"return": {"windows": [1]}, "sma": {"windows": [2], "on": ["short"]}})
    assert features.names == ("return_1_db_s", "sma_2_db_s", "return_1_db_m", "return_1_db_l", "return_1_tb_1min")
    assert features.levels == ("sma_2_db_s",)
    assert torch.equal(features.known_ns, tables["short"].close_timestamp)
    assert torch.equal(features.time_ns, features.known_ns)
    assert torch.equal(features.last_trade_row, tables["short"].last_trade_row)


def test_partial_bars_make_no_row_and_move_no_state() -> None:
    whole = plain_bars([1.0, 2.0, 4.0, 8.0, 16.0])
    with_rest = replace(whole, columns={**whole.columns, "is_partial": torch.tensor([False, False, True, False, True])})
    wanted = make_features(whole.select(torch.tensor([0, 1, 3])), {"return": {"windows": [1]}})
    assert (
        make_features(with_rest, {"return": {"windows": [1]}}).values[1:].tolist()
        == wanted.values[1:].tolist()
        == [[1.0], [3.0]]
    )


def test_one_table_of_bars_gives_no_suffix_and_every_feature_of_the_set() -> None:
    features = make_features(plain_bars([1.0, 2.0]), {"return": {"windows": [1], "on": ["15min"]}, "body_ratio": {}})
    assert features.names == ("return_1", "body_ratio")
    assert list(features.to_pandas().columns) == ["return_1", "body_ratio"]


def test_suffixes() -> None:
    names = ("short", "medium", "long", "huge", "1min", "4hour")
    assert [suffix(name) for name in names] == ["_db_s", "_db_m", "_db_l", "_db_huge", "_tb_1min", "_tb_4hour"]


def test_include_keeps_some_columns_and_computes_no_other(tmp_path: object) -> None:
    bars = plain_bars([1.0, 2.0, 3.0])
    wanted = {"sma": {"windows": [2, 3]}, "trade_imbalance": {}}
    features = make_features(bars, wanted, include=["sma_3"])
    assert features.names == ("sma_3",)
    with pytest.raises(InputError, match=r"features.include: no column 'sma_33'; did you mean 'sma_3'\?"):
        make_features(bars, wanted, include=["sma_33"])


def test_a_missing_resolution_is_named() -> None:
    engine = Engine(read_set({"return": {"windows": [1]}}), ("short", "medium"))
    with pytest.raises(InputError, match="features: no bars of the resolution 'medium'; there are short"):
        engine.step({"short": plain_bars([1.0])}, engine.start(torch.device("cpu")))


def test_a_resolution_that_the_run_lacks_is_named_with_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"'return' is wanted on 'mediun', but there are short, medium; did you mean 'medium'"
    ):
        Engine(read_set({"return": {"windows": [1], "on": ["mediun"]}}), ("short", "medium"))
    with pytest.raises(InputError, match="the set makes no column for the resolutions short"):
        Engine(read_set({"return": {"windows": [1], "on": ["time"]}}), ("short",))
    with pytest.raises(InputError, match="features of several resolutions need suffixes"):
        Engine(read_set({"hour": {}}), ("short", "medium"), suffixes=False)


def test_a_column_that_bars_lack_is_an_error_that_names_the_feature() -> None:
    bars = plain_bars([1.0, 2.0])
    with pytest.raises(
        InputError, match=r"'vwap_distance' needs the column 'vwap' of the bars dollar_plain of TESTUSDT"
    ):
        make_features(bars, {"vwap_distance": {}})
    gap = replace(bars, columns={**bars.columns, "vwap": torch.tensor([1.0, NAN], dtype=torch.float64)})
    with pytest.raises(InputError, match=r"'vwap_distance' needs .* it has no value at row 1 of this chunk"):
        make_features(gap, {"vwap_distance": {}})
    count = replace(bars, columns={**bars.columns, "num_ticks": torch.tensor([-1, -1])})
    with pytest.raises(InputError, match=r"'turn' needs the column 'first_move' .* it has no value at row 0"):
        signs = {name: torch.tensor([-1, 0]) for name in ("first_move", "num_directional_changes")}
        read_columns(replace(bars, columns={**bars.columns, **signs}), {"first_move": ["turn"]})
    with pytest.raises(InputError, match="'log_num_ticks' needs the column 'num_ticks'"):
        make_features(count, {"log_num_ticks": {}})


def test_bars_without_a_taker_side_refuse_the_features_of_it() -> None:
    tables = market(random_tape(300, seed=4, minutes=5), threshold=15_000)
    sideless = replace(tables["short"], has_side=False)
    with pytest.raises(InputError, match=r"'log_taker_ratio' needs .* because their trades have no taker side"):
        make_features(sideless, {"log_taker_ratio": {}})


def test_bars_that_do_not_say_at_which_trade_they_closed_cannot_be_aligned() -> None:
    short = plain_bars([1.0, 2.0])
    unknown = replace(short, columns={**short.columns, "last_trade_row": torch.tensor([-1, -1])})
    with pytest.raises(InputError, match="do not say at which trade they closed"):
        make_features({"short": unknown, "medium": unknown}, {"return": {"windows": [1]}})
    assert make_features({"short": unknown, "1min": unknown}, {"return": {"windows": [1]}}).values.shape == (2, 2)
