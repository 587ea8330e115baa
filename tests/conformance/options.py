"""An example of a plug-in's Config: its defaults, and the first example of every required field."""

from __future__ import annotations

from typing import TypeVar

from gpu_pipeline.core.plugins import Options

Config = TypeVar("Config", bound=Options)


def example(config: type[Config]) -> Config:
    required = {name: field for name, field in config.model_fields.items() if field.is_required()}
    lacking = [name for name, field in required.items() if not field.examples]
    assert not lacking, f"{config.__module__}.Config: give {lacking} an example: Field(examples=[...])"
    return config(**{name: field.examples[0] for name, field in required.items()})
