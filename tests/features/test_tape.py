"""Tapes of the whole catalogue: the bits of the grouped evaluation, for any number of threads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_pipeline.features import _audit, _feature, _state, _tape
from gpu_pipeline.features._book import BookRows
from gpu_pipeline.features._set import Choice, read_set
from gpu_pipeline.features._tape import divide, needed
from gpu_pipeline.features.engine import Engine
from gpu_pipeline.features.expression import Columns
from tests.conformance.test_features import default_choice
from tests.features.factory import depth_of, market, random_tape

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SETS = sorted(path.stem for path in (ROOT / "configs" / "features").glob("*.yaml"))


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    """A market whose short bars need two tiles."""
    tape = random_tape(5000, seed=21, minutes=300)
    made = market(tape, threshold=8_000, medium=4, long=3)
    assert len(made["short"]) > 1024 + 2
    return {**made, "book": BookRows.of(depth_of(tape))}


@pytest.fixture(scope="module")
def choices() -> list[Choice]:
    return [default_choice(name) for name in _feature.catalogue()]


@pytest.fixture(scope="module")
def engine(choices: list[Choice], tables: dict[str, Any]) -> Engine:
    return Engine(choices, tuple(tables))


@pytest.fixture(scope="module")
def whole(engine: Engine, tables: dict[str, Any]) -> torch.Tensor:
    return _audit.run_whole(engine, tables).values


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says how many threads a tape gets, however few the rows."""
    monkeypatch.setattr(_tape, "ROWS_PER_THREAD", 1)

    def set_threads(count: int) -> None:
        monkeypatch.setattr(torch, "get_num_threads", lambda: count)

    return set_threads


def show(findings: Sequence[_audit.Finding]) -> str:
    return "\n".join(map(str, findings))


def differences(engine: Engine, wanted: torch.Tensor, got: torch.Tensor) -> list[_audit.Finding]:
    return list(_audit.differences("tape", engine, wanted, got))


def test_the_catalogue_has_the_bits_of_the_grouped_evaluation(
    engine: Engine, choices: list[Choice], tables: dict[str, Any], whole: torch.Tensor
) -> None:
    grouped = Engine(choices, tuple(tables), grouped=True)
    assert grouped.names == engine.names and len(engine.names) > 300
    found = differences(engine, _audit.run_whole(grouped, tables).values, whole)
    assert not found, show(found)


@pytest.mark.parametrize("name", SETS)
def test_a_shipped_set_has_the_bits_of_the_grouped_evaluation(name: str, tables: dict[str, Any]) -> None:
    chosen = read_set(ROOT / "configs" / "features" / f"{name}.yaml")
    wanted = {part for choice in chosen for part in choice.on or () if part != "time"}
    given = {**tables, **dict.fromkeys(wanted - set(tables), tables["1min"])}
    engines = [Engine(chosen, tuple(given), grouped=flag) for flag in (False, True)]
    got, expected = (_audit.run_whole(engine, given).values for engine in engines)
    found = differences(engines[0], expected, got)
    assert not found, show(found)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_threads_gives_the_same_bits(
    count: int, engine: Engine, tables: dict[str, Any], whole: torch.Tensor, threads: Any
) -> None:
    threads(count)
    found = differences(engine, whole, _audit.run_whole(engine, tables).values)
    assert not found, show(found)
    assert len(engine._programs["short"]._tapes._made[count]) == count


def test_a_state_of_one_number_of_threads_goes_on_under_another(
    engine: Engine, tables: dict[str, Any], whole: torch.Tensor, threads: Any, tmp_path: Path
) -> None:
    closes = tables["short"].last_trade_row
    edges = [-1, *(int(closes[row]) for row in (3, 40, 41, 600, 1023, 1024)), _audit.LAST]
    state, parts = engine.start(CPU), []
    for count, (after, until) in zip(itertools.cycle((1, 3, 2, 4)), itertools.pairwise(edges), strict=False):
        threads(count)
        features, state = engine.step(_audit.cut(tables, after, until), state)
        state = _state.load_state(_state.save_state(tmp_path, engine, state), engine, CPU)
        parts.append(features.values)
    found = differences(engine, whole, torch.cat(parts))
    assert not found, show(found)


def test_one_row_after_whole_tiles(tables: dict[str, Any]) -> None:
    """A column that is one number for all rows beside one that is not, in a tile of one row."""
    bars = Columns()
    feature = _feature.Feature("mix", lambda _: {"mix": bars.close / bars.price_tick + bars.quantity_lot})
    alone = Engine([Choice(feature, feature.config())], ("short",))
    short = tables["short"].select(slice(0, 1025))
    got = _audit.run_whole(alone, {"short": short}).values[:, 0]
    wanted = short.close / float(short.symbol.price_tick) + float(short.symbol.quantity_lot)
    assert len(got) == 1025 and torch.equal(got, wanted)


def test_work_is_divided_once_and_whole(engine: Engine) -> None:
    tapes = engine._programs["short"]._tapes
    for parts in (1, 2, 3, 7):
        found = divide(tapes._nodes, tapes._outputs, parts)
        assert sorted(index for part in found for index in part) == list(range(len(tapes._outputs)))
        assert len(found) == parts
    for made in (tapes._tapes(2), tapes._tapes(3)):
        owned = [piece for one in made for piece in one.owned]
        assert len(owned) == len(set(owned))
        assert sum(size for _, size in owned) == len(tapes.start())
    assert len(needed(tapes._nodes, tapes._outputs)) <= len(tapes._nodes)


def test_memory_is_used_again_only_when_nobody_holds_it() -> None:
    first = _tape.empty_columns(3, 1000, CPU)
    first.fill_(1.0)
    part, place = first.t()[5:], first.data_ptr()
    del first
    second = _tape.empty_columns(3, 1000, CPU)
    second.fill_(2.0)
    assert second.data_ptr() != place and bool((part == 1.0).all()), "a view of a part still holds it"
    del part, second
    assert _tape.empty_columns(3, 1000, CPU).data_ptr() == place
