"""What a reader of the report must be told, in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from gpu_pipeline.core import plugins

ENOUGH_EFFECTIVE = 1000


def warnings(
    metrics: Mapping[str, Any],
    dataset: Mapping[str, Any],
    ingest: Mapping[str, Any],
    moves: Mapping[str, float],
    fees: Mapping[str, float | None],
    book: Mapping[str, Any] | None = None,
) -> list[str]:
    """One sentence per thing that limits what the numbers mean.

    Args:
        metrics: content of metrics.json; empty where nothing was judged.
        dataset: manifest of the dataset stage.
        ingest: manifest of the ingest stage.
        moves: symbol -> median absolute return between entry and exit of the target's labels.
        fees: symbol -> taker fee of one side in basis points, None where unknown.
        book: manifest of the book stage; None where there is no book.
    """
    return [
        *_effective(metrics),
        *_costs(moves, fees),
        *_baselines(metrics),
        *_classes(dataset),
        *_columns(dataset),
        *_data(ingest),
        *_book(book or {}),
    ]


def _effective(metrics: Mapping[str, Any]) -> Iterator[str]:
    parts = metrics.get("parts", {})
    for part, facts in [(part, parts[part]) for part in ("validation", "test") if part in parts]:
        effective = facts["effective_samples"]
        if effective < ENOUGH_EFFECTIVE:
            # The standard error of an AUC of n even samples is 1 / sqrt(3 n).
            width = 1.96 / math.sqrt(3 * max(effective, 1))
            yield (
                f"Too few effective samples: the {part} part has {facts['samples']:,} samples, but labels overlap "
                f"so much that they are worth {effective:,.0f} independent ones. An AUC from them is known to about "
                f"±{width:.2f}; smaller differences mean nothing."
            )


def _costs(moves: Mapping[str, float], fees: Mapping[str, float | None]) -> Iterator[str]:
    for symbol, move in moves.items():
        fee = fees.get(symbol)
        if fee is None:
            yield f"The fee of {symbol} is unknown (symbols.{symbol}.fee_bps): moves and costs were not compared."
        elif move < 2 * fee / 1e4:
            yield (
                f"Barriers smaller than round-trip costs: half of the labels of {symbol} end within {move * 1e4:.1f} "
                f"basis points of the entry, and a round trip costs {2 * fee:.1f}. Even perfect foresight loses "
                f"money on them."
            )


def _baselines(metrics: Mapping[str, Any]) -> Iterator[str]:
    models = {name: entry for name, entry in metrics.get("predictors", {}).items() if entry["kind"] == "model"}
    for model, entry in models.items():
        against = entry["parts"].get("test", {}).get("against", {})
        if not against:
            yield f"No baseline was asked for (evaluate.baselines): nothing says whether '{model}' knows anything."
        for baseline, compared in against.items():
            metric = "log_loss" if "log_loss" in compared else next(iter(compared))
            if not _beaten(metric, compared[metric]):
                yield _not_beaten(model, baseline, metric, compared[metric])


def _beaten(metric: str, difference: Mapping[str, float | None]) -> bool:
    """Whether the whole interval lies on the better side of 0; the value alone where there is no interval."""
    more = getattr(plugins.load("metrics", metric).module, "MAXIMIZE", True)
    end = difference["low" if more else "high"]
    value = difference["value"] if end is None else end
    return value is not None and (value > 0 if more else value < 0)


def _not_beaten(model: str, baseline: str, metric: str, difference: Mapping[str, float | None]) -> str:
    value, low, high = (difference[key] for key in ("value", "low", "high"))
    shown = "not defined" if value is None else f"{value:+.4f}"
    if low is not None and high is not None:
        shown += f", interval {low:+.4f} to {high:+.4f}"
    return (
        f"A baseline is not beaten: on the test part the {metric.replace('_', ' ')} of '{model}' is not better than "
        f"that of '{baseline}' with confidence (difference {shown})."
    )


def _classes(dataset: Mapping[str, Any]) -> Iterator[str]:
    for target, classes in dataset.get("absent_classes", {}).items():
        if classes:
            left_out = sum(dataset["dropped_with_absent_class"].values())
            yield (
                f"Classes of '{target}' absent from training have no output: {', '.join(classes)}; "
                f"{left_out:,} samples of the validation and test parts were left out for it."
            )


def _columns(dataset: Mapping[str, Any]) -> Iterator[str]:
    for key, sentence in (
        ("imputed_columns", "Columns without a single training value were filled with 0"),
        ("zero_spread_columns", "Columns that never change in training were scaled by 1 and carry nothing"),
    ):
        listed = [f"{name}.{column}" for name, stream in dataset.get("streams", {}).items() for column in stream[key]]
        if listed:
            shown = ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")
            yield f"{sentence}: {shown}."


def _data(ingest: Mapping[str, Any]) -> Iterator[str]:
    sentences = {
        "duplicates": "{n:,} duplicate {rows} of {symbol} were dropped",
        "dropped": "{n:,} bad rows of {symbol} were dropped (on_bad_row: drop)",
        "outside_sessions": "{n:,} bars of {symbol} lie outside its sessions and were dropped",
        "times_set_back": "{n:,} trades of {symbol} carried a time before the trade before them and were set to it",
        "id_gaps": "{n:,} trade ids of {symbol} are missing from the input",
        "quote_mismatches": "{n:,} rows of {symbol} have a quote quantity other than price times quantity",
    }
    for symbol, account in ingest.get("symbols", {}).items():
        for key, sentence in sentences.items():
            count = _count(account.get(key, 0))
            if count:
                yield sentence.format(n=count, symbol=symbol, rows=account.get("kind", "trades")) + "."


def _book(book: Mapping[str, Any]) -> Iterator[str]:
    sentences = {
        "crossed": "{n:,} times the book of {symbol} was crossed (best bid above best ask)",
        "locked": "{n:,} times the book of {symbol} was locked (best bid equal to best ask)",
        "empty": "{n:,} times the book of {symbol} had no level: its feed has gaps",
        "missing": "{n:,} of {cells:,} grid times of {symbol} have no book that is recent enough",
    }
    for symbol, account in book.get("symbols", {}).items():
        days = [day for day in book.get("quality", ()) if day["symbol"] == symbol]
        for key, sentence in sentences.items():
            count = sum(day[key] for day in days)
            if count:
                yield sentence.format(n=count, symbol=symbol, cells=account["cells"]) + "."


def _count(value: Any) -> int:
    if isinstance(value, Mapping):
        return int(value["missing"]) if "missing" in value else sum(value.values())
    return int(value)
