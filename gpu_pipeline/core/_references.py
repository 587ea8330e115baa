"""Names in one section of a run file that must stand in another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpu_pipeline.core.errors import Problem, nearest
from gpu_pipeline.core.units import parse_duration

if TYPE_CHECKING:
    from gpu_pipeline.core.config import BarsSection, RunConfig


def check_references(config: RunConfig, file: str) -> list[Problem]:
    """Every name that points nowhere, and every section that lacks the one it needs."""
    return [
        problem
        for check in (
            _check_order,
            _check_trades,
            _check_targets,
            _check_inputs,
            _check_book,
            _check_assets,
            _check_search,
            _check_select,
        )
        for problem in check(config, file)
    ]


def _check_order(config: RunConfig, file: str) -> list[Problem]:
    needs = {"features": "bars", "labels": "bars", "dataset": "features", "train": "dataset", "select": "dataset"}
    return [
        Problem(section, "", f"needs the section '{needed}'", file=file)
        for section, needed in needs.items()
        if getattr(config, section) and not getattr(config, needed)
    ]


def _check_trades(config: RunConfig, file: str) -> list[Problem]:
    """Bars are made of one stream, and what is made of others' bars is what time decides."""
    if config.bars is None:
        return []
    if "bars" not in config.ingest:
        near = nearest("trades", config.ingest)
        rule = "bars are made of the stream 'bars' (of others), or else of the stream 'trades', which is not there"
        return [] if "trades" in config.ingest else [Problem("ingest", "", rule, near, file=file)]
    problems = []
    if "trades" in config.ingest:
        problems.append(Problem("ingest", "bars", "bars are made of 'trades' or of 'bars', not of both", file=file))
    if config.bars.type != "time":
        rule = "of bars made by others only time bars can be made"
        problems.append(Problem("bars", "type", rule, config.bars.type, "time", file))
    if config.engine is not None:
        problems.append(Problem("engine", "name", "bars of the stream 'bars' are made in one process", file=file))
    return problems + _check_steps(config, config.bars, file)


def _check_steps(config: RunConfig, section: BarsSection, file: str) -> list[Problem]:
    """Time bars are made of whole bars of others."""
    own: Any = getattr(config.ingest["bars"].options, "step", None)
    steps = {
        "step": getattr(section.options, "step", own),
        **{f"time.{at}": step for at, step in enumerate(section.time)},
    }
    if own is None:
        return []
    return [
        Problem("bars", key, f"must be a multiple of ingest.bars.step ({own})", step, file=file)
        for key, step in steps.items()
        if parse_duration(step) % parse_duration(own)
    ]


def _check_targets(config: RunConfig, file: str) -> list[Problem]:
    targets = config.dataset.targets if config.dataset else ()
    return [
        Problem(
            "dataset",
            "target",
            f"no label of this name; there are {', '.join(config.labels) or 'none'}",
            name,
            nearest(name, config.labels),
            file,
        )
        for name in targets
        if name not in config.labels
    ]


def _check_inputs(config: RunConfig, file: str) -> list[Problem]:
    if not (config.train and config.dataset):
        return []
    streams = list(config.dataset.streams)
    return [
        Problem(
            "train",
            f"models.{index}.inputs",
            f"no stream of this name; there are {', '.join(streams)}",
            name,
            nearest(name, streams),
            file,
        )
        for index, model in enumerate(config.train.models)
        for name in model.inputs or ()
        if name not in streams
    ]


def _check_book(config: RunConfig, file: str) -> list[Problem]:
    problems = []
    if config.book and config.book.stream not in config.ingest:
        problems.append(
            Problem(
                "book",
                "stream",
                "no ingest stream of this name",
                config.book.stream,
                nearest(config.book.stream, config.ingest),
                file,
            )
        )
    for name, stream in (config.dataset.streams if config.dataset else {}).items():
        if stream.from_ == "book" and not config.book:
            problems.append(Problem("dataset", f"streams.{name}.from", "needs the section 'book'", "book", file=file))
        if stream.from_ == "daily" and "trades" not in config.ingest:
            rule = "days are told by the ingest stream 'trades', which is not there"
            problems.append(Problem("dataset", f"streams.{name}.from", rule, "daily", file=file))
    return problems


def _check_assets(config: RunConfig, file: str) -> list[Problem]:
    """Assets of book streams, their reference, and how many of them there must be."""
    problems = []
    for name, stream in (config.dataset.streams if config.dataset else {}).items():
        assets, symbols = stream.assets_among(list(config.symbols)), ", ".join(config.symbols)
        for asset in assets:
            if asset not in config.symbols:
                near = nearest(asset, config.symbols)
                where = f"streams.{name}.assets"
                problems.append(Problem("dataset", where, f"no such symbol; there are {symbols}", asset, near, file))
        if stream.reference and stream.reference not in assets:
            near, where = nearest(stream.reference, assets), f"streams.{name}.reference"
            rule = f"no such asset; there are {', '.join(assets)}"
            problems.append(Problem("dataset", where, rule, stream.reference, near, file))
        if stream.min_assets_required and stream.min_assets_required > len(assets):
            where, rule = f"streams.{name}.min_assets_required", f"there are only {len(assets)} assets"
            problems.append(Problem("dataset", where, rule, stream.min_assets_required, file=file))
    return problems


def _check_search(config: RunConfig, file: str) -> list[Problem]:
    titles = [model.title for model in config.train.models] if config.train else []
    if config.search and config.search.model and config.search.model not in titles:
        return [
            Problem(
                "search",
                "model",
                f"no model of this name; there are {', '.join(titles)}",
                config.search.model,
                nearest(config.search.model, titles),
                file,
            )
        ]
    return []


def _check_select(config: RunConfig, file: str) -> list[Problem]:
    targets = config.dataset.targets if config.dataset else ()
    wanted = config.select.target if config.select else None
    if wanted is None or not targets or wanted in targets:
        return []
    rule = f"no target of the dataset; there are {', '.join(targets)}"
    return [Problem("select", "target", rule, wanted, nearest(wanted, targets), file)]
