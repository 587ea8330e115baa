"""Nothing sees the future: what comes after training cannot change what was fitted, nor a row what came before it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.dataset._make import Sources, make_dataset
from gpu_pipeline.dataset.data import check_dataset
from tests.dataset.market import S, config, market


def made(source, run=None):
    sources = Sources(
        lambda one: source.features[one.name],
        lambda one, name: source.labels[name][one.name],
        lambda one: source.depth[one.name],
    )
    return make_dataset(run or config(), list(source.symbols.values()), sources)


def numbers(fitted):
    return {name: one.to_json() for name, one in fitted.items()}


def poisoned(source, after_ns):
    """Every row after a time replaced by absurd, missing or flipped values, in features and book."""
    features, books = {}, {}
    for name, one in source.features.items():
        values, later = one.values.clone(), one.time_ns > after_ns
        values[later] = values[later].sign() * 1e7 + 1e8
        values[later, 5] = 3.0
        features[name] = replace(one, values=values)
        book = source.depth[name]
        levels, gone = book.depth.clone(), book.time_ns > after_ns
        levels[gone] *= 1000
        books[name] = replace(book, depth=levels)
    return type(source)(**{**vars(source), "features": features, "depth": books})


@pytest.mark.parametrize("names", [("AAA",), ("AAA", "BBB")])
def test_rows_after_the_training_part_change_nothing_that_is_fitted(names):
    source = market(names)
    dataset, fitted = made(source)
    train = dataset.parts["train"]
    border = int(dataset.decision_ns[train[-1]])
    other, again = made(poisoned(source, border))
    assert numbers(again) == numbers(fitted)
    assert torch.equal(other.index, dataset.index) and torch.equal(other.parts["train"], train)
    for name, stream in dataset.streams.items():
        before = stream.known_ns <= border
        assert torch.equal(other.streams[name].values[before], stream.values[before])
        assert not torch.equal(other.streams[name].values[~before], stream.values[~before])


def test_the_poison_is_felt_when_it_lies_in_the_training_part():
    source = market()
    dataset, fitted = made(source)
    inside = int(dataset.decision_ns[dataset.parts["train"][-1]]) - 600 * S
    _, again = made(poisoned(source, inside))
    assert all(numbers(again)[name] != numbers(fitted)[name] for name in fitted)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_no_window_holds_a_row_that_was_not_known_strictly_before(latency_s, book_latency_s):
    source = market(("AAA", "BBB"), rows=150)
    run = config(
        streams={
            "bars": {"from": "features", "window": 8, "latency": f"{latency_s}s"},
            "book": {"from": "book", "window": 4, "latency": f"{book_latency_s}s"},
        }
    )
    dataset, _ = made(source, run)
    book = dataset.streams["book"]
    seen = book.known_ns[dataset.index[:, 1]]
    assert (seen < dataset.known_ns).all()
    following = (dataset.index[:, 1] + 1).clamp(max=len(book) - 1)
    same = (book.symbol_id[following] == dataset.symbol_id) & (following > dataset.index[:, 1])
    assert (book.known_ns[following][same] >= dataset.known_ns[same]).all(), "the last row known must be the last"
    assert torch.equal(dataset.known_ns, dataset.decision_ns + latency_s * S)


def test_a_later_book_is_seen_later():
    source = market()
    late = {name: replace(one, known_ns=one.known_ns + 7 * S) for name, one in source.depth.items()}
    on_time, _ = made(source)
    delayed, _ = made(type(source)(**{**vars(source), "depth": late}))
    both = {int(t): int(row) for t, row in zip(on_time.decision_ns, on_time.index[:, 1], strict=True)}
    shifted = [both[int(t)] - int(row) for t, row in zip(delayed.decision_ns, delayed.index[:, 1], strict=True)]
    assert set(shifted) == {1}


def test_training_spans_end_with_the_last_training_decision():
    source = market(("AAA", "BBB"))
    dataset, fitted = made(source)
    train = dataset.parts["train"]
    border = int(dataset.known_ns[train].max())
    rows = []
    for symbol, one in enumerate(source.features.values()):
        seen = dataset.index[train[dataset.symbol_id[train] == symbol], 0]
        offset = 0 if symbol == 0 else len(source.features["AAA"])
        rows.append(one.values[int(seen.min()) - 7 - offset : int(seen.max()) + 1 - offset, 0])
        assert int(one.known_ns[int(seen.max()) - offset]) <= border
    assert float(torch.cat(rows).quantile(0.5)) == pytest.approx(float(fitted["bars"].center[0]), rel=1e-12)


def test_uniqueness_and_purge_do_not_look_across_parts():
    source = market()
    dataset, _ = made(source)
    changed = {"AAA": replace(source.labels["up"]["AAA"])}
    label = changed["AAA"]
    border = int(dataset.decision_ns[dataset.parts["test"][0]])
    late = label.valid & (source.features["AAA"].time_ns >= border)
    longer = torch.where(late, (label.known_row + 1).clamp(max=len(label) - 1), label.known_row)
    changed["AAA"] = replace(label, known_row=longer, t_end=torch.where(late, label.t_end + S, label.t_end))
    other, _ = made(type(source)(**{**vars(source), "labels": {"up": changed}}))
    for part in ("train", "validation"):
        assert torch.equal(dataset.uniqueness[dataset.parts[part]], other.uniqueness[other.parts[part]])
    assert not torch.equal(dataset.uniqueness, other.uniqueness)


def test_check_refuses_a_sample_that_sees_the_future():
    dataset, _ = made(market())
    check_dataset(dataset)
    for column, name in enumerate(dataset.streams):
        ahead = dataset.index.clone()
        ahead[5, column] += 3
        with pytest.raises(
            InputError, match=rf"samples.parquet, row 5: row/{name}: a row was not known at the decision"
        ):
            check_dataset(replace(dataset, index=ahead))
    book = dataset.streams["book"]
    known = book.known_ns.clone()
    known[dataset.index[-1, 1]] = dataset.known_ns[-1]
    same_time = {**dataset.streams, "book": replace(book, known_ns=known)}
    with pytest.raises(InputError, match=r"row/book: a row was not known before; rerun the dataset stage"):
        check_dataset(replace(dataset, streams=same_time))


def test_check_refuses_windows_that_leave_their_stream_or_symbol():
    dataset, _ = made(market(("AAA", "BBB")))
    early = dataset.index.clone()
    early[0, 1] = 2
    with pytest.raises(InputError, match=r"row 0: row/book: a window leaves the stream"):
        check_dataset(replace(dataset, index=early))
    number = int((dataset.symbol_id == 1).nonzero()[0])
    crossing = dataset.index.clone()
    crossing[number, 0] = int((dataset.streams["bars"].symbol_id == 1).nonzero()[0]) + 2
    with pytest.raises(InputError, match=rf"row {number}: row/bars: a window leaves its symbol"):
        check_dataset(replace(dataset, index=crossing))
