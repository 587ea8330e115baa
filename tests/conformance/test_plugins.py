"""Every plug-in of every folder, also the ones not yet written: what the registry relies on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from gpu_pipeline.core import config, plugins
from gpu_pipeline.core.config import PluginSection
from gpu_pipeline.core.errors import InputError

SECTIONS = [
    value
    for value in vars(config).values()
    if isinstance(value, type) and issubclass(value, PluginSection) and value is not PluginSection
]
PLUGINS = [(kind, name) for kind in plugins.KINDS if kind != "features" for name in plugins.names(kind)]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_plugin_is_a_module_with_a_strict_config_and_one_function(kind: str, name: str) -> None:
    plugin = plugins.load(kind, name)
    assert callable(plugin.function)
    assert issubclass(plugin.config, BaseModel)
    assert plugin.config.model_config["extra"] == "forbid" and plugin.config.model_config["frozen"]
    assert plugin.summary.endswith("."), "the first line of the docstring is what `gpu-pipeline list` shows"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_no_plugin_key_is_hidden_by_a_key_of_its_section(section: type[PluginSection]) -> None:
    own = set(section.model_fields) - {"options"}
    for name in plugins.names(section.KIND):
        hidden = own & set(plugins.load(section.KIND, name).config.model_fields)
        assert not hidden, f"{section.KIND} '{name}': a run file cannot set {sorted(hidden)}"


def test_a_dotted_path_reaches_a_plugin_outside_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "elsewhere_bars"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(
        "from gpu_pipeline.core.plugins import Options\nclass Config(Options):\n    n: int = 3\ndef step(): ...\n"
    )
    (package / "half.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.load("bars", "elsewhere_bars.mine").config().n == 3  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"module 'elsewhere_bars\.half' lacks Config and step"):
        plugins.load("bars", "elsewhere_bars.half")
    with pytest.raises(InputError, match=r"cannot import 'elsewhere_bars\.none'.*PYTHONPATH"):
        plugins.load("bars", "elsewhere_bars.none")
    sys.modules.pop("elsewhere_bars")


def test_a_wrong_name_names_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"no plug-in 'dolar'; did you mean 'dollar'\? There are: .*dollar, dollar_imbalance"
    ):
        plugins.load("bars", "dolar")
