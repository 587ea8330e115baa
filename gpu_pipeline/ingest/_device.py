"""Parquet straight into GPU memory: pylibcudf decodes, torch takes the columns by DLPack, the host sees none of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.utils.dlpack import from_dlpack

from gpu_pipeline.core.errors import EnvironmentProblem, InputError
from gpu_pipeline.core.schema import Tensor
from gpu_pipeline.ingest._columns import WORDS, Cells

# Decoded columns of a chunk, about 25 M clean trades; reading ahead, a card holds two chunks and what kernels need.
CHUNK_BYTES = 1 << 30


def library() -> ModuleType:
    """The pylibcudf module.

    Raises:
        EnvironmentProblem: it is not installed or finds no driver.
    """
    try:
        import pylibcudf
    except (ImportError, OSError, RuntimeError) as error:
        way = "install the [gpu] extra (make venv on a machine with a CUDA 13 driver), or set device: cpu"
        raise EnvironmentProblem(
            f"reading Parquet on cuda needs pylibcudf, which cannot be imported ({error}); {way}"
        ) from error
    return pylibcudf


def read_chunks(path: Path, columns: Sequence[str], device: torch.device) -> Iterator[dict[str, Cells]]:
    """Columns of a Parquet file as cells on the device, in chunks of about a gigabyte.

    Raises:
        InputError: the file cannot be decoded or a column has a type that is no number, time, flag or text.
        EnvironmentProblem: pylibcudf is missing.
    """
    plc = library()
    with torch.cuda.device(device):
        try:
            source = plc.io.types.SourceInfo([str(path)])
            options = plc.io.parquet.ParquetReaderOptions.builder(source).columns(list(columns)).build()
            reader = plc.io.parquet.ChunkedParquetReader(options, chunk_read_limit=CHUNK_BYTES)
            while reader.has_next():
                table = reader.read_chunk().tbl
                yield {name: _cells(plc, table.columns()[at], name, path) for at, name in enumerate(columns)}
        except (MemoryError, torch.cuda.OutOfMemoryError) as error:
            fix = "free GPU memory, split the file, or set device: cpu"
            raise EnvironmentProblem(f"{path}: does not fit the memory of {device}; {fix}") from error
        except (RuntimeError, ValueError, OverflowError) as error:
            raise InputError.at(path, f"cannot be decoded: {str(error).splitlines()[0]}") from error


def _cells(plc: Any, column: Any, name: str, path: Path) -> Cells:
    kind = column.type().id()
    types = plc.types.TypeId
    null = _tensor(plc, plc.unary.is_null(column), types.BOOL8).bool() if column.null_count() else None
    if kind in _times(types):
        raw = _tensor(plc, _reread(plc, column, types.INT64), types.INT64)
        return Cells("time", _filled(raw, null) * _times(types)[kind], null)
    if kind in (types.FLOAT32, types.FLOAT64):
        values = _tensor(plc, column, kind)
        return Cells("float", values if null is None else values.masked_fill(null, float("nan")), null)
    if kind in (types.DECIMAL32, types.DECIMAL64, types.DECIMAL128):
        return _decimal(plc, column, null)
    if kind == types.BOOL8:
        return Cells("bool", _filled(_tensor(plc, column, kind).bool(), null), null)
    if kind == types.STRING:
        return _text(plc, column, null)
    if kind not in _integers(types):
        fix = "map another column under columns, or convert it"
        raise InputError.at(path, f"column '{name}' of type {kind.name} is no number, time, flag or text", fix=fix)
    wide = plc.unary.cast(column, plc.types.DataType(types.INT64))
    return Cells("integer", _filled(_tensor(plc, wide, types.INT64), null), null)


def _times(types: Any) -> Mapping[Any, int]:
    return {
        types.TIMESTAMP_SECONDS: 1_000_000_000,
        types.TIMESTAMP_MILLISECONDS: 1_000_000,
        types.TIMESTAMP_MICROSECONDS: 1_000,
        types.TIMESTAMP_NANOSECONDS: 1,
    }


def _integers(types: Any) -> set[Any]:
    signed = {types.INT8, types.INT16, types.INT32, types.INT64}
    return signed | {types.UINT8, types.UINT16, types.UINT32}


def _tensor(plc: Any, column: Any, kind: Any) -> Tensor:
    """A column without its null mask by DLPack; bools come as bytes, which DLPack of this library lacks."""
    types = plc.types
    if kind == types.TypeId.BOOL8:
        column = plc.unary.cast(column, types.DataType(types.TypeId.UINT8))
    if not column.size():
        return torch.empty(0, dtype=torch.float64 if "FLOAT" in kind.name else torch.int64, device="cuda")
    plain = column.with_mask(None, 0)
    tensor: Tensor = from_dlpack(plc.interop.to_dlpack(plc.Table([plain]))).reshape(-1)
    return tensor


def _reread(plc: Any, column: Any, kind: Any) -> Any:
    """The same bytes as integers of the same width."""
    return plc.Column(plc.types.DataType(kind), column.size(), column.data(), None, 0, column.offset(), [])


def _filled(values: Tensor, null: Tensor | None) -> Tensor:
    return values if null is None else values.masked_fill(null, 0)


def _decimal(plc: Any, column: Any, null: Tensor | None) -> Cells:
    kind, types = column.type(), plc.types
    if kind.id() == types.TypeId.DECIMAL128:
        narrow = plc.unary.cast(column, types.DataType(types.TypeId.DECIMAL64, kind.scale()))
        back = plc.unary.cast(narrow, kind)
        same = plc.binaryop.binary_operation(
            column, back, plc.binaryop.BinaryOperator.EQUAL, types.DataType(types.TypeId.BOOL8)
        )
        fits = _tensor(plc, same, types.TypeId.BOOL8).bool()
        if not bool((fits if null is None else fits | null).all()):
            raise OverflowError("a decimal does not fit 64 bits; store the column with a smaller scale")
        column = narrow
    width = types.TypeId.INT32 if kind.id() == types.TypeId.DECIMAL32 else types.TypeId.INT64
    units = _tensor(plc, _reread(plc, column, width), width).to(torch.int64)
    return Cells("decimal", _filled(units, null), null, step=Decimal(1).scaleb(kind.scale()))


def _text(plc: Any, column: Any, null: Tensor | None) -> Cells:
    """Flags by their words, in any case."""
    types = plc.types
    words = plc.strings.case.to_lower(plc.strings.strip.strip(column))
    codes = torch.full((column.size(),), -1, dtype=torch.int64, device="cuda")
    for word, code in WORDS.items():
        scalar = plc.Scalar.from_py(word)
        same = plc.binaryop.binary_operation(
            words, scalar, plc.binaryop.BinaryOperator.EQUAL, types.DataType(types.TypeId.BOOL8)
        )
        codes.masked_fill_(_tensor(plc, same, types.TypeId.BOOL8).bool(), code)
    neither = codes == -1 if null is None else (codes == -1) & ~null
    shown = "a word that is none of buy, sell, true, false" if bool(neither.any()) else ""
    return Cells("text", codes, null, shown)
