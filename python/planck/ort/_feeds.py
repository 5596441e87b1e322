"""Checks of what a session is fed, with ONNX Runtime's messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planck import _core
from planck.ort._ports import NodeArg
from planck.ort._types import Array, dtype_of_type, type_string
from planck.ort._values import OrtValue


class Feeds:
    """The inputs of a session, ready to check what is given for them."""

    def __init__(self, required: Sequence[NodeArg], optional: Sequence[NodeArg]) -> None:
        """optional: the inputs that have an initializer."""
        self._required = [arg.name for arg in required]
        self._inputs = {arg.name: (arg, dtype_of_type(arg.type)) for arg in (*required, *optional)}

    def require(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """What is given: None counts as nothing. Errors: MissingInputs, FeedError."""
        if not isinstance(feed, Mapping):
            raise _core.FeedError(f"the input feed is {type(feed).__name__}; expected a dict")
        given = {name: value for name, value in feed.items() if value is not None}
        if missing := [name for name in self._required if name not in given]:
            raise MissingInputs(
                f"Required inputs ({missing}) are missing from input feed ({list(given)})."
            )
        return given

    def arrays(self, feed: Mapping[str, Any]) -> dict[str, Array]:
        """The arrays to run on. Errors: MissingInputs, FeedError."""
        return {name: self.array(name, value) for name, value in self.require(feed).items()}

    def array(self, name: str, value: Any) -> Array:
        """The array of one input: of exactly its dtype and rank, and of its fixed extents.

        value: an array, an OrtValue, anything with DLPack or the buffer protocol, or a list, which
        takes the input's dtype where that loses nothing. Errors: FeedError.
        """
        arg, dtype = self.expected(name)
        array = _array(name, value, dtype)
        if array.dtype != dtype and array.dtype.newbyteorder("=") != dtype:
            actual = type_string(array.dtype)
            raise _core.FeedError(
                f"Unexpected input data type. Actual: ({actual}) , expected: ({arg.type})"
            )
        check_shape(f"input: {name}", array.shape, arg.shape)
        return array

    def expected(self, name: str) -> tuple[NodeArg, np.dtype[Any]]:
        """What an input takes. Errors: FeedError."""
        if name not in self._inputs:
            raise _core.FeedError(f"Invalid input name: {name}")
        return self._inputs[name]


class MissingInputs(_core.FeedError):
    """A ValueError whose message has no prefix, as in ONNX Runtime."""

    status = (2, "INVALID_ARGUMENT")


def check_shape(what: str, shape: Sequence[int], dims: Sequence[int | str | None]) -> None:
    """Compares rank and extents. what: "input: x" or "output: y". Errors: FeedError."""
    if len(shape) != len(dims):
        raise _core.FeedError(
            f"Invalid rank for {what} Got: {len(shape)} Expected: {len(dims)} "
            "Please fix either the inputs or the model."
        )
    pairs = enumerate(zip(shape, dims, strict=True))
    wrong = [pair for pair in pairs if pair[1][0] != pair[1][1] and isinstance(pair[1][1], int)]
    if wrong:
        lines = [f" index: {axis} Got: {got} Expected: {want}\n" for axis, (got, want) in wrong]
        raise _core.FeedError(
            f"Got invalid dimensions for {what} for the following indices\n{''.join(lines)}"
            " Please fix either the inputs or the model."
        )


def _array(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, OrtValue):
        return value.numpy()
    try:
        if hasattr(value, "__cuda_array_interface__"):
            raise TypeError("it lies on a GPU, and this build has no CUDA backend")
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
        if array.dtype == object:
            raise TypeError(f"it is {type(value).__name__}")
        if isinstance(value, (list, tuple)) and np.can_cast(array.dtype, dtype, "same_kind"):
            return np.asarray(value, dtype=dtype)
    except (BufferError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise _core.FeedError(f"input '{name}' cannot be read as an array: {error}") from error
    return array
