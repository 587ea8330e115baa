"""Quotes against the replayed book, and the command that tells what is wrong."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gpu_pipeline.book._audit import compare
from gpu_pipeline.cli import main
from tests.book.feed import QUOTE_COLUMNS, feed, quotes_of
from tests.book.market import in_pieces

SOURCE = "tests.book.feed"
BOOK = {"near_levels": 2, "deep_bins": None, "cadence": "1s", "max_gap": "5s"}


def cut_quotes(quotes, cuts):
    edges = [0, *sorted(min(at, len(quotes)) for at in cuts), len(quotes)]
    pairs = itertools.pairwise(edges)
    return [replace(quotes, **{name: getattr(quotes, name)[a:b] for name in QUOTE_COLUMNS}) for a, b in pairs]


@cache
def sound():
    return feed(), quotes_of(feed())


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 800), max_size=5), quote_cuts=st.lists(st.integers(0, 266), max_size=5))
def test_every_quote_of_an_equal_id_is_compared_however_both_are_cut(cuts, quote_cuts):
    events, quotes = sound()
    found = compare(iter(in_pieces(events, cuts)), iter(cut_quotes(quotes, quote_cuts)))
    assert (found.compared, found.equal, found.differences) == (133, 133, [])


def test_a_quote_that_differs_is_told_with_its_id():
    events = feed()
    quotes = quotes_of(events)
    quotes.ask_lots[2] += 3
    quotes.bid_ticks[264] -= 1
    found = compare(iter([events]), iter([quotes]))
    assert (found.compared, found.equal) == (133, 131)
    assert found.differences == [{"update_id": 4, "ask_lots": (7, 10)}, {"update_id": 397, "bid_ticks": (101, 100)}]


def test_ids_that_never_meet_are_not_compared():
    events = feed()
    quotes = quotes_of(events)
    assert compare(iter([events]), iter([replace(quotes, update_id=quotes.update_id + 10_000)])).compared == 0
    assert compare(iter([events]), iter([])).compared == 0
    assert compare(iter([]), iter([quotes])).compared == 0


def run_file(folder: Path, ingest, book=BOOK) -> Path:
    values = {"name": "t", "runs": str(folder / "runs"), "device": "cpu", "symbols": ["BTCUSDT"], "ingest": ingest}
    path = folder / "run.yaml"
    YAML().dump(values | ({"book": book} if book else {}), path)
    return path


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ("nothing", 0, "nothing is wrong with the book"),
        ("quote", 1, "BTCUSDT: 1 of 133 quotes of 'bbo' differ"),
        ("crossed", 1, "BTCUSDT: 2020-02-22: 1 crossed"),
        ("gap", 1, "BTCUSDT: 2020-02-22: 1 empty"),
    ],
)
def test_the_command_tells_what_is_wrong_by_its_code(tmp_path, capsys, wrong, code, said):
    ingest = {
        name: {"source": SOURCE, "kind": kind, "wrong": wrong} for name, kind in (("book", "events"), ("bbo", "quotes"))
    }
    assert main(["audit", "book", str(run_file(tmp_path, ingest))]) == code
    out = capsys.readouterr().out
    assert said in out
    assert "books by UTC day" in out
    assert "2020-02-22" in out
    assert "best bid and ask at equal update ids" in out
    assert not (tmp_path / "runs/t/book").exists()


def test_snapshots_are_audited_without_quotes(tmp_path, capsys):
    ingest = {name: {"source": "simulated", "trades": 2000} for name in ("trades", "book")}
    assert main(["audit", "book", str(run_file(tmp_path, ingest)), "device=cpu"]) == 0
    out = capsys.readouterr().out
    assert "nothing is wrong with the book" in out
    assert "equal update ids" not in out


def test_what_cannot_be_audited_is_one_line(tmp_path, capsys):
    ingest = {"book": {"source": SOURCE, "kind": "events"}}
    assert main(["audit", "book", str(run_file(tmp_path, ingest, book=None))]) == 2
    assert "book: the run file has no such section" in capsys.readouterr().err
    assert main(["audit", "bars", str(run_file(tmp_path, ingest))]) == 2
    assert "audit: cannot audit 'bars'; there are book, features" in capsys.readouterr().err
