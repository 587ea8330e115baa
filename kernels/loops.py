"""Row loops: recurrences that no shared kernel covers, written once as a plain function and run on every device.

A row loop is `function(x, y, state, seen, p)`: it reads the rows x [K, n], writes y [O, n] and moves state [S] on; seen
is the number of rows before the first of x, p [P] holds the parameters; all float64, seen int64. Nothing else is kept,
so that any cutting of the rows into calls gives the same numbers; x / 0 is infinite or NaN and no error. On the CPU
numba compiles it without fastmath; on CUDA one thread walks the rows, and no product is fused with a sum: right on
every device, fast only where the CPU is; parallel forms are ops of their own.

Axes: K inputs, O outputs, n rows, S numbers of state, P parameters.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numba
import torch
from numba import cuda
from numba.core import types
from torch import Tensor

from kernels._op import SIMULATED, launch, notice_edits, require

_ROWS = types.Array(types.float64, 2, "C")
_FLAT = types.Array(types.float64, 1, "C")
SIGNATURE = types.void(_ROWS, _ROWS, _FLAT, types.int64, _FLAT)


class RowLoop:
    """A plain loop over rows, compiled when it is first used.

    Attributes:
        plain: the function as it is written: the definition.
        parallel: on CUDA, what gives the loop's outputs and state without walking the rows; called as `run` is, without
            the loop. None where only the walk does.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.plain = function
        self.parallel: Callable[..., tuple[Tensor, Tensor]] | None = None
        self.__doc__ = function.__doc__

    @property
    def name(self) -> str:
        """Where it is written, and a digest of what it does."""
        code = self.plain.__code__
        consts = tuple(part for part in code.co_consts if not hasattr(part, "co_code"))
        digest = hashlib.sha256(repr((code.co_code, consts, code.co_names)).encode()).hexdigest()[:8]
        return f"{self.plain.__module__}.{self.plain.__qualname__}@{digest}"

    @cached_property
    def compiled(self) -> Callable[..., None]:
        """The CPU form; in the CUDA simulator the plain function."""
        if SIMULATED:
            return self.plain
        compiled = numba.njit(nogil=True, cache=True, error_model="numpy")(self.plain)
        notice_edits(compiled, Path(self.plain.__code__.co_filename).parent)
        compiled.compile(SIGNATURE.args)
        return compiled

    @cached_property
    def address(self) -> int:
        """Where the machine code of the CPU form begins, for a caller that is compiled itself."""
        result: Any = self.compiled.overloads[SIGNATURE.args]
        return int(result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))

    @cached_property
    def kernel(self) -> Any:
        """The CUDA form: one thread."""
        if not SIMULATED:
            _round_products()
        walk = self.plain if SIMULATED else numba.njit(nogil=True, error_model="numpy")(self.plain)

        @cuda.jit
        def kernel(x: Any, y: Any, state: Any, seen: Any, p: Any) -> None:
            if cuda.grid(1) == 0:
                walk(x, y, state, seen, p)

        return kernel


@cache
def _round_products() -> None:
    """Make CUDA round a product before it is added to: fused, a comparison may decide otherwise than on the CPU.

    It holds for every numba kernel that this process compiles from then on.
    """
    from llvmlite import ir
    from numba.core import cgutils
    from numba.cuda.cudaimpl import lower

    def rounded(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()] * 2)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "__nv_dmul_rn"), arguments)

    for product in (operator.mul, operator.imul):
        lower(product, types.float64, types.float64)(rounded)


def row_loop(function: Callable[..., None]) -> RowLoop:
    """Declare a row loop (a decorator). What it calls is marked `helper`."""
    return RowLoop(function)


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a plain function that row loops call, for whichever device calls it."""
    return function if SIMULATED else numba.njit(nogil=True, error_model="numpy")(function)


def run(loop: RowLoop, x: Tensor, outputs: int, state: Tensor, seen: int, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return (y [outputs, n], state [S]) of a row loop over x [K, n].

    Raises:
        TypeError, ValueError: a tensor is not float64 of that shape.
    """
    x = require("row loop", "x", x, torch.float64, None, None)
    state = require("row loop", "state", state, torch.float64, None)
    p = require("row loop", "p", p, torch.float64, None)
    if x.is_cuda and loop.parallel is not None:
        return loop.parallel(x, outputs, state, seen, p)
    y, after = x.new_empty(outputs, x.shape[1]), state.clone()
    if not x.is_cuda:
        loop.compiled(x.numpy(), y.numpy(), after.numpy(), seen, p.numpy())
    elif x.shape[1]:
        launch_loop(loop, x, y, after, seen, p)
    return y, after


def launch_loop(loop: RowLoop, x: Any, y: Any, state: Any, seen: int, p: Any) -> None:
    """Run the CUDA form on tensors, or on arrays in the simulator; it moves `state` on in place."""
    launch(loop.kernel, 1, 1, x, y, state, seen, p)
