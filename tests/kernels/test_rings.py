"""Every GPU kernel has its rings without a GPU: a compile gate that names it, and an emulated test that reaches it.

Files are read, not run. A test reaches what its body, its fixtures and the constants it names refer to, and so on
through functions of the tests and of `kernels`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "kernels").glob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
DEVICE = "cuda.jit(device=True)"
Place = tuple[str, str]


@dataclass
class Source:
    """What a file defines at its top level, and what its names mean elsewhere."""

    module: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    names: dict[str, Place] = field(default_factory=dict)

    def resolve(self, node: ast.AST) -> Place | None:
        """The definition that a name, an argument or an attribute of a module refers to."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in self.modules:
            return self.modules[node.value.id], node.attr
        name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else None
        return self.names.get(name, (self.module, name)) if name else None


@cache
def sources() -> dict[str, Source]:
    found = {}
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[module] = read(module, ast.parse(path.read_text()))
    return found


def read(module: str, tree: ast.Module) -> Source:
    source = Source(module)
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                source.names[alias.asname or alias.name] = (statement.module or "", alias.name)
                source.modules[alias.asname or alias.name] = f"{statement.module}.{alias.name}"
        elif isinstance(statement, ast.Import):
            source.modules |= {alias.asname: alias.name for alias in statement.names if alias.asname}
        else:
            for name in defined(statement):
                source.definitions.setdefault(name, []).append(statement)
    return source


def defined(statement: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement binds, or adds an item to."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(getattr(node, "ctx", None), ast.Store):
            target = node.value if isinstance(node, ast.Subscript) else node
            if isinstance(target, ast.Name):
                yield target.id


def reached(start: Place) -> set[Place]:
    seen, todo = set(), [start]
    while todo:
        place = todo.pop()
        source = sources().get(place[0])
        if place in seen or source is None:
            continue
        seen.add(place)
        nodes = (node for body in source.definitions.get(place[1], ()) for node in ast.walk(body))
        todo += filter(None, map(source.resolve, nodes))
    return seen


def marked(statement: ast.stmt, ring: str) -> bool:
    return any(ast.unparse(mark) == f"pytest.mark.{ring}" for mark in getattr(statement, "decorator_list", ()))


@cache
def reached_in_ring(ring: str) -> set[Place]:
    tests = [
        (source.module, name)
        for source in sources().values()
        for name, bodies in source.definitions.items()
        if name.startswith("test_") and any(marked(body, ring) for body in bodies)
    ]
    assert tests, f"no test is marked '{ring}'"
    return set().union(*map(reached, tests))


def kernels_made_by(*decorators: str) -> list[Place]:
    """Top-level functions under one of the decorators: numba-cuda kernels (device functions are none) or Triton's."""
    return [
        (source.module, name)
        for source in sources().values()
        if source.module.startswith("kernels.")
        for name, bodies in source.definitions.items()
        if any(ast.unparse(mark) in decorators for body in bodies for mark in getattr(body, "decorator_list", ()))
    ]


CUDA, TRITON = kernels_made_by("cuda.jit"), kernels_made_by("kernel")
LAUNCHERS = [
    (module, name)
    for module in sorted({place[0] for place in CUDA})
    for name in sources()[module].definitions
    if name.startswith("launch")
]


def test_decorators_of_kernels_are_the_ones_looked_for():
    for source in sources().values():
        for bodies in source.definitions.values():
            marks = [ast.unparse(mark) for body in bodies for mark in getattr(body, "decorator_list", ())]
            unknown = [mark for mark in marks if "cuda.jit" in mark and mark not in ("cuda.jit", DEVICE)]
            assert not unknown, f"{source.module}: {unknown} is not looked for here; teach this test"
    assert len(CUDA) >= 12
    assert len(TRITON) >= 5


def require(place: Place, ring: str, otherwise: str) -> None:
    found = place in reached_in_ring(ring)
    assert found, f"{'.'.join(place)}: {otherwise}"


@pytest.mark.parametrize("place", [*CUDA, *TRITON], ids=".".join)
def test_a_kernel_is_named_by_a_compile_gate(place):
    require(place, "compile", "add it to tests/kernels/test_compile_*.py")


@pytest.mark.parametrize("place", [*CUDA, *LAUNCHERS], ids=".".join)
def test_a_cuda_kernel_and_its_launcher_run_in_the_simulator(place):
    require(place, "sim", "no test marked 'sim' reaches it")


@pytest.mark.parametrize("place", TRITON, ids=".".join)
def test_a_triton_kernel_runs_in_the_interpreter(place):
    require(place, "interpret", "no test marked 'interpret' reaches it")
