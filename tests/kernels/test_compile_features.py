"""The kernels of features, labels, windows and books compile for the GPUs we name, without one."""

from __future__ import annotations

import pytest
from numba import float64, int64

from kernels import barriers, recurrence, rolling, window_gather, windows

ROWS, PRICES = int64[::1], float64[::1]
NUMBA = {
    "barrier_extremes": (barriers._extremes_kernel, (PRICES,) * 4),
    "barrier_decide": (barriers._decide_kernel, (PRICES,) * 8 + (ROWS, int64, ROWS, ROWS, PRICES)),
}
SMOOTH = {"TALL": 128, "WIDE": 16}
TRITON = {
    "smooth_seed": (recurrence._seed_kernel, "x*f64 state*f64 seed_row*i64 after*f64", {"BLOCK": 1024}),
    "smooth_carry": (recurrence._carry_kernel, "maps*f64 state*f64 carry*f64 after*f64", SMOOTH),
}
for wilder in (False, True):
    flags = SMOOTH | {"WILDER": wilder}
    TRITON[f"smooth_chunk_{wilder}"] = (recurrence._chunk_kernel, "x*f64 seed_row*i64 after*f64 maps*f64", flags)
    TRITON[f"smooth_write_{wilder}"] = (
        recurrence._write_kernel,
        "x*f64 seed_row*i64 after*f64 carry*f64 y*f64",
        flags,
    )
for code, op in enumerate(rolling.OPS):
    for tall, wide, lanes in ((8, 16, 256), (64, 1, 32), (16384, 1, 1)):
        shape = {"OP": code, "TALL": tall, "WIDE": wide, "LANES": lanes}
        TRITON[f"rolling_{op}_{tall}"] = (rolling._rolling_kernel, "x*f64 tail*f64 y*f64", shape)
for code, op in enumerate(("moments", "rank", "quantile")):
    shape = {"OP": code, "BLOCK": windows.BLOCK}
    TRITON[f"window_{op}"] = (windows._window_kernel, "x*f64 tail*f64 y*f64 part*f64", shape)
for dtype, fill in (("f32", float("nan")), ("f64", float("nan")), ("i64", -(2**63))):
    pointers = f"values*{dtype} last*i64 out*{dtype}"
    TRITON[f"gather_{dtype}"] = (window_gather._gather_kernel, pointers, {"FILL": fill, "BLOCK": 2048})


@pytest.mark.compile
@pytest.mark.parametrize("cc", [(8, 6), (9, 0)], ids=["sm_86", "sm_90"])
@pytest.mark.parametrize("name", NUMBA)
def test_a_numba_kernel_compiles_and_spills_nothing(compiled, name, cc):
    kernel, signature = NUMBA[name]
    ptx, used = compiled(kernel, signature, cc)
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    if used is None:
        pytest.skip("PTX is made, but no ptxas is found to count registers")
    assert used["bytes spill stores"] == 0


def cubin(name, integers):
    """Compile for one H100 or H200; `integers` is the type of every size, or constexpr where Triton sees a 1."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel, pointers, constants = TRITON[name]
    signature = dict(entry.split("*") for entry in pointers.split())
    types = {argument: f"*{dtype.replace('f', 'fp')}" for argument, dtype in signature.items()}
    sizes = [argument for argument in kernel.arg_names if argument not in types and argument not in constants]
    types |= dict.fromkeys(sizes, integers) | dict.fromkeys(constants, "constexpr")
    wide = constants.get("TALL", 0) * constants.get("LANES", 0) > 4096
    values = constants | (dict.fromkeys(sizes, 1) if integers == "constexpr" else {})
    source = ASTSource(kernel, types, values)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 16 if wide else 4})


@pytest.mark.compile
@pytest.mark.parametrize("name", TRITON)
def test_a_triton_kernel_compiles_to_a_cubin(name):
    built = cubin(name, "i32")
    assert built.asm["cubin"][:4] == b"\x7fELF"
    if "f32" not in name:
        assert ".f32" not in built.asm["ptx"], "a float64 kernel rounds through float32"


@pytest.mark.compile
@pytest.mark.parametrize("integers", ["constexpr", "i64"])
@pytest.mark.parametrize("name", [name for name in TRITON if not name.endswith(("_64", "_16384"))])
def test_sizes_of_one_and_beyond_32_bits_compile(name, integers):
    assert cubin(name, integers).asm["cubin"][:4] == b"\x7fELF"
