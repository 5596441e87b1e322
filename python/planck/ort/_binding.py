"""`IOBinding`: arrays that a session reads and writes where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from planck import _core
from planck.ort._errors import translated
from planck.ort._feeds import check_shape
from planck.ort._memory import array_at
from planck.ort._types import Array, dtype_of, dtype_of_name, type_string
from planck.ort._values import OrtValue, check_device

if TYPE_CHECKING:
    from planck.ort._session import InferenceSession


class IOBinding:
    """Inputs and outputs of one session by name, for `InferenceSession.run_with_iobinding`.

    What is bound is checked against the model here: device, type, rank, fixed extents, and for raw
    pointers that the memory is there. Errors: InvalidArgument, EPFail.
    """

    def __init__(self, session: InferenceSession) -> None:
        """What `InferenceSession.io_binding` makes."""
        self._session = session
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array | None] = {}
        self._results: dict[str, Array] = {}

    def bind_cpu_input(self, name: str, arr_on_cpu: Array) -> None:
        """Reads an array; if it is C-contiguous, runs see what is written into it later."""
        with translated():
            self._inputs[name] = self._session._feeds.array(name, arr_on_cpu)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Reads a value where it lies."""
        self.bind_cpu_input(name, ortvalue.numpy())

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """Reads memory at an address, which must stay valid; element_type: NumPy type or number."""
        with translated():
            check_device(device_type, device_id)
            self._session._feeds.expected(name)
            array = array_at(f"input '{name}'", buffer_ptr, shape, dtype_of(element_type), False)
            self._inputs[name] = self._session._feeds.array(name, array)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Writes into new memory at each run, or to an address, with its element_type and shape."""
        with translated():
            check_device(device_type, device_id)
            self._session._output(name)
            if buffer_ptr is None:
                self._outputs[name] = None
                return
            if element_type is None or shape is None:
                raise _core.UsageError(
                    "`element_type` and `shape` are to be provided if pre-allocated memory is "
                    "provided"
                )
            dtype = dtype_of(element_type)
            self._bind_output(
                name, array_at(f"output '{name}'", buffer_ptr, shape, dtype, writable=True)
            )

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Writes into a value where it lies."""
        with translated():
            self._bind_output(name, ortvalue.numpy())

    def _bind_output(self, name: str, array: Array) -> None:
        arg, port = self._session._output(name)
        if array.dtype != dtype_of_name(port.dtype):
            raise _core.FeedError(
                f"Unexpected output data type. Actual: ({type_string(array.dtype)}) , "
                f"expected: ({arg.type})"
            )
        check_shape(f"output: {name}", array.shape, port.shape)
        self._outputs[name] = array

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order in which they were bound."""
        return [OrtValue(array) for array in self.copy_outputs_to_cpu()]

    def copy_outputs_to_cpu(self) -> list[Array]:
        """The same as arrays; they are in the CPU's memory already."""
        return [self._results[name] for name in self._outputs if name in self._results]

    def clear_binding_inputs(self) -> None:
        """Forgets all inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forgets all outputs."""
        self._outputs.clear()
        self._results.clear()

    def synchronize_inputs(self) -> None:
        """Returns at once: nothing is copied behind the caller's back."""

    def synchronize_outputs(self) -> None:
        """Returns at once: a run is over when it returns."""
