"""An example of a plug-in's Config: its defaults, and the first example of every required field."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest
from pydantic import ValidationError

from gpu_pipeline.core.plugins import Options, Plugin

Config = TypeVar("Config", bound=Options)


def example(config: type[Config]) -> Config:
    required = {name: field for name, field in config.model_fields.items() if field.is_required()}
    lacking = [name for name, field in required.items() if not field.examples]
    assert not lacking, f"{config.__module__}.Config: give {lacking} an example: Field(examples=[...])"
    return config(**{name: field.examples[0] for name, field in required.items()})


def strict_example(plugin: Plugin) -> Any:
    """An example of a plug-in's Config, once it has shown that it is documented, frozen and refuses unknown keys."""
    config = example(plugin.config)
    assert issubclass(plugin.config, Options)
    assert plugin.summary
    assert plugin.config.__doc__
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, next(iter(plugin.config.model_fields)), None)
    with pytest.raises(ValidationError, match="Extra inputs"):
        plugin.config(**{**config.model_dump(), "no_such_key": 1})
    return config
