"""Who may import whom, read from the sources: a breach or a cycle fails."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kernels", "gpu_pipeline", "train")

# A room may import the rooms beside its name (and itself). `pipeline`, `cli` and the package's own lazy names see all.
ALLOWED = {
    "kernels": set(),
    "core": set(),
    "ingest": {"core", "kernels"},
    "bars": {"core", "kernels"},
    "book": {"core", "kernels"},
    "features": {"core", "kernels"},
    "labels": {"core", "kernels"},
    "dataset": {"core", "kernels"},
    "live": {"core", "kernels", "bars", "book", "features", "dataset"},
    "train": {"core", "dataset", "kernels"},
}
ROOT_FILES = {
    "gpu_pipeline",
    "gpu_pipeline.pipeline",
    "gpu_pipeline.results",
    "gpu_pipeline.cli",
    "gpu_pipeline.__main__",
}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who is imported"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] != "gpu_pipeline" or len(parts) == 1 else parts[1]


@pytest.mark.parametrize("module", sorted(modules()))
def test_module_stays_inside_its_walls(module: str) -> None:
    if module in ROOT_FILES:
        return
    room = room_of(module)
    breaches = []
    for imported in imports_of(modules()[module]):
        if imported == "gpu_pipeline":
            continue
        target = room_of(imported)
        if target != room and target not in ALLOWED[room]:
            breaches.append(imported)
    assert not breaches, f"{module} (room {room}) may import {sorted(ALLOWED[room])}, but imports {sorted(breaches)}"


def test_nothing_imports_tests_or_bench() -> None:
    for module, path in modules().items():
        tree = ast.parse(path.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name for name in names if name.split(".")[0] in ("tests", "bench")}, module


def test_there_are_no_import_cycles() -> None:
    known = modules()
    graph = {
        name: {i for i in imports_of(path, top_level_only=True) if i in known} - {name} for name, path in known.items()
    }
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, f"import cycle: {' -> '.join((*trail[trail.index(name) :], name))}"
        if state.get(name) == 2:
            return
        state[name] = 1
        for imported in sorted(graph[name]):
            visit(imported, (*trail, name))
        state[name] = 2

    for name in sorted(graph):
        visit(name, ())


def test_a_breach_is_seen(tmp_path: Path) -> None:
    """The reader of imports finds function-level and from-imports too."""
    source = tmp_path / "leak.py"
    source.write_text("def f():\n    from gpu_pipeline.ingest import binance\n    import train.loop\n")
    assert {"gpu_pipeline.ingest.binance", "train.loop"} <= imports_of(source)


def test_our_kernels_package_is_the_one_imported() -> None:
    import kernels

    assert Path(kernels.__file__).resolve().is_relative_to(ROOT)
