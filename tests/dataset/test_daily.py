"""The long-term channel against pandas and scipy: closed days alone, any chunking, nothing of a later day."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Trades
from gpu_pipeline.core.units import DAY_NS
from gpu_pipeline.dataset._daily import COLUMNS, daily_rows, read_days
from gpu_pipeline.dataset._make import Sources, make_dataset
from gpu_pipeline.dataset.data import check_dataset, load_dataset
from tests.dataset.market import CPU, S, config, market, symbol, write

STEP_NS = 5 * 60 * S
FIRST_DAY = 18_000


def section(**keys):
    return StreamSection.model_validate({"from": "daily", "window": 2, **keys})


def trades_of(name, times, prices, lots):
    columns = {"time_ns": times, "price_ticks": prices, "quantity_lots": lots}
    table = {key: torch.tensor(np.asarray(values), dtype=torch.int64) for key, values in columns.items()}
    nothing = torch.empty(0, dtype=torch.int64)
    return Trades(symbol(name), notional=nothing, trade_id=nothing, is_buyer_maker=nothing.bool(), **table)


def walk(name, seed, days=6, each=400, without=(), begin_ns=0):
    """Trades at random times of each day, from `begin_ns` after the first midnight on."""
    draw = np.random.default_rng(seed)
    times = [
        (FIRST_DAY + day) * DAY_NS + np.sort(draw.integers(0, DAY_NS, each))
        for day in range(days)
        if day not in without
    ]
    time_ns = np.concatenate(times)
    time_ns = time_ns[time_ns >= FIRST_DAY * DAY_NS + begin_ns]
    prices = 20_000 + np.cumsum(draw.integers(-9, 10, len(time_ns)))
    return trades_of(name, time_ns, prices, draw.integers(1, 5_000, len(time_ns)))


def with_first(trades, day=FIRST_DAY):
    """The same with a trade in the first second of a day: its record begins with this day."""
    rows = [torch.tensor([value]) for value in (day * DAY_NS + S, 20_000, 3)]
    named = ("time_ns", "price_ticks", "quantity_lots")
    return replace(
        trades, **{key: torch.cat((row, getattr(trades, key))) for key, row in zip(named, rows, strict=True)}
    )


def rows_of(*feeds, until_ns=-1, **keys):
    asked = section(**keys)
    days = [read_days(feed.symbol, [feed], asked, CPU) for feed in feeds]
    return daily_rows("days", asked, days, until_ns)


def by_pandas(trades, day, step="5min"):
    """The statistics of one day from its trades."""
    frame = pd.DataFrame({key: getattr(trades, key).numpy() for key in ("time_ns", "price_ticks", "quantity_lots")})
    frame = frame[frame.time_ns // DAY_NS == day]
    if frame.empty:
        return [math.nan] * 4 + [0.0, math.nan]
    closes = frame.set_index(pd.to_datetime(frame.time_ns)).price_ticks.resample(step).last().dropna()
    prices = np.concatenate(([frame.price_ticks.iloc[0]], closes.to_numpy()))
    returns = pd.Series(np.diff(np.log(prices)))
    moments = scipy.stats.skew(returns), scipy.stats.kurtosis(returns)
    volume = math.log1p(int(frame.quantity_lots.sum()))
    return [returns.mean(), returns.std(ddof=0), *moments, volume, math.sqrt((returns**2).sum())]


@pytest.mark.parametrize("step", ["5min", "1hour", "45min", "1min"])
def test_every_day_is_what_pandas_and_scipy_say(step):
    trades = with_first(walk("AAA", 1, without=(2,)))
    rows = rows_of(trades, returns=step)
    assert rows.columns == COLUMNS
    assert rows.time_ns.tolist() == [(FIRST_DAY + day + 1) * DAY_NS for day in range(5)]
    wanted = [by_pandas(trades, FIRST_DAY + day, step.replace("hour", "h")) for day in range(5)]
    np.testing.assert_allclose(rows.values.numpy(), wanted, rtol=1e-9, atol=1e-15)
    assert rows.values[2].isnan().tolist() == [True, True, True, True, False, True]
    assert rows.missing_cells == {"AAA": 1}


def test_equal_prices_have_no_spread_and_one_trade_is_a_day():
    times = [FIRST_DAY * DAY_NS + 1, FIRST_DAY * DAY_NS + 40 * STEP_NS, (FIRST_DAY + 1) * DAY_NS]
    rows = rows_of(trades_of("AAA", times, [50, 50, 60], [1, 1, 9]), until_ns=(FIRST_DAY + 2) * DAY_NS)
    assert rows.values.tolist() == [[0, 0, 0, 0, math.log(3), 0], [0, 0, 0, 0, math.log(10), 0]]


def test_a_day_is_known_at_its_end_and_no_day_is_shown_before_it_has_closed():
    trades = with_first(walk("AAA", 1, days=3))
    last = int(trades.time_ns[-1])
    assert rows_of(trades).known_ns.tolist() == [(FIRST_DAY + day) * DAY_NS for day in (1, 2)]
    assert rows_of(trades, latency="1hour").known_ns[0] == (FIRST_DAY + 1) * DAY_NS + 3600 * S
    end = (FIRST_DAY + 3) * DAY_NS
    assert len(rows_of(trades, until_ns=end - 1)) == 2 and last < end
    assert len(rows_of(trades, until_ns=end)) == 3
    other = with_first(walk("BBB", 2, days=5))
    assert rows_of(trades, other).offsets == (0, 4, 8)


def test_a_record_that_begins_within_a_day_begins_with_the_next():
    late = walk("AAA", 1, days=4, begin_ns=STEP_NS)
    assert rows_of(late).time_ns.tolist() == [(FIRST_DAY + day) * DAY_NS for day in (2, 3)]
    whole = with_first(walk("BBB", 2, days=4))
    shown = rows_of(whole, late, assets="all").values.reshape(3, 6, 2)
    assert shown[0, :, 1].isnan().all() and shown[1:].isfinite().all() and shown[0, :, 0].isfinite().all()


def test_an_asset_that_never_traded_is_unknown_on_every_day():
    """Not a day of volume 0: that there was no trade is not known of a record that never began."""
    silent = cut(walk("BBB", 2), slice(0, 0))
    rows = rows_of(with_first(walk("AAA", 1)), silent, assets="all")
    assert len(rows) == 5 and rows.values.reshape(5, 6, 2)[:, :, 1].isnan().all()
    assert rows_of(with_first(walk("AAA", 1)), silent).offsets == (0, 5, 5)
    assert len(rows_of(silent)) == 0


def test_assets_stand_side_by_side_as_they_are_alone():
    one, other = with_first(walk("AAA", 1, days=5)), with_first(walk("BBB", 2, days=3))
    rows = rows_of(one, other, assets="all")
    assert rows.columns[:3] == ("return_mean_AAA", "return_mean_BBB", "return_std_AAA")
    assert (rows.symbol_id == -1).all() and rows.offsets == (0, 4) and not rows.missing.any()
    pooled = rows_of(one, other).values.reshape(2, 4, 6)
    for asset in range(2):
        assert torch.equal(rows.values.reshape(4, 6, 2)[:, :, asset].nan_to_num(-7), pooled[asset].nan_to_num(-7))
    # The second asset is silent from its fourth day on: no trades, no statistics.
    assert pooled[1, 3].isnan().tolist() == [True, True, True, True, False, True] and float(pooled[1, 3, 4]) == 0
    assert rows.missing_cells == {"AAA": 0, "BBB": 1}


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 1300), max_size=8), step=st.sampled_from(["5min", "1hour"]))
def test_any_chunking_gives_the_same_bits(cuts, step):
    trades = with_first(walk("AAA", 5, days=4, each=300, without=(1,)))
    edges = [0, *sorted(min(cut, len(trades)) for cut in cuts), len(trades)]
    chunks = [cut(trades, slice(a, b)) for a, b in itertools.pairwise(edges)]
    asked = section(returns=step)
    parts = [read_days(trades.symbol, iter(pieces), asked, CPU) for pieces in ([trades], chunks)]
    whole, joined = (daily_rows("days", asked, [part], -1).values.numpy().tobytes() for part in parts)
    assert joined == whole


def cut(trades, rows):
    return replace(trades, **{key: getattr(trades, key)[rows] for key in ("time_ns", "price_ticks", "quantity_lots")})


@settings(max_examples=20, deadline=None)
@given(day=st.integers(0, 5), assets=st.sampled_from(["own", "all"]), gone=st.booleans(), seed=st.integers(0, 9))
def test_altering_the_trades_of_a_day_changes_no_row_known_before_its_end(day, assets, gone, seed):
    feeds = [with_first(walk("AAA", seed)), with_first(walk("BBB", seed + 50))]
    own = feeds[1].time_ns // DAY_NS == FIRST_DAY + day
    own[0] = False
    if gone:
        altered = cut(feeds[1], ~own)
    else:
        prices = torch.where(own, feeds[1].price_ticks * 3 + 1, feeds[1].price_ticks)
        altered = replace(feeds[1], price_ticks=prices, quantity_lots=torch.where(own, 77, feeds[1].quantity_lots))
    whole, changed = rows_of(*feeds, assets=assets), rows_of(feeds[0], altered, assets=assets)
    assert torch.equal(whole.known_ns, changed.known_ns)
    end_ns = (FIRST_DAY + day + 1) * DAY_NS
    same = (whole.values == changed.values) | (whole.values.isnan() & changed.values.isnan())
    assert same[whole.known_ns < end_ns].all()
    assert same[whole.known_ns > end_ns].all(), "a day is a function of its own trades"
    assert bool(same[whole.known_ns == end_ns].all()) == (day == 5)


@pytest.mark.parametrize(("keep", "closed"), [(1, 2), (3, 3), (5, 5)])
def test_a_cut_history_gives_the_beginning_of_the_whole(keep, closed):
    """One trade behind the cut tells that the days before it have closed; on the second day there are none."""
    trades = with_first(walk("AAA", 3, without=(1,)))
    part = rows_of(cut(trades, slice(0, int((trades.time_ns < (FIRST_DAY + keep) * DAY_NS).sum()) + 1)))
    whole = rows_of(trades)
    assert len(part) == closed
    assert part.values.numpy().tobytes() == whole.values[: len(part)].numpy().tobytes()


def days_market(names=("AAA", "BBB"), rows=400):
    """A market of several days: the tables of `market` at half-hourly steps, and trades of the same time."""
    source = market(names, rows=rows)
    start = FIRST_DAY * DAY_NS
    features, depth, labels = {}, {}, {}
    for name, one in source.features.items():
        times = start + one.time_ns * 180
        features[name] = replace(one, time_ns=times, known_ns=times)
        label = source.labels["up"][name]
        labels[name] = replace(label, t_end=torch.where(label.valid, start + label.t_end * 180, -1))
        book = source.depth[name]
        depth[name] = replace(book, time_ns=start + book.time_ns * 180, known_ns=start + book.known_ns * 180)
    days = int(max(one.time_ns[-1] for one in features.values()) - start) // DAY_NS + 1
    feeds = {name: [with_first(walk(name, 7 + k, days=days, without=(3,)))] for k, name in enumerate(names)}
    return type(source)(symbols=source.symbols, features=features, labels={"up": labels}, depth=depth, trades=feeds)


def run(**keys):
    streams = {"bars": {"from": "features", "window": 8}, "days": {"from": "daily", "window": 3, **keys}}
    return config(streams=streams)


def of_market(source, asked):
    sources = Sources(
        lambda one: source.features[one.name],
        lambda one, name: source.labels[name][one.name],
        lambda one: source.depth[one.name],
        lambda one: iter(source.trades[one.name]),
    )
    return make_dataset(asked, list(source.symbols.values()), sources)


@pytest.mark.parametrize("assets", ["own", "all", ["BBB"]])
def test_a_sample_sees_the_last_closed_days_strictly_before_its_decision(assets):
    dataset, fitted = of_market(days_market(), run(assets=assets))
    check_dataset(dataset)
    days = dataset.streams["days"]
    assert len(days.columns) == {"own": 6, "all": 12}.get(str(assets), 6)
    for decision, row, asset in zip(dataset.known_ns, dataset.index[:, 1], dataset.symbol_id, strict=True):
        assert int(days.known_ns[row]) == int((decision - 1) // DAY_NS) * DAY_NS
        assert int(days.symbol_id[row]) == (int(asset) if assets == "own" else -1)
    assert torch.isfinite(days.values).all()
    said = dataset.manifest["streams"]["days"]
    assert (said["returns"], said["window"]) == ("5min", 3)
    assert said["days_without_trades"] == dict.fromkeys(["BBB"] if assets == ["BBB"] else ["AAA", "BBB"], 1)
    assert fitted["days"].imputed == ()


def test_a_decision_at_midnight_does_not_see_the_day_that_ends_then():
    source = days_market(("AAA",))
    one = source.features["AAA"]
    at = int((one.time_ns >= (FIRST_DAY + 5) * DAY_NS).nonzero()[0])
    times = one.time_ns.clone()
    times[at] = (FIRST_DAY + 5) * DAY_NS
    source.features["AAA"] = replace(one, time_ns=times, known_ns=times)
    dataset, _ = of_market(source, run())
    sample = int((dataset.row == at).nonzero()[0])
    assert int(dataset.streams["days"].known_ns[dataset.index[sample, 1]]) == (FIRST_DAY + 4) * DAY_NS


def test_days_after_the_training_part_change_nothing_that_is_fitted():
    source = days_market()
    dataset, fitted = of_market(source, run(assets="all"))
    border = int(dataset.known_ns[dataset.parts["train"]].max())
    feeds = {}
    for name, (feed,) in source.trades.items():
        later = feed.time_ns >= border // DAY_NS * DAY_NS
        feeds[name] = [replace(feed, quantity_lots=torch.where(later, feed.quantity_lots * 50, feed.quantity_lots))]
    other, again = of_market(type(source)(**{**vars(source), "trades": feeds}), run(assets="all"))
    assert again["days"].to_json() == fitted["days"].to_json()
    before = dataset.streams["days"].known_ns <= border
    assert torch.equal(other.streams["days"].values[before], dataset.streams["days"].values[before])
    assert not torch.equal(other.streams["days"].values, dataset.streams["days"].values)


def test_it_is_written_and_read_back(tmp_path):
    source = days_market()
    output = write(tmp_path, source, run(assets="all"))
    dataset, _ = of_market(source, run(assets="all"))
    again = load_dataset(output.path, CPU)
    assert torch.equal(again.streams["days"].values, dataset.streams["days"].values)
    assert again.manifest["streams"]["days"]["assets"] == ["AAA", "BBB"]


def test_too_few_days_are_told():
    with pytest.raises(InputError, match=r"window not full \d+.*use more data or a shorter window"):
        of_market(days_market(), config(streams=run().dataset.streams | {"days": section(window=90)}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"returns": "7min"}, r"returns: the step must divide a day, for example 5min .value 7min"),
        ({"returns": "0s"}, "a step must be longer than 0"),
        ({"levels": {"min_nonzero": 3}}, "levels needs 'from: book'"),
        ({"normalise": "level"}, "normalise needs 'from: book'"),
        ({"assets": "all", "reference": "AAA"}, "reference needs 'from: book'"),
        ({"from": "book", "returns": "1min"}, "returns needs 'from: daily'"),
        ({"from": "features", "assets": "all"}, "assets needs 'from: book' or 'from: daily'"),
    ],
)
def test_wrong_keys_are_named(keys, message):
    with pytest.raises(ValidationError, match=message):
        section(**keys)


def test_without_trades_there_are_no_days():
    source = days_market()
    sources = Sources(*(lambda *one, part=part: None for part in range(3)))
    sources = replace(sources, features=lambda one: source.features[one.name], depth=lambda one: None)
    with pytest.raises(InputError, match=r"streams.days: days are told by trades, and there are none"):
        make_dataset(run(), list(source.symbols.values()), sources)
