"""Every row loop that a feature of the folder runs, present and future, compiles for the GPUs we name, without one."""

from __future__ import annotations

import pytest
from numba import float64, int64

from gpu_pipeline.features import _feature
from gpu_pipeline.features.expression import Expression
from kernels._op import SIMULATED
from kernels.loops import RowLoop
from tests.conformance.test_features import default_choice
from tests.kernels.conftest import assemble, compile_to_ptx

ROWS, FLAT = float64[:, ::1], float64[::1]


def loops_of(node: Expression, found: dict[str, RowLoop]) -> None:
    if node.kind == "loop":
        plain = node.parameters[0].plain
        found[f"{plain.__module__.rpartition('.')[2]}.{plain.__qualname__}"] = node.parameters[0]
    for part in node.inputs:
        loops_of(part, found)


def every_loop() -> dict[str, RowLoop]:
    found: dict[str, RowLoop] = {}
    for choice in map(default_choice, _feature.catalogue()):
        for node in choice.feature.columns(choice.parameters).values():
            loops_of(node, found)
    return found


LOOPS = every_loop()


def test_the_folder_has_row_loops() -> None:
    assert {"volume_profile.profile_prices", "trade_signs.tick_rule", "_day.day_rank"} <= set(LOOPS)


@pytest.mark.compile
@pytest.mark.skipif(SIMULATED, reason="the simulator compiles nothing")
@pytest.mark.parametrize("name", sorted(LOOPS))
def test_a_row_loop_compiles_and_spills_nothing(name: str, tmp_path) -> None:
    ptx = compile_to_ptx(LOOPS[name].kernel, (ROWS, ROWS, FLAT, int64, FLAT), (9, 0))
    assert ".target sm_90" in ptx
    used = assemble(ptx, (9, 0), tmp_path)
    if used is None:
        pytest.skip("PTX is made, but no ptxas is found to count registers")
    assert used["bytes spill stores"] == 0 and used["bytes stack frame"] == 0
