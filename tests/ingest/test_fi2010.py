"""FI-2010 matrices made by hand: shape, digests, labels, and the levels in their places."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.units import parse_instant
from gpu_pipeline.ingest import _book_files, _wide
from gpu_pipeline.ingest._raw import ReadRequest
from gpu_pipeline.ingest._read import open_stream
from gpu_pipeline.ingest.fi2010 import Config
from tests.ingest.samples import fi2010 as sample
from tests.ingest.samples.books import Side, books
from tests.ingest.samples.rows import messages
from tests.ingest.test_tall_snapshots import shown


def read(config: Config, **request: Any) -> tuple[Any, list[Any]]:
    stream = open_stream("fi2010", config, ReadRequest("book", "KESKOB", **request))
    pieces = list(stream.make(stream.symbol))
    return _book_files.joined(pieces), pieces


def side(best: str, step: str) -> Side:
    return [(Decimal(best) + at * Decimal(step), Decimal("0.00100") * (at + 1)) for at in range(10)]


BOOKS = [(side("0.2614", "-0.0001"), side("0.2615", "0.0001")), (side("0.2613", "-0.0002"), side("0.2616", "0.0001"))]


@pytest.fixture
def lines() -> list[str]:
    return sample.matrix(BOOKS)


def config_of(folder: Path, lines: list[str], **values: Any) -> Config:
    (folder / "DecPre_CF_7.txt").write_text("\n".join(lines) + "\n")
    return Config(path=str(folder / "DecPre_CF_7.txt"), **values)


def test_levels_stand_in_their_places(tmp_path: Path, lines: list[str]) -> None:
    book, pieces = read(config_of(tmp_path, lines, step="100ms", opening="2010-06-14"))
    assert [(bids, asks) for _, bids, asks in shown(book)] == BOOKS
    assert [time - parse_instant("2010-06-14") // 10**6 for time, _, _ in shown(book)] == [0, 100]
    assert (str(book.symbol.price_tick), str(book.symbol.quantity_lot)) == ("0.0001", "0.001")
    assert pieces[-1].report["checked"] == {"none there": 1}


def test_files_follow_each_other_in_any_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(**sample.write(tmp_path, messages()))
    book, _ = read(config)
    start = parse_instant(config.opening) // 10**6
    expected = [(start + at * 1_000, bids, asks) for at, (_, _, bids, asks) in enumerate(books(messages()))]
    assert shown(book) == expected
    monkeypatch.setattr(_wide, "PIECE_LEVELS", 600)
    again, pieces = read(config)
    assert len(pieces) > 4 and shown(again) == expected
    some, _ = read(config.model_copy(update={"events": (3, 9)}))
    half = len(expected) // 2
    chosen = [*expected[3:9], *expected[half + 3 : half + 9]]
    assert [levels[1:] for levels in shown(some)] == [levels[1:] for levels in chosen]
    assert [time - start for time, _, _ in shown(some)] == [at * 1_000 for at in range(12)]


def test_digests_are_compared(tmp_path: Path, lines: list[str]) -> None:
    config = config_of(tmp_path, lines)
    digest = hashlib.sha256((tmp_path / "DecPre_CF_7.txt").read_bytes()).hexdigest()
    known = config.model_copy(update={"sha256": {"DecPre_CF_7.txt": digest}})
    assert read(known)[1][-1].report["checked"] == {"checksum": 1}
    other = config.model_copy(update={"sha256": {"DecPre_CF_7.txt": "0" * 64}})
    with pytest.raises(InputError, match="its sha256 is not the one under sha256"):
        read(other)
    assert len(read(other, verify=False)[0]) == 2


def replaced(lines: list[str], row: int, text: str) -> list[str]:
    return [*lines[: row - 1], text, *lines[row:]]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda lines: lines[:-1], "has 148 rows and 2 columns; a matrix has 149 rows"),
        (lambda lines: [*lines, lines[-1]], "has 150 rows"),
        (lambda lines: replaced(lines, 7, "1.0"), "row 7: has 1 columns where 2 are due"),
        (lambda lines: replaced(lines, 7, "1.0 one"), "row 7: holds no number"),
        (lambda lines: replaced(lines, 149, "1 4"), "row 149: column 2: a label must be 1, 2 or 3"),
        (lambda lines: replaced(lines, 1, "-1.3 0.2"), "txt/columns, row 1: a price must be above 0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: list[str], change: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        read(config_of(tmp_path, change(lines)))


def test_events_lie_within_the_file(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(InputError, match="has 2 columns"):
        read(config_of(tmp_path, lines, events=(1, 3)))
    with pytest.raises(ValueError, match="0 <= first < stop"):
        Config(path="x", events=(3, 3))
