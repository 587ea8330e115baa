"""Triton where it is installed; without it the kernels below stay plain functions that are never called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None


def kernel(function: Callable[..., Any]) -> Any:
    """Mark a Triton kernel; nothing is compiled before its first launch."""
    return function if triton is None else triton.jit(function)


def blocks_of(count: int, size: int) -> int:
    """Return how many blocks of `size` cover `count`."""
    return -(-count // size)


def power_of_two(count: int) -> int:
    """Return the smallest power of two that is at least `count` (and at least 1)."""
    return 1 << max(count - 1, 0).bit_length()
