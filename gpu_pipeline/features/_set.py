"""Feature sets: which features with which parameters over which resolutions (a YAML file or the mapping itself)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gpu_pipeline.core.errors import ConfigError, InputError, Problem, nearest
from gpu_pipeline.core.plugins import Options
from gpu_pipeline.core.runfile import read_yaml
from gpu_pipeline.core.units import format_step, parse_duration
from gpu_pipeline.features._book import BOOK
from gpu_pipeline.features._feature import Feature, find

KEYS = ("windows", "on")
TIME_BARS = "time"


@dataclass(frozen=True)
class Choice:
    """One feature with one set of parameters, over some resolutions.

    Attributes:
        on: names of resolutions; `time` stands for every time bar there is; None means all resolutions.
    """

    feature: Feature
    parameters: Options
    on: tuple[str, ...] | None = None

    def wanted_on(self, resolution: str) -> bool:
        """Whether it is computed over a resolution."""
        if self.feature.of_book or resolution == BOOK:
            return self.feature.of_book and resolution == BOOK
        return self.on is None or resolution in self.on or (TIME_BARS in self.on and is_time_step(resolution))


def is_time_step(resolution: str) -> bool:
    """Whether a resolution's name is a step such as 1min."""
    try:
        return parse_duration(resolution) > 0
    except ValueError:
        return False


def read_set(source: str | Path | Mapping[str, Any]) -> tuple[Choice, ...]:
    """Reads and checks a feature set.

    Raises:
        ConfigError: every mistake at once: unknown features and keys with the nearest allowed name, wrong parameters.
        InputError: the file cannot be read or holds no mapping.
    """
    values = read_yaml(Path(source)) if isinstance(source, str | Path) else source
    file = str(source) if isinstance(source, str | Path) else "feature set"
    if not isinstance(values, Mapping) or not values:
        raise InputError.at(
            file, "must map features to their windows, for example {sma: {windows: [20, 50]}}", value=values
        )
    choices: list[Choice] = []
    problems: list[Problem] = []
    for name, entry in values.items():
        try:
            choices += _read_feature(str(name), entry)
        except _Mistake as mistake:
            problems.append(Problem(str(name), mistake.key, mistake.rule, mistake.value, mistake.hint, file))
    if problems:
        raise ConfigError(problems)
    return tuple(choices)


class _Mistake(Exception):
    def __init__(self, key: str, rule: str, value: object = None, hint: str | None = None) -> None:
        self.key, self.rule, self.value, self.hint = key, rule, value, hint


def _read_feature(name: str, entry: Any) -> Iterator[Choice]:
    try:
        feature = find(name)
    except InputError as error:
        raise _Mistake("", str(error)) from error
    for part in entry if isinstance(entry, list) else [entry]:
        yield from _read_entry(feature, {} if part is None else part)


def _read_entry(feature: Feature, entry: Any) -> Iterator[Choice]:
    if not isinstance(entry, Mapping):
        raise _Mistake("", "must be a mapping such as {windows: [14]}", entry)
    for key in entry:
        if key not in KEYS:
            raise _Mistake(str(key), f"unknown key; allowed: {', '.join(KEYS)}", entry[key], nearest(key, KEYS))
    on = _read_on(entry.get("on"))
    windows = entry.get("windows", [[]])
    if not isinstance(windows, list) or not windows:
        raise _Mistake("windows", "must be a list of parameter sets, for example [14] or [[12, 26, 9]]", windows)
    for window in windows:
        yield Choice(feature, _parameters(feature, window), on)


def _read_on(on: Any) -> tuple[str, ...] | None:
    if on is None:
        return None
    names = [on] if isinstance(on, str) else on
    if not isinstance(names, list | tuple) or not names:
        raise _Mistake("on", "must be a resolution or a list of them, for example [short, 1min]", on)
    return tuple(format_step(parse_duration(str(name))) if is_time_step(str(name)) else str(name) for name in names)


def _parameters(feature: Feature, window: Any) -> Options:
    fields = list(feature.config.model_fields)
    values = window if isinstance(window, list | tuple) else [window]
    if len(values) > len(fields):
        rule = (
            f"takes {len(fields)} parameters ({', '.join(fields)})"
            if fields
            else "takes no parameters; leave windows out"
        )
        raise _Mistake("windows", rule, window)
    try:
        return feature.config(**dict(zip(fields, values, strict=False)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _Mistake("windows", f"{where}: {first['msg']} (parameters: {', '.join(fields)})", window) from error


def read_include(include: str | Path | Sequence[str] | None) -> tuple[str, ...] | None:
    """A list of columns to keep, or a text file of them, a name per line; None keeps all.

    Raises:
        InputError: the file cannot be read, or the list is empty.
    """
    if include is None:
        return None
    names = _read_lines(Path(include)) if isinstance(include, str | Path) else list(include)
    if not names:
        raise InputError.at(include, "features.include names no column", fix="name some, or set it to null")
    return tuple(names)


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.at(path, f"cannot be read as a list of columns: {error}") from error
    return [text for line in lines if (text := line.partition("#")[0].strip())]
