"""Arrow columns as tensors on the host, without a copy where Arrow allows it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.dlpack import from_dlpack

from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest._columns import WORDS, Cells

_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_MAX = 2**63 - 1


def cells(array: pa.Array, name: str, file: Path) -> Cells:
    """One Arrow column as cells.

    Raises:
        InputError: a type that is no number, time, flag or text, or a value beyond 64 bits.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    null = _bools(pc.is_null(array)) if array.null_count else None
    try:
        return _typed(array, null)
    except (pa.ArrowException, OverflowError) as error:
        raise InputError.at(file, f"column '{name}' of type {array.type}: {_first_line(error)}") from error
    except TypeError as error:
        fix = "map another column under columns, or convert it"
        raise InputError.at(
            file, f"column '{name}' of type {array.type} is no number, time, flag or text", fix=fix
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


def _typed(array: pa.Array, null: Tensor | None) -> Cells:
    kind = array.type
    if pa.types.is_floating(kind):
        wide = array.cast(pa.float32()) if pa.types.is_float16(kind) else array
        return Cells("float", _tensor(_filled(wide, float("nan"))), null)
    if pa.types.is_integer(kind):
        return Cells("integer", _tensor(_filled(array.cast(pa.int64()), 0)), null)
    if pa.types.is_boolean(kind):
        return Cells("bool", _bools(_filled(array, False)), null)
    if pa.types.is_timestamp(kind):
        return _time(array, null)
    if pa.types.is_decimal(kind):
        return _decimal(array.fill_null(Decimal(0)), null)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _text(array, null)
    raise TypeError


def _filled(array: pa.Array, value: object) -> pa.Array:
    # Arrow copies a column that has nothing to fill.
    return array.fill_null(value) if array.null_count else array


def _tensor(array: pa.Array) -> Tensor:
    return from_dlpack(array)


def _bools(array: pa.Array) -> Tensor:
    return _tensor(array.cast(pa.uint8())).view(torch.bool)


def _time(array: pa.Array, null: Tensor | None) -> Cells:
    scale = _NS[array.type.unit]
    raw = _tensor(_filled(array.cast(pa.int64()), 0))
    if scale > 1 and len(raw) and max(abs(int(raw.max())), abs(int(raw.min()))) > _MAX // scale:
        raise OverflowError("a time lies outside the years 1677 to 2262")
    return Cells("time", raw * scale if scale > 1 else raw, null)


def _decimal(array: pa.Array, null: Tensor | None) -> Cells:
    """Decimals as 64-bit units, at a smaller scale where zeros at the end allow it."""
    scale = array.type.scale
    units = _low_words(array.cast(pa.decimal128(38, scale))) if scale >= 0 else None
    for smaller in range(max(scale, 0)):
        if units is not None:
            break
        units, scale = _at_scale(array, smaller), smaller
    if units is None:
        raise OverflowError("a value does not fit 64 bits; store the column with a smaller scale")
    return Cells("decimal", units, null, step=Decimal(1).scaleb(-scale))


def _at_scale(array: pa.Array, scale: int) -> Tensor | None:
    try:
        return _low_words(array.cast(pa.decimal128(38, scale)))
    except pa.ArrowInvalid:
        return None


def _low_words(array: pa.Array) -> Tensor | None:
    words = np.frombuffer(array.buffers()[1], dtype=np.int64).reshape(-1, 2)
    words = words[array.offset : array.offset + len(array)]
    if not (words[:, 1] == words[:, 0] >> 63).all():
        return None
    return torch.from_numpy(words[:, 0].copy())


def _text(array: pa.Array, null: Tensor | None) -> Cells:
    """Flags by their words, in any case."""
    words = pc.utf8_lower(pc.utf8_trim_whitespace(array.cast(pa.string())))
    codes = pc.index_in(words, value_set=pa.array(list(WORDS))).cast(pa.int64()).fill_null(-1)
    other = pc.and_(pc.equal(codes, -1), pc.is_valid(array))
    at = pc.index(other, True).as_py()
    return Cells("text", _tensor(codes), null, "" if at < 0 else array[at].as_py())
