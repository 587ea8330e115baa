"""Per-level normalisation: by hand and against scikit-learn, mirrored, fitted on training rows alone, recorded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.preprocessing import RobustScaler

from gpu_pipeline.core.config import ScalerSection, StreamSection
from gpu_pipeline.dataset._align import aligned_rows
from gpu_pipeline.dataset._make import Sources, make_dataset
from gpu_pipeline.dataset._normalise import fit_rows
from gpu_pipeline.dataset.data import load_dataset
from gpu_pipeline.dataset.model_input import Fitted, model_input
from gpu_pipeline.dataset.streams import book_rows
from tests.dataset.market import CPU, S, config, depth, market, write

ROBUST = ScalerSection.model_validate("robust")


def section(**keys):
    return StreamSection.model_validate({"from": "book", "window": 4, **keys})


def run(**keys):
    streams = {"bars": {"from": "features", "window": 8}, "book": {"from": "book", "window": 4, **keys}}
    return config(streams=streams)


def of_market(source, asked):
    sources = Sources(
        lambda one: source.features[one.name],
        lambda one, name: source.labels[name][one.name],
        lambda one: source.depth[one.name],
    )
    return make_dataset(asked, list(source.symbols.values()), sources)


def pooled(values, level, channel, assets=1, asset=0):
    """Bids and asks of one level under one another: distances to the mid as positive numbers, or quantities."""
    cells = values.reshape(len(values), -1, 4, assets)
    sign = -1 if channel == 0 else 1
    return np.concatenate((sign * cells[:, level, channel, asset], cells[:, level, channel + 2, asset]))


def uneven(part, seed):
    """Levels at uneven distances, other ones on each side."""
    away = torch.from_numpy(np.random.default_rng(seed).integers(0, 9, (2, *part.depth.shape[:2])).cumsum(2))
    moved = part.depth.clone()
    moved[:, :, 0] -= away[0]
    moved[:, :, 2] += away[1]
    return replace(part, depth=moved)


@pytest.mark.parametrize("assets", [1, 2])
def test_a_level_is_fitted_over_both_its_sides(assets):
    parts = [uneven(depth(name, 700 * S, seed=k), k) for k, name in enumerate(("AAA", "BBB")[:assets])]
    if assets == 1:
        rows = book_rows("book", section(normalise="level"), parts)
    else:
        rows = aligned_rows("book", section(normalise="level", assets="all"), parts)
    fitted = fit_rows(rows, [(10, 80)], ROBUST)
    training = rows.values[10:80].numpy()
    center, scale = (numbers.numpy().reshape(3, 4, assets) for numbers in (fitted.center, fitted.scale))
    for level in range(3):
        for channel in (0, 1):
            for asset in range(assets):
                column = pooled(training, level, channel, assets, asset)[:, None]
                wanted = RobustScaler(unit_variance=True).fit(column)
                sign = -1 if channel == 0 else 1
                np.testing.assert_allclose(center[level, channel, asset], sign * wanted.center_[0], rtol=1e-12)
                np.testing.assert_allclose(center[level, channel + 2, asset], wanted.center_[0], rtol=1e-12)
                spread = wanted.scale_[0]
                np.testing.assert_allclose(scale[level, [channel, channel + 2], asset], [spread, spread], rtol=1e-12)


def test_a_mirrored_book_is_mirrored_input():
    """Prices reflected at the mid and sides exchanged: distances change their sign, quantities their side."""
    one = uneven(depth("AAA", 700 * S), 3)
    mid = (one.depth[:, :1, 0] + one.depth[:, :1, 2]) / 2
    other = torch.stack(
        (2 * mid - one.depth[:, :, 2], one.depth[:, :, 3], 2 * mid - one.depth[:, :, 0], one.depth[:, :, 1]), 2
    )
    asked = section(normalise="level")
    fitted = fit_rows(book_rows("book", asked, [one]), [(10, 80)], ROBUST)
    mine, mirror = (
        model_input(book_rows("book", asked, [part]).values, fitted).reshape(-1, 3, 4)
        for part in (one, replace(one, depth=other))
    )
    assert torch.equal(mirror, torch.stack((-mine[:, :, 2], mine[:, :, 3], -mine[:, :, 0], mine[:, :, 1]), 2))


def test_by_column_the_mirror_is_lost():
    one = depth("AAA", 700 * S)
    fitted = fit_rows(book_rows("book", section(), [one]), [(10, 80)], ROBUST)
    assert fitted.center[1] != fitted.center[3]


def test_without_normalisation_values_stay_and_are_still_imputed():
    one = depth("AAA", 700 * S)
    one = replace(one, valid=torch.arange(len(one)) != 20)
    rows = book_rows("book", section(normalise="none", price="bps", quantity="lots"), [one])
    fitted = fit_rows(rows, [(10, 80)], ROBUST)
    made = model_input(rows.values, fitted)
    here = torch.arange(len(one)) != 20
    assert torch.equal(made[here], rows.values[here].float())
    assert made[20, 1] == 0 and torch.isfinite(made[20]).all()
    middle = np.nanmedian(rows.values[10:80, 0].numpy())
    assert float(made[20, 0]) == pytest.approx(middle, rel=1e-6)


def test_what_has_no_value_or_no_spread_is_named_on_both_sides():
    one = depth("AAA", 700 * S)
    flat = one.depth.clone()
    flat[:, 2, 1::2] = 5
    rows = book_rows("book", section(normalise="level"), [replace(one, depth=flat)])
    fitted = fit_rows(rows, [(10, 80)], ROBUST)
    # Distances are the level's number in every row of this market.
    assert {"bid_quantity_2", "ask_quantity_2", "bid_price_0", "ask_price_0"} <= set(fitted.zero_spread)
    assert fitted.scale[[9, 11]].tolist() == [1.0, 1.0]
    gone = book_rows("book", section(normalise="level"), [replace(one, valid=torch.zeros_like(one.valid))])
    assert fit_rows(gone, [(10, 80)], ROBUST).imputed == tuple(
        f"{side}_price_{level}" for level in range(3) for side in ("bid", "ask")
    )


@pytest.mark.parametrize("asked", ["level", "none", "column"])
def test_it_is_recorded_and_read_back(tmp_path, asked):
    output = write(tmp_path, market(("AAA", "BBB")), run(normalise=asked, quantity="lots", price="bps"))
    said = output.manifest["streams"]["book"]
    assert (said["normalise"], said["quantity"], said["price"]) == (asked, "lots", "bps")
    stored = Fitted.from_json(json.loads((output.path / "scaler.json").read_text())["book"], CPU)
    source = market(("AAA", "BBB"))
    rows = book_rows("book", section(normalise=asked, quantity="lots", price="bps"), list(source.depth.values()))
    assert torch.equal(load_dataset(output.path, CPU).streams["book"].values, model_input(rows.values, stored))


@pytest.mark.parametrize("asked", ["level", "none"])
def test_books_after_the_training_part_change_nothing_that_is_fitted(asked):
    source = market(("AAA", "BBB"))
    dataset, fitted = of_market(source, run(normalise=asked))
    border = int(dataset.known_ns[dataset.parts["train"]].max())
    later = {}
    for name, one in source.depth.items():
        rows = (one.known_ns > border)[:, None, None]
        later[name] = replace(one, depth=torch.where(rows, one.depth * 1000 + 5, one.depth))
    other, again = of_market(type(source)(**{**vars(source), "depth": later}), run(normalise=asked))
    assert again["book"].to_json() == fitted["book"].to_json()
    before = dataset.streams["book"].known_ns <= border
    assert torch.equal(other.streams["book"].values[before], dataset.streams["book"].values[before])
    assert not torch.equal(other.streams["book"].values, dataset.streams["book"].values)
