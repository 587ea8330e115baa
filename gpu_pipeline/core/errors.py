"""Errors that teach: what, where, the rule, the value, the way out; each with its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

OK, CHECK_FAILED, BAD_INPUT, ENVIRONMENT, BUSY, BUG = 0, 1, 2, 3, 4, 5


class PipelineError(Exception):
    """Base of every error that a user can act on; `exit_code` is what the command line returns."""

    exit_code = BUG


class CheckFailed(PipelineError):
    """A check ran and found something."""

    exit_code = CHECK_FAILED


class InputError(PipelineError):
    """Bad data or a bad argument: names the file, the row, the rule, the value and the way out."""

    exit_code = BAD_INPUT

    @classmethod
    def at(cls, path: object, rule: str, *, row: int | None = None, value: object = None, fix: str = "") -> InputError:
        """Builds the one-line message `path, row N: rule (value ...); fix`."""
        where = f"{path}" if row is None else f"{path}, row {row:,}"
        shown = "" if value is None else f" (value {value!r})"
        return cls(f"{where}: {rule}{shown}" + (f"; {fix}" if fix else ""))


class EnvironmentProblem(PipelineError):
    """Disk, GPU, permission or a missing package: the machine cannot do what was asked."""

    exit_code = ENVIRONMENT


class Busy(PipelineError):
    """Another process holds the run."""

    exit_code = BUSY


@dataclass(frozen=True)
class Problem:
    """One mistake in a run file."""

    section: str
    key: str
    message: str
    value: object = None
    nearest: str | None = None
    file: str = ""

    def __str__(self) -> str:
        where = ".".join(part for part in (self.section, self.key) if part)
        shown = "" if self.value is None else f" (value {self.value!r})"
        hint = f"; did you mean '{self.nearest}'?" if self.nearest else ""
        file = f"{self.file}: " if self.file else ""
        return f"{file}{where}: {self.message}{shown}{hint}"


class ConfigError(PipelineError):
    """All mistakes of one run file at once, a line each."""

    exit_code = BAD_INPUT

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(name: object, allowed: Iterable[str]) -> str | None:
    """The allowed name closest in spelling to `name`, or None when nothing is close."""
    found = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    return found[0] if found else None
