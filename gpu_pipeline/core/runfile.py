"""Run files as text: YAML 1.2 in and out, and the `key=value` overrides of the command line."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gpu_pipeline.core.errors import InputError


def read_yaml(path: Path) -> Any:
    """Reads a YAML 1.2 file; duplicate keys are errors.

    Raises:
        InputError: missing or malformed, with the line.
    """
    try:
        return _parse_yaml(path.read_text())
    except FileNotFoundError as error:
        raise InputError.at(
            path, "no such file", fix="check the path; relative paths start at the working directory"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.at(path, f"cannot be read: {error}") from error
    except (YAMLError, ValueError) as error:
        raise InputError.at(path, f"is not valid YAML: {' '.join(str(error).split())}") from error


def _parse_yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def write_yaml(values: Any) -> str:
    """Plain values as YAML text, keys in the given order."""
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(values, stream)
    return stream.getvalue()


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Sets `section.key=value` pairs; values are YAML scalars or flow collections; list items are numbered from 0.

    Raises:
        InputError: not of the form key=value, or a path through something that is no mapping or list.
    """
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise InputError(f"override '{override}': write key=value, for example train.epochs=5")
        try:
            value = _parse_yaml(text)
        except (YAMLError, ValueError) as error:
            why = " ".join(str(error).split())
            raise InputError(f"override '{override}': the value is not valid YAML: {why}") from error
        _set(values, path.split("."), value, override)
    return values


def _set(node: Any, path: list[str], value: Any, override: str) -> None:
    for position, part in enumerate(path):
        key: Any = int(part) if isinstance(node, list) and part.isdigit() else part
        last = position == len(path) - 1
        if isinstance(node, list) and not (isinstance(key, int) and key < len(node)):
            raise InputError(f"override '{override}': '{part}' is no item of a list of {len(node)}")
        if not isinstance(node, dict | list):
            raise InputError(f"override '{override}': '{path[position - 1]}' is a plain value and has no key '{part}'")
        if last:
            node[key] = value
        else:
            if isinstance(node, dict) and node.get(key) is None:
                node[key] = {}
            node = node[key]
