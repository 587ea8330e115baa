"""What pydantic found, as lines that name file, section, key, value and the nearest allowed name."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from gpu_pipeline.core.errors import Problem, nearest


def problems(errors: Sequence[Any], prefix: tuple[Any, ...], model: Any, file: str) -> list[Problem]:
    """One problem per mistake; a plug-in's own mistakes are unfolded in their place."""
    found: list[Problem] = []
    for error in errors:
        location = (*prefix, *(part for part in error["loc"] if not _is_tag(part)))
        context = error.get("ctx", {})
        if error["type"] == "nested":
            inner = [{**item, "allowed": context["allowed"]} for item in context["errors"]]
            found += problems(inner, location, context["model"], file)
        else:
            found.append(_problem(error, location, model, file))
    return _one_each(found)


def _one_each(found: Sequence[Problem]) -> list[Problem]:
    """A key of several types is one mistake, though none of them takes the value."""
    merged: dict[tuple[str, str], Problem] = {}
    for problem in found:
        place = (problem.section, problem.key)
        first = merged.get(place)
        both = first and replace(
            first, message=f"{first.message}; or {problem.message}", nearest=first.nearest or problem.nearest
        )
        merged[place] = both or problem
    return list(merged.values())


def _is_tag(part: Any) -> bool:
    return isinstance(part, str) and (
        part in {"str", "int", "float", "bool"}
        or part.startswith(("list[", "dict[", "function-", "literal[", "constrained-"))
    )


def _problem(error: Any, location: tuple[Any, ...], model: Any, file: str) -> Problem:
    context = error.get("ctx", {})
    section, key = (str(location[0]), ".".join(map(str, location[1:]))) if location else ("", "")
    if context.get("at"):
        key = f"{key}.{context['at']}".lstrip(".")
        return Problem(section, key, str(error["msg"]), file=file)
    if error["type"] == "extra_forbidden":
        allowed = error.get("allowed") or _allowed_at(model, error["loc"][:-1])
        hint = nearest(location[-1], allowed)
        message = "unknown key" if hint else f"unknown key; allowed: {', '.join(sorted(allowed))}"
        # Nobody's password belongs into a log, whatever key it stands under.
        return Problem(section, key, message, None if "password" in key.lower() else error["input"], hint, file)
    message = str(error["msg"]).removeprefix("Value error, ")
    shown = None if error["type"] in {"missing", "value_error", "mapping"} else error["input"]
    expected = context.get("expected")
    hint = (
        nearest(error["input"], [word.strip("'") for word in str(expected).replace(" or ", ", ").split(", ")])
        if expected
        else None
    )
    return Problem(section, key, message, shown, hint, file)


def _allowed_at(model: Any, location: Sequence[Any]) -> list[str]:
    for part in location:
        model = _step_into(model, part)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [field.alias or name for name, field in model.model_fields.items() if name != "options"]
    return []


def _step_into(model: Any, part: Any) -> Any:
    if isinstance(model, type) and issubclass(model, BaseModel):
        by_alias = {field.alias or name: field for name, field in model.model_fields.items()}
        return _strip(by_alias[part].annotation) if part in by_alias else None
    arguments = typing.get_args(model)
    return _strip(arguments[-1]) if arguments else None


def _strip(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        choices = [choice for choice in typing.get_args(annotation) if choice is not type(None)]
        return _strip(choices[0])
    return annotation
