"""`OrtValue`: an array under ONNX Runtime's name for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from planck import _core
from planck.ort._errors import translated
from planck.ort._types import Array, dtype_of, number_of, type_string


def check_device(device_type: str, device_id: int) -> None:
    """Errors: DeviceError for a device that this build lacks, UsageError for no device at all."""
    if device_type.lower() in ("cuda", "gpu"):
        raise _core.DeviceError(f"{device_type}:{device_id}: this build has no CUDA backend")
    if device_type.lower() != "cpu":
        raise _core.UsageError(f"Unsupported device type: {device_type}")
    if device_id != 0:
        raise _core.DeviceError(f"there is no device cpu:{device_id}")


class OrtValue:
    """A tensor in the CPU's memory, shared with the NumPy array that it was made from.

    >>> value = OrtValue.ortvalue_from_numpy(np.zeros((2, 3), np.float32))
    >>> value.shape(), value.data_type(), value.element_type()
    ([2, 3], 'tensor(float)', 1)
    """

    def __init__(self, array: Array) -> None:
        """Use the class methods below."""
        self._array = array

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: Array, /, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """The value of an array, without a copy if it is C-contiguous.

        Errors: InvalidArgument for what is no array of an ONNX type, EPFail for another device.
        """
        with translated():
            check_device(device_type, device_id)
            if not isinstance(numpy_obj, np.ndarray) or numpy_obj.dtype.kind in "OUST":
                raise _core.FeedError(
                    "Creation of OrtValues is currently only supported from non-string numpy arrays"
                )
            number_of(numpy_obj.dtype)
            return cls(numpy_obj if numpy_obj.flags.c_contiguous else numpy_obj.copy("C"))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: Array, /, onnx_element_type: int) -> OrtValue:
        """The value whose bits are those of an array of another type of the same size.

        Errors: InvalidArgument for a type of another size.
        """
        with translated():
            dtype = dtype_of(onnx_element_type)
            if dtype.itemsize != data.dtype.itemsize:
                raise _core.FeedError(
                    f"an element of {data.dtype} has {data.dtype.itemsize} bytes, one of "
                    f"{type_string(dtype)} {dtype.itemsize}"
                )
        return cls(np.ascontiguousarray(data).view(dtype))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
    ) -> OrtValue:
        """A new value whose contents are not set; element_type: a NumPy type or ONNX's number.

        Errors: InvalidArgument, EPFail as above, RuntimeException where memory is short.
        """
        with translated():
            check_device(device_type, device_id)
            dtype = dtype_of(element_type)
            number_of(dtype)
            try:
                return cls(np.empty(list(shape), dtype))
            except ValueError as error:
                raise _core.UsageError(f"the shape {list(shape)}: {error}") from error
            except MemoryError as error:
                raise _core.OutOfMemoryError(f"no memory for {dtype}{list(shape)}") from error

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        """The value that shares the memory of an object with `__dlpack__`, or of a capsule.

        Errors: InvalidArgument for memory that is not the CPU's, or types that NumPy lacks.
        """
        source = data if hasattr(data, "__dlpack__") else _Capsule(data)
        with translated():
            try:
                return cls(np.ascontiguousarray(np.from_dlpack(source)))
            except (BufferError, RuntimeError, TypeError, ValueError) as error:
                raise _core.FeedError(f"the DLPack tensor cannot be taken: {error}") from error

    def numpy(self) -> Array:
        """The array, without a copy."""
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._array, dtype=dtype, copy=copy)

    def shape(self) -> list[int]:
        """The extents."""
        return list(self._array.shape)

    def data_type(self) -> str:
        """The type string, such as 'tensor(float)'."""
        return type_string(self._array.dtype)

    def element_type(self) -> int:
        """ONNX's number of the element type."""
        return number_of(self._array.dtype)

    def tensor_size_in_bytes(self) -> int:
        """The size of the array."""
        return self._array.nbytes

    def device_name(self) -> str:
        """'cpu'."""
        return "cpu"

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self._array.ctypes.data

    def has_value(self) -> bool:
        """True: there are no optional values yet."""
        return True

    def is_tensor(self) -> bool:
        """True: there are no other values yet."""
        return True

    def is_tensor_sequence(self) -> bool:
        """False: there are no sequences yet."""
        return False

    def is_sparse_tensor(self) -> bool:
        """False: results are dense."""
        return False

    def update_inplace(self, data: Array | OrtValue) -> None:
        """Copies an array of the same shape and type into this value.

        Errors: InvalidArgument for another shape or type, or a read-only array behind this value.
        """
        source = data.numpy() if isinstance(data, OrtValue) else data
        if not isinstance(source, np.ndarray):
            raise TypeError("data must be a numpy.ndarray or an OrtValue.")
        own = self._array
        with translated():
            if source.shape != own.shape or source.dtype != own.dtype or not own.flags.writeable:
                raise _core.FeedError(
                    f"an array {source.dtype}{list(source.shape)} cannot be copied into the "
                    f"OrtValue, {'' if own.flags.writeable else 'read-only '}"
                    f"{own.dtype}{list(own.shape)}"
                )
        own[...] = source

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class _Capsule:
    """What `numpy.from_dlpack` takes, around a capsule of the CPU's memory."""

    def __init__(self, capsule: object) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0
