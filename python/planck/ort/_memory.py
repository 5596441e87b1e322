"""Arrays on memory that the caller names by its address."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from planck import _core
from planck.ort._types import Array


def array_at(
    what: str, address: int, shape: Sequence[int], dtype: np.dtype[Any], writable: bool
) -> Array:
    """The dense array at an address, which must stay valid for as long as the array is used.

    what: names it in errors. The address must be aligned, and all of the array's bytes lie in
    memory that this process may read (writable: write). Whether they belong to one object of the
    caller's cannot be known. Errors: FeedError.
    """
    extents = [int(extent) for extent in shape]
    if any(extent < 0 for extent in extents):
        raise _core.FeedError(f"{what}: the shape {extents} has a negative extent")
    length = math.prod(extents) * dtype.itemsize
    if not isinstance(address, int) or address <= 0 or address % dtype.alignment != 0:
        raise _core.FeedError(f"{what}: {address!r} is no address of a {dtype}")
    if length == 0:
        return np.empty(extents, dtype)
    if not _is_mapped(address, address + length, writable):
        access = "written" if writable else "read"
        raise _core.FeedError(
            f"{what}: the {length} bytes at {address:#x} that {dtype}{extents} takes cannot be "
            f"{access} by this process"
        )
    memory = memoryview((ctypes.c_byte * length).from_address(address))
    array: Array = np.frombuffer(memory, dtype).reshape(extents)
    array.flags.writeable = writable
    return array


def _is_mapped(begin: int, end: int, writable: bool) -> bool:
    """Whether every byte of a range is mapped; its mappings may lie side by side."""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        for line in maps:
            span, access = line.split(maxsplit=2)[:2]
            low, high = (int(bound, 16) for bound in span.split("-"))
            if low <= begin < high and "r" in access and (not writable or "w" in access):
                begin = high
                if begin >= end:
                    return True
    return False
