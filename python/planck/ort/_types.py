"""Element types: ONNX's number, the NumPy dtype and the type string of each."""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from planck import _core

Array = NDArray[Any]

#   number, NumPy or ml_dtypes name, name inside tensor(...)
_ROWS: tuple[tuple[int, str, str], ...] = (
    (1, "float32", "float"),
    (2, "uint8", "uint8"),
    (3, "int8", "int8"),
    (4, "uint16", "uint16"),
    (5, "int16", "int16"),
    (6, "int32", "int32"),
    (7, "int64", "int64"),
    (8, "object", "string"),
    (9, "bool", "bool"),
    (10, "float16", "float16"),
    (11, "float64", "double"),
    (12, "uint32", "uint32"),
    (13, "uint64", "uint64"),
    (14, "complex64", "complex64"),
    (15, "complex128", "complex128"),
    (16, "bfloat16", "bfloat16"),
    (17, "float8_e4m3fn", "float8e4m3fn"),
    (18, "float8_e4m3fnuz", "float8e4m3fnuz"),
    (19, "float8_e5m2", "float8e5m2"),
    (20, "float8_e5m2fnuz", "float8e5m2fnuz"),
    (21, "uint4", "uint4"),
    (22, "int4", "int4"),
    (23, "float4_e2m1fn", "float4e2m1"),
    (24, "float8_e8m0fnu", "float8e8m0"),
    (25, "uint2", "uint2"),
    (26, "int2", "int2"),
)


def dtype_of_name(name: str) -> np.dtype[Any]:
    """The dtype of a NumPy or ml_dtypes name."""
    return np.dtype(getattr(ml_dtypes, name, name))


@functools.cache
def _by_number() -> dict[int, np.dtype[Any]]:
    return {number: dtype_of_name(name) for number, name, _ in _ROWS}


@functools.cache
def _by_dtype() -> dict[np.dtype[Any], tuple[int, str]]:
    return {dtype_of_name(name): (number, text) for number, name, text in _ROWS}


def dtype_of(element_type: Any) -> np.dtype[Any]:
    """The dtype of a NumPy type or an ONNX number. Errors: UsageError.

    >>> dtype_of(1), dtype_of(np.int64), dtype_of(16)
    (dtype('float32'), dtype('int64'), dtype(bfloat16))
    """
    if isinstance(element_type, int):
        if element_type not in _by_number():
            raise _core.UsageError(f"ONNX has no element type {element_type}")
        return _by_number()[element_type]
    try:
        dtype: np.dtype[Any] = np.dtype(element_type)
        return dtype
    except TypeError as error:
        raise _core.UsageError(f"{element_type!r} is no element type: {error}") from error


def _row(dtype: np.dtype[Any]) -> tuple[int, str]:
    if dtype.kind in "OUST":
        return 8, "string"
    row = _by_dtype().get(dtype.newbyteorder("="))
    if row is None:
        raise _core.FeedError(f"ONNX has no element type for arrays of {dtype}")
    return row


def number_of(dtype: np.dtype[Any]) -> int:
    """ONNX's number of a dtype. Errors: FeedError."""
    return _row(dtype)[0]


def type_string(dtype: np.dtype[Any]) -> str:
    """What ONNX Runtime calls a tensor of this dtype. Errors: FeedError.

    >>> type_string(np.dtype("float64")), type_string(np.dtype("U3"))
    ('tensor(double)', 'tensor(string)')
    """
    return f"tensor({_row(dtype)[1]})"


def dtype_of_type(text: str) -> np.dtype[Any]:
    """The dtype of a type string.

    >>> dtype_of_type("tensor(double)")
    dtype('float64')
    """
    return next(dtype_of_name(name) for _, name, kind in _ROWS if f"tensor({kind})" == text)


def type_string_of_number(number: int) -> str:
    """The same for ONNX's number; the number itself where it is not known."""
    return next((f"tensor({text})" for n, _, text in _ROWS if n == number), f"tensor({number})")
