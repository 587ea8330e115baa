"""What a run trained on, as the live engine needs it: bar chains, features, book form, streams and fitted numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from gpu_pipeline.bars import _fold
from gpu_pipeline.core.config import RunConfig, StreamSection
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.store import Output, digest_of, read_json
from gpu_pipeline.core.units import parse_duration
from gpu_pipeline.dataset.model_input import Fitted
from gpu_pipeline.features._book import BOOK
from gpu_pipeline.features._stage import compile_run
from gpu_pipeline.features.engine import Engine, suffix


@dataclass(frozen=True)
class StreamPlan:
    """One stream of the dataset, as a row of it becomes model input.

    Attributes:
        name: in the run file.
        section: its keys there.
        fitted: imputation and scaling of the training run.
        window: rows that a model sees.
        same_bars: its rows are those of the decision stream.
        latency_ns: added to a row's known time.
        listed: the run file lists the feature columns, so that levels among them are meant.
    """

    name: str
    section: StreamSection
    fitted: Fitted
    window: int
    same_bars: bool
    latency_ns: int
    listed: bool

    @property
    def of_book(self) -> bool:
        """Whether its rows are cells of the book."""
        return self.section.from_ == "book"


@dataclass(frozen=True)
class Plan:
    """Everything that does not change while the engine runs.

    Attributes:
        chains: of the bars.
        engine: of the features.
        form: the book's form, None where the run has no book.
        options: of the form.
        book_stream: its stream of `ingest`, None where the run has no book.
        streams: in the dataset's order; `decision` is the one whose rows decide.
        decision: its name.
        fingerprint: equal where one engine can go on from the other's state.
    """

    chains: tuple[_fold.Chain, ...]
    engine: Engine
    form: ModuleType | None
    options: Options | None
    book_stream: str | None
    streams: tuple[StreamPlan, ...]
    decision: str
    fingerprint: str

    def refuse_bars_alone(self) -> None:
        """Raises where closed short bars are not enough.

        Raises:
            InputError: a column needs other bars, or the book; names the first ones.
        """
        base = self.engine.base
        others = [name for name in self.engine.names if not name.endswith(suffix(base))]
        if others or any(stream.of_book for stream in self.streams):
            named = ", ".join(others[:5]) or next(stream.name for stream in self.streams if stream.of_book)
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            raise InputError(
                f"live: closed short bars alone do not make {named}{more}; they need trades, time bars or the book:"
                " feed trades, or train on features of the short bars only"
            )


def make_plan(config: RunConfig, dataset: Path) -> Plan:
    """The plan of a run whose dataset is finished.

    Raises:
        InputError: the run lacks a section, restarts its bars at file borders, or has a stream that cannot run live.
    """
    if config.bars is None or config.dataset is None or config.features is None:
        raise InputError("live: the run file needs the sections 'bars', 'features' and 'dataset'")
    if config.bars.at_file_end == "flush":
        raise InputError(
            "live: bars.at_file_end: flush restarts bars where a file ends, and live has none; use continue"
        )
    manifest = Output.at(dataset, "dataset").manifest
    fitted = read_json(dataset / "scaler.json")
    listed = config.features.include is not None
    streams = tuple(
        _stream(name, config.dataset.streams[name], manifest["streams"][name], fitted[name], listed)
        for name in manifest["stream_names"]
    )
    engine = compile_run(config)
    book = config.book if any(stream.of_book for stream in streams) or BOOK in engine.needed else None
    sections = [config.section(name) for name in ("bars", "features", "book", "dataset")]
    return Plan(
        chains=_fold.plan(config.bars),
        engine=engine,
        form=book.plugin.module if book else None,
        options=book.options if book else None,
        book_stream=book.stream if book else None,
        streams=streams,
        decision=manifest["decision_stream"],
        fingerprint=digest_of([sections, fitted, engine.fingerprint]),
    )


def _stream(
    name: str, section: StreamSection, described: Mapping[str, Any], fitted: Mapping[str, Any], listed: bool
) -> StreamPlan:
    if section.from_ not in ("features", "book") or "assets" in described:
        kind = "several assets side by side" if "assets" in described else f"from: {section.from_}"
        raise InputError(f"live: dataset.streams.{name} ({kind}) cannot be made live yet; leave it out and train again")
    return StreamPlan(
        name=name,
        section=section,
        fitted=Fitted.from_json(fitted, torch.device("cpu")),
        window=int(described["window"]),
        same_bars=bool(described["same_bars"]),
        latency_ns=parse_duration(section.latency),
        listed=listed,
    )
