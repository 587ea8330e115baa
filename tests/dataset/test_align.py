"""Several assets on the grid of one: cells by hand, reasons against plain loops, adaptive depth, nothing of later."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Depth
from gpu_pipeline.dataset._align import aligned_rows
from gpu_pipeline.dataset._make import Sources, make_dataset
from gpu_pipeline.dataset.data import check_dataset, load_dataset
from gpu_pipeline.dataset.samples import find_samples, pool_labels
from gpu_pipeline.dataset.streams import feature_rows
from tests.dataset.market import CPU, S, config, features, labels, market, symbol, write
from tests.dataset.market import depth as simulated_depth

BARS = StreamSection.model_validate({"from": "features", "window": 1})


def section(assets="all", window=1, **keys):
    return StreamSection.model_validate({"from": "book", "window": window, "assets": assets, **keys})


def book(name, cells, first_s=0, step_s=10, late_s=0):
    """One level around mid 100: `.` a fresh cell, `f` a filled one, `x` a missing one, `h` one without an ask."""
    rows = len(cells)
    time_ns = (torch.arange(rows) * step_s + first_s) * S
    valid = torch.tensor([cell != "x" for cell in cells], dtype=torch.bool)
    depth = torch.tensor([[[99.0, 7.0, 101.0, 1.0]]]).to(torch.float64).repeat(rows, 1, 1)
    depth[:, 0, 3] = torch.tensor([0.0 if cell == "h" else 1.0 for cell in cells])
    depth[~valid] = torch.tensor([math.nan, 0.0, math.nan, 0.0], dtype=torch.float64)
    return Depth(
        symbol=symbol(name),
        depth=depth,
        beyond=torch.zeros(rows, 2, dtype=torch.int64),
        time_ns=time_ns,
        known_ns=time_ns + late_s * S,
        age_ns=torch.zeros(rows, dtype=torch.int64),
        valid=valid,
        filled=torch.tensor([cell == "f" for cell in cells], dtype=torch.bool),
    )


def barred(rows):
    return {reason: found.nonzero().squeeze(1).tolist() for reason, found in rows.barred.items()}


def test_columns_are_levels_by_channels_by_assets():
    one, other = simulated_depth("AAA", 70 * S), simulated_depth("BBB", 70 * S, seed=9)
    rows = aligned_rows("book", section(), [one, other])
    assert rows.columns[:5] == (
        "bid_price_0_AAA",
        "bid_price_0_BBB",
        "bid_quantity_0_AAA",
        "bid_quantity_0_BBB",
        "ask_price_0_AAA",
    )
    stacked = rows.values.reshape(len(one), 3, 4, 2)
    mid = (other.depth[:, 0, 0] + other.depth[:, 0, 2]) / 2
    assert torch.equal(stacked[:, 2, 2, 1], other.depth[:, 2, 2] - mid)
    np.testing.assert_allclose(stacked[:, 1, 3, 0], torch.log1p(one.depth[:, 1, 3]), rtol=1e-15)
    assert rows.offsets == (0, len(one)) and (rows.symbol_id == -1).all()


def test_a_gap_shows_no_prices_and_no_quantity_and_the_others_stay():
    rows = aligned_rows("book", section(min_assets_required=1), [book("AAA", "....."), book("BBB", "..x..")])
    gap, other = rows.values.reshape(5, 4, 2)[2], rows.values.reshape(5, 4, 2)[1]
    assert gap[[0, 2], 1].isnan().all() and (gap[[1, 3], 1] == 0).all()
    np.testing.assert_allclose(gap[:, 0], [-1, math.log(8), 1, math.log(2)], rtol=1e-15)
    assert torch.equal(gap[:, 0], other[:, 1])
    assert not rows.missing.any() and rows.missing_cells == {"AAA": 0, "BBB": 1}


def test_all_assets_are_required_unless_fewer_will_do():
    parts = [book("AAA", "......"), book("BBB", "..x.h."), book("CCC", ".xx...")]
    assert barred(aligned_rows("book", section(), parts))["too_few_assets"] == [1, 2, 4]
    assert barred(aligned_rows("book", section(min_assets_required=2), parts))["too_few_assets"] == [2]
    assert barred(aligned_rows("book", section(min_assets_required=1), parts))["too_few_assets"] == []


def test_the_reference_asset_must_be_there_whoever_else_is():
    parts = [book("AAA", ".x..."), book("BBB", "..x..")]
    rows = aligned_rows("book", section(min_assets_required=1), parts)
    assert barred(rows) == {"reference_missing": [1], "too_few_assets": []}
    assert rows.missing.nonzero().squeeze(1).tolist() == [1]
    rows = aligned_rows("book", section(min_assets_required=1, reference="BBB"), parts)
    assert barred(rows)["reference_missing"] == [2]


def test_a_dead_asset_is_missing_everywhere():
    none = replace(book("CCC", "."), **{k: v[:0] for k, v in vars(book("CCC", ".")).items() if k != "symbol"})
    parts = [book("AAA", "...."), book("BBB", "xxxx"), none]
    rows = aligned_rows("book", section(min_assets_required=1), parts)
    assert rows.missing_cells == {"AAA": 0, "BBB": 4, "CCC": 4} and not rows.missing.any()
    assert aligned_rows("book", section(min_assets_required=2), parts).missing.all()


def test_the_grid_is_the_reference_assets_and_cells_are_those_of_the_same_time():
    early, short = book("AAA", "......"), book("BBB", ".f", first_s=20)
    rows = aligned_rows("book", section(min_assets_required=1), [early, short])
    assert torch.equal(rows.time_ns, early.time_ns) and rows.filled.tolist() == [0, 0, 0, 1, 0, 0]
    assert barred(aligned_rows("book", section(), [early, short]))["too_few_assets"] == [0, 1, 4, 5]
    rows = aligned_rows("book", section(reference="BBB"), [early, short])
    assert torch.equal(rows.time_ns, short.time_ns) and not rows.missing.any()


def test_a_row_is_known_when_its_latest_cell_is():
    rows = aligned_rows("book", section(latency="1s"), [book("AAA", "..."), book("BBB", "...", late_s=4)])
    assert torch.equal(rows.known_ns, rows.time_ns + 5 * S)


CELLS = st.text(alphabet=".fxh", min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(st.tuples(CELLS, st.integers(-3, 3)), min_size=1, max_size=4),
    place=st.integers(0, 3),
    least=st.integers(1, 4),
    window=st.integers(1, 3),
    quarters=st.integers(0, 4),
)
def test_samples_and_reasons_against_plain_loops(cells, place, least, window, quarters):
    names = [f"S{k}" for k in range(len(cells))]
    place, least = place % len(cells), min(least, len(cells))
    parts = [book(name, text, first_s=100 + 10 * shift) for name, (text, shift) in zip(names, cells, strict=True)]
    keys = {"reference": names[place], "min_assets_required": least, "partial_fill_threshold": quarters / 4}
    rows = aligned_rows("book", section(window=window, **keys), parts)
    bars, label, closes = bars_of([70 + 5 * k for k in range(45)])
    at = [{100 + 10 * (shift + k): cell for k, cell in enumerate(text)} for text, shift in cells]
    wanted = [plain_reason(close, at, place, least, window, quarters) for close in closes[:-1]] + ["no_label"]
    if None not in wanted:
        with pytest.raises(InputError, match=r"none of 45 rows is a sample"):
            find_samples([bars, rows], bars, label)
        return
    samples = find_samples([bars, rows], bars, label)
    assert samples.row.tolist() == [row for row, reason in enumerate(wanted) if reason is None]
    assert samples.dropped == {reason: wanted.count(reason) for reason in samples.dropped}
    assert [int(rows.known_ns[last]) < int(bars.known_ns[row]) for row, last in samples.index.tolist()].count(
        False
    ) == 0


def bars_of(closes):
    """A decision stream that closes at these seconds, and a label on every row but the last."""
    made = features("S0", len(closes), warmup=0)
    times = torch.tensor(closes) * S
    made = replace(made, time_ns=times, known_ns=times)
    bars = feature_rows("bars", BARS, [made])
    return bars, pool_labels("up", [labels(made, horizon=1)], bars), closes


def plain_reason(close, at, place, least, window, quarters):
    """The first reason why a decision at `close` is no sample, or None; `at`: per asset, second -> cell."""
    grid = sorted(at[place])
    known = [time for time in grid if time < close]
    if not known:
        return "nothing_known_yet"
    if len(known) < window:
        return "window_not_full"
    if len(grid) > 1 and close - known[-1] > 10:
        return "book_ended"
    seen = [[cells.get(time, "x") for cells in at] for time in known[-window:]]
    if any(row[place] in "xh" for row in seen):
        return "reference_missing"
    if any(sum(cell in ".f" for cell in row) < least for row in seen):
        return "too_few_assets"
    filled = sum(row.count("f") for row in seen)
    return "too_many_filled" if 4 * filled > quarters * window * len(at) else None


def test_equal_times_on_two_feeds_are_not_seen_by_a_decision_at_that_time():
    rows = aligned_rows("book", section(), [book("AAA", "....."), book("BBB", ".....")])
    bars, label, _ = bars_of([10, 10, 11, 20, 21, 50])
    samples = find_samples([bars, rows], bars, label)
    assert samples.index[:, 1].tolist() == [0, 0, 1, 1, 2]


def test_partial_fill_counts_a_books_own_cells_too():
    made = market()
    one = made.depth["AAA"]
    filled = torch.arange(len(one)) % 3 == 0
    source = type(made)(**{**vars(made), "depth": {"AAA": replace(one, filled=filled)}})
    streams = {"bars": {"from": "features", "window": 8}, "book": {"from": "book", "window": 4}}
    kept = {}
    for limit in (0.25, 0.5):
        streams["book"]["partial_fill_threshold"] = limit
        dataset, _ = of_market(source, config(streams=streams))
        kept[limit] = len(dataset)
        shown = dataset.manifest["dropped"]["too_many_filled"]
        assert (shown > 0) == (limit == 0.25)
    assert 0 < kept[0.25] < kept[0.5]


def of_market(source, run):
    sources = Sources(
        lambda one: source.features[one.name],
        lambda one, name: source.labels[name][one.name],
        lambda one: source.depth[one.name],
    )
    return make_dataset(run, list(source.symbols.values()), sources)


def aligned_run(loader=None, **keys):
    asked = {"from": "book", "window": 4, "assets": "all", **keys}
    return config(loader, streams={"bars": {"from": "features", "window": 8}, "book": asked})


def test_every_symbol_sees_the_same_rows_and_they_are_written_once(tmp_path):
    source = market(("AAA", "BBB"))
    output = write(tmp_path, source, aligned_run(min_assets_required=1))
    dataset = load_dataset(output.path, CPU)
    stream = dataset.streams["book"]
    assert len(stream) == len(source.depth["AAA"]) and len(stream.columns) == 3 * 4 * 2
    assert (stream.symbol_id == -1).all() and set(dataset.symbol_id.tolist()) == {0, 1}
    last = np.searchsorted(stream.known_ns.numpy(), dataset.known_ns.numpy(), side="left") - 1
    np.testing.assert_array_equal(dataset.index[:, 1], last)
    said = output.manifest["streams"]["book"]
    assert said["assets"] == ["AAA", "BBB"] and said["reference"] == "AAA" and said["min_assets_required"] == 1
    assert sum(output.manifest["dropped"].values()) + len(dataset) == output.manifest["rows_in"]


def test_shards_hold_the_windows_of_shared_rows(tmp_path):
    output = write(tmp_path, market(("AAA", "BBB")), aligned_run("webdataset", min_assets_required=1))
    shards, samples = output.manifest["shards"]["parts"], output.manifest["parts"]
    assert {part: said["samples"] for part, said in shards.items()} == {
        part: said["samples"] for part, said in samples.items()
    }


def poisoned(source, after_ns, spared=()):
    """Every asset's cells that become known after a time: absurd, filled, and missing by turns unless spared that."""
    books = {}
    for name, one in source.depth.items():
        later = one.known_ns > after_ns
        turns = (torch.arange(len(one)) % 2 == 0) & (name not in spared)
        depth = torch.where(later[:, None, None], one.depth * 1000 + 5, one.depth)
        books[name] = replace(one, depth=depth, valid=one.valid & ~(later & turns), filled=one.filled | later)
    return type(source)(**{**vars(source), "depth": books})


@settings(max_examples=8, deadline=None)
@given(st.integers(500, 1400), st.booleans())
def test_what_happens_after_a_decision_changes_nothing_before(border_s, cut):
    source = market(("AAA", "BBB", "CCC"), rows=200)
    other = poisoned(source, border_s * S)
    if cut:
        books = {}
        for name, one in source.depth.items():
            rows = one.known_ns <= border_s * S
            fields = {key: value[rows] for key, value in vars(one).items() if key != "symbol"}
            books[name] = replace(one, **fields) if name != "AAA" else one
        other = type(source)(**{**vars(source), "depth": books})
    asked = section(window=4, min_assets_required=2, partial_fill_threshold=0.5)
    found = [aligned_rows("book", asked, list(one.depth.values())) for one in (source, other)]
    before = found[0].known_ns <= border_s * S
    for name in ("values", "missing", "filled", "known_ns"):
        mine, theirs = (getattr(rows, name)[before] for rows in found)
        assert torch.equal(mine.nan_to_num(-7.0), theirs.nan_to_num(-7.0)), name
    assert not torch.equal(found[0].values.nan_to_num(-7.0), found[1].values.nan_to_num(-7.0))


def test_cells_after_the_training_part_change_nothing_that_is_fitted():
    source, run = market(("AAA", "BBB")), aligned_run(min_assets_required=1, levels={"min_nonzero": 20})
    dataset, fitted = of_market(source, run)
    border = int(dataset.known_ns[dataset.parts["train"]].max())
    # The reference asset stays: the split is in fractions of all samples, so fewer of them would end training earlier.
    other, again = of_market(poisoned(source, border, spared=("AAA",)), run)
    assert again["book"].to_json() == fitted["book"].to_json()
    assert other.manifest["streams"]["book"]["levels"] == dataset.manifest["streams"]["book"]["levels"]
    before = dataset.streams["book"].known_ns <= border
    assert torch.equal(other.streams["book"].values[before], dataset.streams["book"].values[before])
    assert not torch.equal(other.streams["book"].values, dataset.streams["book"].values)
    inside, third = of_market(poisoned(source, border - 900 * S, spared=("AAA",)), run)
    assert third["book"].to_json() != fitted["book"].to_json() and len(inside) == len(dataset)


def thin(source, name, level, side, rows):
    """The named asset has a quantity on one side of a level in some rows only."""
    one = source.depth[name]
    depth = one.depth.clone()
    depth[:, level, side] = depth[:, level, side].where(rows, torch.zeros(()).double())
    return type(source)(**{**vars(source), "depth": {**source.depth, name: replace(one, depth=depth)}})


@pytest.mark.parametrize("assets", ["own", "all"])
def test_adaptive_depth_keeps_the_prefix_that_the_training_part_fills_on_all_sides(assets):
    keys = {"min_assets_required": 1} if assets == "all" else {}
    source = market(("AAA", "BBB"))
    whole, _ = of_market(source, aligned_run(assets=assets, levels={"min_nonzero": 1}, **keys))
    border = int(whole.known_ns[whole.parts["train"]].max())
    # The second level has asks of BBB only after the training part: all that is behind it goes as well.
    late = thin(source, "BBB", 1, 3, source.depth["BBB"].time_ns > border)
    dataset, fitted = of_market(late, aligned_run(assets=assets, levels={"min_nonzero": 1}, **keys))
    said = dataset.manifest["streams"]["book"]["levels"]
    assert said["kept"] == 1 and said["nonzero"][1] == 0 and said["nonzero"][2] > 0
    assert len(dataset.streams["book"].columns) == len(fitted["book"].columns) == (8 if assets == "all" else 4)
    width = len(dataset.streams["book"].columns)
    assert torch.equal(dataset.streams["book"].values, whole.streams["book"].values[:, :width])
    assert torch.equal(dataset.index, whole.index)


def test_adaptive_depth_counts_training_rows():
    source = market()
    early = source.depth["AAA"].time_ns < 700 * S
    dataset, _ = of_market(thin(source, "AAA", 2, 1, early), aligned_run(levels={"min_nonzero": 1}))
    stream, train = dataset.streams["book"], dataset.parts["train"]
    first, last = int(dataset.index[train, 1].min()) - 3, int(dataset.index[train, 1].max())
    counts = dataset.manifest["streams"]["book"]["levels"]["nonzero"]
    assert counts[0] == last + 1 - first and counts[2] == int(early[first : last + 1].sum()) > 0
    assert len(stream.columns) == 12
    fewer, _ = of_market(thin(source, "AAA", 2, 1, early), aligned_run(levels={"min_nonzero": counts[2] + 1}))
    assert len(fewer.streams["book"].columns) == 8


def test_a_dead_asset_leaves_no_common_level():
    source = market(("AAA", "BBB"))
    dead = replace(source.depth["BBB"], valid=torch.zeros_like(source.depth["BBB"].valid))
    source = type(source)(**{**vars(source), "depth": {**source.depth, "BBB": dead}})
    with pytest.raises(InputError, match=r"book.levels: an asset and side has its best level in 0 training rows only"):
        of_market(source, aligned_run(min_assets_required=1, levels={"min_nonzero": 1}))
    dataset, fitted = of_market(source, aligned_run(min_assets_required=1))
    assert "bid_price_0_BBB" in fitted["book"].imputed and torch.isfinite(dataset.streams["book"].values).all()
    with pytest.raises(InputError, match=r"too few assets \d+; lower min_assets_required, leave an asset out"):
        of_market(source, aligned_run())


def test_streams_of_own_and_of_several_assets_stand_side_by_side():
    streams = {
        "bars": {"from": "features", "window": 8},
        "mine": {"from": "book", "window": 4},
        "others": {"from": "book", "window": 2, "assets": ["BBB", "AAA"], "min_assets_required": 1, "price": "bps"},
    }
    dataset, _ = of_market(market(("AAA", "BBB")), config(streams=streams))
    check_dataset(dataset)
    assert dataset.streams["others"].columns[0] == "bid_price_0_BBB"
    assert dataset.manifest["streams"]["others"]["reference"] == "BBB"
    alone, _ = of_market(market(("AAA", "BBB")), config(streams={k: streams[k] for k in ("bars", "mine")}))
    assert torch.equal(alone.streams["mine"].values[-50:], dataset.streams["mine"].values[-50:])
    assert "reference_missing" not in alone.manifest["dropped"] and "levels" not in alone.manifest["streams"]["mine"]


def test_other_grids_are_errors():
    with pytest.raises(InputError, match=r"BBB and AAA differ in their cadence \(value 5s and 10s\)"):
        aligned_rows("book", section(), [book("AAA", "...."), book("BBB", "....", step_s=5)])
    with pytest.raises(InputError, match=r"grids of BBB and AAA are shifted \(value 3000000000 ns\)"):
        aligned_rows("book", section(), [book("AAA", "...."), book("BBB", "....", first_s=3)])
    odd = book("BBB", "....")
    late = odd.time_ns.clone()
    late[3] += S
    with pytest.raises(InputError, match=r"cell 3 of BBB is off its grid \(value 11000000000 ns after the one before"):
        aligned_rows("book", section(), [book("AAA", "...."), replace(odd, time_ns=late)])
    with pytest.raises(InputError, match=r"differ in book levels \(value \[1, 3\]\)"):
        aligned_rows("book", section(), [book("AAA", "...."), simulated_depth("BBB", 70 * S)])
    with pytest.raises(InputError, match=r"streams.book.reference: no asset of this name \(value CCC\)"):
        aligned_rows("book", section(reference="CCC"), [book("AAA", "....")])
    with pytest.raises(InputError, match=r"min_assets_required: there are only 1 assets \(value 2\)"):
        aligned_rows("book", section(min_assets_required=2), [book("AAA", "....")])
