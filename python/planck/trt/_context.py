"""`IExecutionContext`: runs an engine on host addresses or arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from planck import _core
from planck.ort._memory import array_at
from planck.plan import StepTime
from planck.trt._arrays import array_on
from planck.trt._base import Sealed
from planck.trt._dims import Dims, shape_from
from planck.trt._engine import ICudaEngine
from planck.trt._enums import TensorIOMode, nptype
from planck.trt._logger import refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class IExecutionContext(Sealed):
    """Shapes and memory of one run after another; keeps its engine alive.

    Memory is an address of the process, an array, or a tensor with DLPack; on the CPU a run is over
    when a call returns, whatever its stream.
    """

    name = ""
    debug_sync = False
    error_recorder: Any = None
    nvtx_verbosity: Any = None

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self.profiler: Any = None
        self.enqueue_emits_profile = True
        self._profile = 0
        self._shapes: dict[str, Dims] = {}
        self._memory: dict[str, Any] = {}
        self._allocators: dict[str, Any] = {}
        self._times: list[StepTime] = []
        self._sealed = True

    # --- shapes

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        """Sets the shape of an input. Errors: UsageError for one that does not fit the engine."""
        wanted, declared = (
            shape_from(shape, f"shape of {name!r}"),
            self.engine.get_tensor_shape(name),
        )
        if self.engine.get_tensor_mode(name) != TensorIOMode.INPUT:
            raise _core.UsageError(f"{name!r} is no input: only the shapes of inputs can be set")
        fits = len(wanted) == len(declared) and all(
            d in (-1, w) and w >= 0 for w, d in zip(wanted, declared, strict=True)
        )
        if not fits:
            raise _core.FeedError(f"input {name!r}: the shape {wanted} does not fit {declared}")
        self._shapes[name] = wanted
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        """The shape of an input as set, of an output as it follows; -1 where it is not known."""
        if self.engine.get_tensor_mode(name) != TensorIOMode.OUTPUT:
            return self._shapes.get(name, self.engine.get_tensor_shape(name))
        shape = self.engine.get_tensor_shape(name)
        if min(shape, default=0) >= 0 or self.infer_shapes():
            return shape
        return self._output_shapes().get(name, shape)

    def infer_shapes(self) -> list[str]:
        """The inputs whose shapes are still to be set."""
        return [n for n, shape in self._input_shapes().items() if min(shape, default=0) < 0]

    def _input_shapes(self) -> dict[str, Dims]:
        ports = self.engine.plan.inputs
        return {
            p.name: self._shapes.get(p.name, self.engine.get_tensor_shape(p.name)) for p in ports
        }

    def _output_shapes(self) -> dict[str, Dims]:
        need = self.engine.plan.memory(self._input_shapes())
        return {t.name: Dims(t.shape) for t in need.tensors if t.kind == "output" and t.name}

    @property
    def all_binding_shapes_specified(self) -> bool:
        """Whether every input has a shape."""
        return not self.infer_shapes()

    @property
    def all_shape_inputs_specified(self) -> bool:
        """True: no input is a shape tensor."""
        return True

    # --- profiles

    @property
    def active_optimization_profile(self) -> int:
        """The profile in use."""
        return self._profile

    @active_optimization_profile.setter
    def active_optimization_profile(self, index: int) -> None:
        self.set_optimization_profile_async(index, 0)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Chooses a profile and forgets the shapes. Errors: UsageError."""
        if not 0 <= profile_index < self.engine.num_optimization_profiles:
            raise _core.UsageError(f"the engine has no optimization profile {profile_index}")
        self._profile = profile_index
        self._shapes.clear()
        return True

    # --- memory

    def set_tensor_address(self, name: str, memory: Any) -> bool:
        """Sets the memory of an input or output. Errors: UsageError for another name."""
        self.engine.get_tensor_shape(name)
        self._memory[name] = memory
        return True

    set_input_tensor_address = set_tensor_address
    set_output_tensor_address = set_tensor_address

    def get_tensor_address(self, name: str) -> Any:
        """What was set; 0 where nothing was."""
        return self._memory.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        """Asks an allocator for the memory of an output when its size is known."""
        self.engine.get_tensor_shape(name)
        self._allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        """The allocator that was set, or None."""
        return self._allocators.get(name)

    def get_max_output_size(self, name: str) -> int:
        """Bytes of an output for the shapes that are set; 0 where they are not."""
        shape = self.get_tensor_shape(name)
        return 0 if min(shape, default=0) < 0 else shape.volume * self._dtype(name).itemsize

    # --- runs

    def execute_async_v3(self, stream_handle: int = 0) -> bool:
        """Runs on the memory that was set. Errors: FeedError, RunError, LimitError."""
        self._run(self._memory)
        return True

    def execute_v2(self, bindings: Sequence[Any]) -> bool:
        """Runs on one address or array for each binding, in their order."""
        names = self.engine._names
        first = self._profile * len(names)
        given = list(bindings)[first : first + len(names)]
        if len(given) != len(names):
            raise _core.FeedError(
                f"{len(bindings)} bindings were given; expected {self.engine.num_bindings}: "
                f"{', '.join(names)}"
            )
        self._run(dict(zip(names, given, strict=True)))
        return True

    def execute_async_v2(
        self, bindings: Sequence[Any], stream_handle: int = 0, input_consumed: Any = None
    ) -> bool:
        """The same; over when it returns."""
        return self.execute_v2(bindings)

    def execute(self, batch_size: int = 1, bindings: Sequence[Any] = ()) -> bool:
        """Errors: UnsupportedError: batches are explicit."""
        raise refused("execute has an implicit batch", "execute_v2(bindings)")

    def execute_async(self, batch_size: int = 1, bindings: Sequence[Any] = (), **_: Any) -> bool:
        """Errors: UnsupportedError: batches are explicit."""
        raise refused("execute_async has an implicit batch", "execute_async_v2(bindings, stream)")

    def report_to_profiler(self) -> bool:
        """Tells the profiler the times of the last run again; False where there are none."""
        if self.profiler is None or not self._times:
            return False
        for step, time in zip(self.engine.plan.steps, self._times, strict=True):
            self.profiler.report_layer_time(" + ".join(step.nodes) or step.op, 1e3 * time.seconds)
        return True

    def _run(self, memory: Mapping[str, Any]) -> None:
        missing = self.infer_shapes()
        shapes = self._input_shapes()
        for name in missing:  # an array says its shape itself
            if not hasattr(memory.get(name), "shape"):
                raise _core.FeedError(
                    f"the shape of input {name!r} is not set; context.set_input_shape sets it"
                )
        feeds = {n: self._array(n, memory, shape, writable=False) for n, shape in shapes.items()}
        out = self._outputs(memory, feeds)
        self._times = []
        times = None if self.profiler is None else self._times
        results = self.engine.plan.run(feeds, out, times=times)
        for name, allocator in self._allocators.items():
            _hand_over(name, results[name], allocator)
        if self.profiler is not None and self.enqueue_emits_profile:
            self.report_to_profiler()

    def _outputs(self, memory: Mapping[str, Any], feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [p.name for p in self.engine.plan.outputs if p.name not in self._allocators]
        known = {p.name: self.engine.get_tensor_shape(p.name) for p in self.engine.plan.outputs}
        if any(min(known[name], default=0) < 0 for name in names):
            need = self.engine.plan.memory({name: array.shape for name, array in feeds.items()})
            known |= {t.name: Dims(t.shape) for t in need.tensors if t.kind == "output"}
        return {name: self._array(name, memory, known[name], writable=True) for name in names}

    def _dtype(self, name: str) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(nptype(self.engine.get_tensor_dtype(name)))
        return dtype

    def _array(self, name: str, memory: Mapping[str, Any], shape: Dims, writable: bool) -> Array:
        """The array on the memory of a tensor. Errors: FeedError."""
        item = memory.get(name)
        if item is None or (isinstance(item, int) and item == 0):
            raise _core.FeedError(
                f"no memory is set for {name!r}; context.set_tensor_address sets it"
            )
        return array_on(f"the memory of {name!r}", item, shape, self._dtype(name), writable)

    # --- TensorRT 8: tensors by number

    def set_binding_shape(self, binding: int, shape: Sequence[int]) -> bool:
        """Sets the shape of an input."""
        return self.set_input_shape(self.engine._bound(binding), shape)

    def get_binding_shape(self, binding: int) -> Dims:
        """The shape as set, or as it follows."""
        return self.get_tensor_shape(self.engine._bound(binding))

    def get_strides(self, binding: int) -> Dims:
        """Strides in elements: arrays are dense."""
        return self.get_tensor_strides(self.engine._bound(binding))

    def get_tensor_strides(self, name: str) -> Dims:
        """Strides in elements: arrays are dense."""
        shape = self.get_tensor_shape(name)
        return Dims(Dims(shape[i + 1 :]).volume for i in range(len(shape)))


def _hand_over(name: str, result: Array, allocator: Any) -> None:
    """Copies a result to where its allocator says. Errors: FeedError."""
    if hasattr(allocator, "reallocate_output_async"):
        address = allocator.reallocate_output_async(name, 0, result.nbytes, 64, 0)
    else:
        address = allocator.reallocate_output(name, 0, result.nbytes, 64)
    if address is None or (result.nbytes and int(address) == 0):
        raise _core.OutOfMemoryError(f"the output allocator gave no memory for {name!r}")
    shape = Dims(result.shape)
    array_at(f"memory of {name!r}", int(address), shape, result.dtype, True)[...] = result
    allocator.notify_shape(name, shape)
