"""Shapes: -1 stands for an extent that a run decides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from planck import _core

if TYPE_CHECKING:
    from planck.outline import TensorType


class Dims(tuple[int, ...]):
    """A shape; compares as a tuple.

    >>> Dims([1, -1, 3])
    (1, -1, 3)
    """

    MAX_DIMS = 8

    def __new__(cls, shape: Iterable[int] = ()) -> Dims:
        """A shape of whole numbers."""
        return super().__new__(cls, (int(extent) for extent in shape))

    @property
    def volume(self) -> int:
        """The number of elements."""
        return volume(self)


def volume(iterable: Iterable[int]) -> int:
    """The product of extents.

    >>> volume((2, 3, 4)), volume(())
    (24, 1)
    """
    return math.prod(int(extent) for extent in iterable)


def dims_of(shape: Sequence[int | str | None]) -> Dims:
    """A port's shape, symbols as -1."""
    return Dims(extent if isinstance(extent, int) else -1 for extent in shape)


def dims_of_type(kind: TensorType) -> Dims:
    """The shape that a model declares; of unknown rank, which TensorRT counts as -1, no extents."""
    return dims_of(kind.dims or ())


def shape_from(value: Any, what: str) -> Dims:
    """A caller's shape. Errors: UsageError."""
    try:
        return Dims(value)
    except (TypeError, ValueError) as error:
        raise _core.UsageError(f"{what}: {value!r} is no shape") from error
