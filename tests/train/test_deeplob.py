"""DeepLOB joins the cells that belong together, refuses what is no book, and learns from queues what they foretell."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from gpu_pipeline.core.config import StreamSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Depth, Symbol
from gpu_pipeline.dataset._align import aligned_rows
from gpu_pipeline.dataset.data import StreamData
from gpu_pipeline.dataset.streams import CHANNELS, book_rows, book_values
from train.checkpoint import build, make_card
from train.models import deeplob
from train.models._shape import StreamShape
from train.stage import train_model

LEVELS, WINDOW = 5, 6


def columns(levels: int, assets=("",)) -> tuple[str, ...]:
    return tuple(f"{name}_{level}{asset}" for level in range(levels) for name in CHANNELS for asset in assets)


def shape(levels: int, assets=("",)) -> StreamShape:
    return StreamShape(WINDOW, 4 * levels * len(assets), columns(levels, assets))


def planted(toy, samples: int, shuffled: bool):
    """A book whose queue imbalance at the touch is log odds of the class, in place of the toy's slow stream."""
    random = np.random.default_rng(3)
    dataset = toy(samples, edge=0.0)
    rows = samples + WINDOW - 1
    noise = random.normal(size=(rows, 2, LEVELS))
    for row in range(1, rows):
        # Queues outlive a row, as those of a market do.
        noise[row] = 0.8 * noise[row - 1] + 0.6 * noise[row]
    lots = np.ceil(np.exp(4.0 + noise))
    gaps = random.integers(1, 4, (rows, 2, LEVELS)).cumsum(2)
    depth = np.stack([20_000 - gaps[:, 0], lots[:, 0], 20_000 + gaps[:, 1], lots[:, 1]], 2).astype(np.float64)
    values = book_values(torch.from_numpy(depth), torch.ones(rows, dtype=torch.bool), "ticks")
    values = ((values - values.mean(0)) / values.std(0)).float()
    own = torch.arange(samples) + WINDOW - 1
    bid, ask = lots[WINDOW - 1 :, 0, 0], lots[WINDOW - 1 :, 1, 0]
    odds = 4 * (bid - ask) / (bid + ask)
    target = (random.uniform(size=samples) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    oracle = roc_auc_score(target, odds)
    target = torch.from_numpy(random.permutation(target) if shuffled else target)
    time_ns = torch.arange(rows)
    book = StreamData(values, WINDOW, columns(LEVELS), time_ns, time_ns, torch.zeros(rows, dtype=torch.int64))
    index = torch.stack([dataset.index[:, 0], own], 1)
    return replace(dataset, streams={**dataset.streams, "book": book}, index=index, target=target), oracle


@pytest.mark.parametrize(
    ("inputs", "shuffled"), [(["book"], False), (["book"], True), (["book", "bars"], False)], ids=str
)
def test_learns_what_queues_foretell_and_nothing_from_shuffled_labels(
    toy, run_config, tmp_path, cpu, trace, inputs, shuffled
):
    dataset, oracle = planted(toy, 3_000, shuffled)
    config = run_config([{"name": "deeplob", "inputs": inputs}], epochs=4, optimizer={"lr": 0.002})
    found = train_model(tmp_path, config, config.train.models[0], dataset, cpu, trace, None)
    # 445 validation samples: the standard error of an AUC of one half is 0.027.
    area = found["best"]["validation_auc"]
    assert oracle > 0.8
    assert abs(area - 0.5) < 0.09 if shuffled else area - 0.5 > 0.5 * (oracle - 0.5)


def test_same_bytes_again(toy, run_config, tmp_path, cpu, trace):
    dataset, _ = planted(toy, 600, shuffled=False)
    config = run_config([{"name": "deeplob", "dropout": 0.3}], epochs=1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        train_model(tmp_path / name, config, config.train.models[0], dataset, cpu, trace, None)
    for file in ("best.safetensors", "history.parquet", "steps.parquet", "model.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("assets", [("",), ("_A",), ("_A", "_B", "_C")])
@pytest.mark.parametrize("levels", [1, 3, 5])
def test_cells_meet_price_with_quantity_then_sides_then_levels_then_assets(levels, assets):
    """One cell is changed: after each join only the place that holds it differs, and only from its row on."""
    torch.manual_seed(0)
    book = shape(levels, assets)
    encoder = deeplob.Encoder(book, deeplob.Config(), 0).eval()
    x = torch.randn(2, WINDOW, levels, 4, len(assets))
    groups = [levels * 2, levels, 1] if levels > 1 else [2, 1]
    level, channel, asset = levels - 1, 2, len(assets) - 1
    changed = x.clone()
    changed[:, 3, level, channel, asset] += 1
    # Sides are bid and ask: the ask is the second of its level.
    places = [asset * groups[0] + level * 2 + 1, asset * groups[1] + level * (groups[1] > 1), asset][: len(groups)]
    flat = [part.flatten(2).unflatten(2, (levels * 4, len(assets))).transpose(2, 3) for part in (x, changed)]
    for join, count, place in zip(encoder.joins, groups, places, strict=False):
        flat = [join(part) for part in flat]
        assert flat[0].shape == (2, WINDOW, count * len(assets), 16)
        differs = (flat[0] != flat[1]).any(3).any(0)
        assert differs.any(0).nonzero().flatten().tolist() == [place]
        assert not differs[:3].any() and differs[3, place]
    assert len(encoder.joins) == len(groups) + (len(assets) > 1)


def test_assets_share_their_convolutions():
    counts = [
        sum(weight.numel() for weight in deeplob.Encoder(shape(5, assets), deeplob.Config(), 0).joins[:3].parameters())
        for assets in (("",), ("_A", "_B"), ("_A", "_B", "_C"))
    ]
    assert counts[0] == counts[1] == counts[2]


def test_columns_say_what_is_a_book():
    assert shape(7).book == (7, 1)
    assert shape(2, ("_A", "_bid_price_0")).book == (2, 2)
    assert StreamShape(4, 20).book is None
    assert StreamShape(4, 2, ("rsi_14_db_s", "atr")).book is None
    swapped = columns(2)[1::-1] + columns(2)[2:]
    for names in (columns(2)[:-1], columns(2)[4:], (*columns(2), "rsi_14_db_s"), swapped):
        assert StreamShape(4, len(names), names).book is None


@pytest.mark.parametrize("assets", ["own", "all"])
@pytest.mark.parametrize("levels", [1, 7])
def test_a_book_is_known_by_the_names_the_dataset_gives(assets, levels):
    section = StreamSection.model_validate({"from": "book", "window": 2, "assets": assets})
    parts = [depth_of(name, levels) for name in ("BTC_0", "ETH")]
    rows = (book_rows if assets == "own" else aligned_rows)("book", section, parts)
    found = StreamShape(2, len(rows.columns), rows.columns)
    assert found.book == (levels, 1 if assets == "own" else 2)


def depth_of(name: str, levels: int) -> Depth:
    cells = torch.arange(3) * 10**9
    depth = torch.tensor([[99.0, 1.0, 101.0, 1.0]]).double().repeat(3, levels, 1)
    flags = {"valid": torch.ones(3, dtype=torch.bool), "filled": torch.zeros(3, dtype=torch.bool)}
    times = {"time_ns": cells, "known_ns": cells, "age_ns": torch.zeros_like(cells)}
    symbol = Symbol(name, Decimal(1), Decimal(1))
    return Depth(symbol, depth, beyond=torch.zeros(3, 2, dtype=torch.int64), **times, **flags)


def test_a_model_of_books_needs_a_book(toy, run_config):
    card = make_card(run_config([{"name": "deeplob", "inputs": ["bars"]}]).train.models[0], toy(100), [0, 1])
    rule = r"model 'deeplob' reads order books, and no input is one \(inputs bars\); give it a stream 'from: book'"
    with pytest.raises(InputError, match=rule):
        build(card, 1)
