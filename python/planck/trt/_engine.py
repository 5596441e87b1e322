"""`Runtime`, `ICudaEngine`, `IHostMemory`: engines are plan files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from planck import _core
from planck.plan import Plan, Port, load
from planck.trt._base import Scoped, Sealed
from planck.trt._dims import Dims, dims_of
from planck.trt._engine_file import MAGIC, profiles_of
from planck.trt._enums import (
    DataType,
    EngineCapability,
    HardwareCompatibilityLevel,
    LayerInformationFormat,
    ProfilingVerbosity,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    data_type,
)
from planck.trt._logger import ILogger, failed, refused
from planck.trt._profile import IOptimizationProfile

_FOREIGN = (b"ftrt", b"ptrt")  # how TensorRT's engines begin


class IHostMemory(bytes, Scoped):
    """Bytes of an engine or cache."""

    @property
    def nbytes(self) -> int:
        """How many bytes there are."""
        return len(self)

    @property
    def dtype(self) -> DataType:
        """INT8."""
        return DataType.INT8


class Runtime(Sealed):
    """Loads engines."""

    DLA_core = -1
    num_DLA_cores = 0  # noqa: N815 - TensorRT's name
    error_recorder: Any = None
    engine_host_code_allowed = False
    temporary_directory = ""

    def __init__(self, logger: ILogger | None = None) -> None:
        self.logger = logger
        self.max_threads = 0
        self._sealed = True

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine:
        """An engine from bytes, or from a reader with `read(size)`.

        Errors, which the logger is told too: VersionError for an engine that TensorRT wrote,
        CorruptError, TargetError, LimitError.
        """
        try:
            data = _bytes_of(serialized_engine)
            if data.startswith(_FOREIGN):
                raise _foreign()
            plan = load(data, threads=self.max_threads or None)
            return ICudaEngine(plan, data, profiles_of(data))
        except _core.CorruptError as error:
            if not data.startswith(MAGIC):
                error.hint = (
                    "TensorRT's engines cannot be read: build the plan from the ONNX model with "
                    "Builder.build_serialized_network or planck.build"
                )
            failed(self.logger, error)
            raise
        except _core.Error as error:
            failed(self.logger, error)
            raise

    def get_plugin_registry(self) -> Any:
        """Errors: UnsupportedError."""
        raise refused("TensorRT plug-ins are not loaded", "write the op as an ONNX function")


def _foreign() -> _core.VersionError:
    error = _core.VersionError(
        "this engine was written by TensorRT, which alone can read it; expected a Planck plan"
    )
    error.expected, error.got = "a Planck plan", "a TensorRT engine"
    error.hint = "build the plan from the ONNX model that the engine was made of"
    return error


def _bytes_of(source: Any) -> bytes:
    if not hasattr(source, "read"):
        try:
            return bytes(memoryview(source))
        except TypeError:
            raise _core.UsageError(
                f"the engine is {type(source).__name__}; expected the bytes of a plan file, or a "
                "stream that reads them"
            ) from None
    pieces: list[bytes] = []
    while piece := source.read(1 << 24):
        pieces.append(bytes(piece))
    return b"".join(pieces)


class ICudaEngine(Sealed):
    """A plan behind TensorRT's interface; inputs come first, in the model's order."""

    has_implicit_batch_dimension = False
    max_batch_size = 1
    refittable = False
    engine_capability = EngineCapability.STANDARD
    hardware_compatibility_level = HardwareCompatibilityLevel.NONE
    profiling_verbosity = ProfilingVerbosity.DETAILED
    num_aux_streams = 0
    tactic_sources = 0
    error_recorder: Any = None

    def __init__(self, plan: Plan, data: bytes, profiles: Sequence[IOptimizationProfile]) -> None:
        self._plan = plan
        self._data = data
        self._profiles = list(profiles)
        self._ports: dict[str, Port] = {}
        self._modes: dict[str, TensorIOMode] = {}
        for port in plan.inputs:
            self._ports[port.name], self._modes[port.name] = port, TensorIOMode.INPUT
        for port in plan.outputs:
            self._ports[port.name], self._modes[port.name] = port, TensorIOMode.OUTPUT
        self._names = list(self._ports)
        self._sealed = True

    @property
    def plan(self) -> Plan:
        """The plan itself."""
        return self._plan

    @property
    def name(self) -> str:
        """What the plan was built from."""
        return str(self._plan.report["model"])

    @property
    def num_io_tensors(self) -> int:
        """How many inputs and outputs there are."""
        return len(self._names)

    @property
    def num_layers(self) -> int:
        """How many steps the plan has."""
        return len(self._plan.steps)

    @property
    def num_optimization_profiles(self) -> int:
        """How many profiles the engine was built with; at least 1."""
        return max(1, len(self._profiles))

    def get_tensor_name(self, index: int) -> str:
        """Inputs first."""
        return self._names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        """What a tensor is; NONE for another name."""
        return self._modes.get(name, TensorIOMode.NONE)

    def get_tensor_shape(self, name: str) -> Dims:
        """Extents, -1 where a run decides. Errors: UsageError."""
        return dims_of(self._port(name).shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        """The element type. Errors: UsageError."""
        return data_type(self._port(name).dtype)

    def get_tensor_location(self, name: str) -> TensorLocation:
        """DEVICE, whose memory is the process's own."""
        return TensorLocation.DEVICE

    def get_tensor_format(self, name: str, profile_index: int = 0) -> TensorFormat:
        """LINEAR."""
        return TensorFormat.LINEAR

    def get_tensor_format_desc(self, name: str, profile_index: int = 0) -> str:
        """What LINEAR means."""
        return "Row major linear format"

    def get_tensor_bytes_per_component(self, name: str, profile_index: int = 0) -> int:
        """Bytes of an element."""
        return self.get_tensor_dtype(name).itemsize

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        """Min, opt and max of an input; its shape three times where the profile has none.

        Errors: UsageError.
        """
        shape = self.get_tensor_shape(name)
        if not 0 <= profile_index < self.num_optimization_profiles:
            raise _core.UsageError(f"the engine has no optimization profile {profile_index}")
        if not self._profiles:
            return [shape] * 3
        return self._profiles[profile_index].get_shape(name) or [shape] * 3

    def get_tensor_profile_values(self, name: str, profile_index: int) -> list[Dims]:
        """The values of a shape tensor: min, opt and max."""
        if not self._profiles:
            return []
        return self._profiles[profile_index].get_shape_input(name)

    def is_shape_inference_io(self, name: str) -> bool:
        """False: every input is an array."""
        return False

    def is_debug_tensor(self, name: str) -> bool:
        """False: `plan.taps` gives any tensor."""
        return False

    @property
    def device_memory_size(self) -> int:
        """Bytes of intermediate tensors at the largest profile; 0 where shapes are open."""
        return self.device_memory_size_v2

    @property
    def device_memory_size_v2(self) -> int:
        """The same, under its newer name."""
        shapes = {
            port.name: self.get_tensor_profile_shape(port.name, 0)[2] for port in self._plan.inputs
        }
        if any(min(shape, default=0) < 0 for shape in shapes.values()):
            return 0
        return self._plan.memory(shapes).arena_bytes

    def serialize(self) -> IHostMemory:
        """The engine as bytes."""
        return IHostMemory(self._data)

    def create_execution_context(self, strategy: Any = None) -> Any:
        """Something to run the engine with; contexts may run at the same time."""
        from planck.trt._context import IExecutionContext

        return IExecutionContext(self)

    def create_execution_context_without_device_memory(self) -> Any:
        """The same: the plan has its own memory."""
        return self.create_execution_context()

    def create_engine_inspector(self) -> EngineInspector:
        """Says what the engine is made of."""
        return EngineInspector(self)

    def __getitem__(self, key: int | str) -> str | int:
        """The name of a binding, or the index of a name."""
        return self.get_binding_name(key) if isinstance(key, int) else self.get_binding_index(key)

    def __iter__(self) -> Any:
        """The names of bindings, as in TensorRT 8."""
        return iter([self.get_binding_name(i) for i in range(self.num_bindings)])

    def __len__(self) -> int:
        """The number of bindings, as in TensorRT 8."""
        return self.num_bindings

    def __bool__(self) -> bool:
        """True."""
        return True

    # --- TensorRT 8: tensors by number, a set of them for each profile

    @property
    def num_bindings(self) -> int:
        """Inputs and outputs, times the profiles."""
        return len(self._names) * self.num_optimization_profiles

    def get_binding_name(self, index: int) -> str:
        """The name, with the profile behind it from the second profile on."""
        profile, place = divmod(index, len(self._names))
        suffix = f" [profile {profile}]" if profile else ""
        return self._names[place] + suffix

    def get_binding_index(self, name: str) -> int:
        """The number of a name; -1 where there is none."""
        names = [self.get_binding_name(i) for i in range(self.num_bindings)]
        return names.index(name) if name in names else -1

    def _bound(self, binding: int | str) -> str:
        if isinstance(binding, str):
            binding = self.get_binding_index(binding)
        if not 0 <= binding < self.num_bindings:
            raise _core.UsageError(f"the engine has no binding {binding}")
        return self._names[binding % len(self._names)]

    def get_binding_shape(self, binding: int | str) -> Dims:
        """Extents, -1 where a run decides."""
        return self.get_tensor_shape(self._bound(binding))

    def get_binding_dtype(self, binding: int | str) -> DataType:
        """The element type."""
        return self.get_tensor_dtype(self._bound(binding))

    def binding_is_input(self, binding: int | str) -> bool:
        """Whether a run takes it."""
        return self._modes[self._bound(binding)] == TensorIOMode.INPUT

    def get_profile_shape(self, profile_index: int, binding: int | str) -> list[Dims]:
        """Min, opt and max of an input."""
        return self.get_tensor_profile_shape(self._bound(binding), profile_index)

    def is_execution_binding(self, binding: int) -> bool:
        """True."""
        return True

    def is_shape_binding(self, binding: int) -> bool:
        """False."""
        return False

    def get_location(self, binding: int | str) -> TensorLocation:
        """DEVICE, whose memory is the process's own."""
        return TensorLocation.DEVICE

    def _port(self, name: str) -> Port:
        if name not in self._ports:
            raise _core.UsageError(
                f"the engine has no input or output {name!r}; it has {', '.join(self._names)}"
            )
        return self._ports[name]


class EngineInspector(Scoped):
    """What an engine is made of, as text or JSON."""

    execution_context: Any = None
    error_recorder: Any = None

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def get_layer_information(self, layer_index: int, format: LayerInformationFormat) -> str:
        """One step: its ONNX nodes, op, kernel and precision."""
        step = self._engine.plan.steps[layer_index]
        if format == LayerInformationFormat.ONELINE:
            return f"{' + '.join(step.nodes) or step.op}: {step.op} by {step.kernel}, {step.given}"
        row = {
            "Name": " + ".join(step.nodes) or step.op,
            "LayerType": step.op,
            "TacticName": step.kernel,
            "Precision": step.given,
            "Nodes": list(step.nodes),
        }
        return json.dumps(row)

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        """All steps, and the names of inputs and outputs."""
        count = self._engine.num_layers
        if format == LayerInformationFormat.ONELINE:
            return "\n".join(self.get_layer_information(i, format) for i in range(count))
        layers = [json.loads(self.get_layer_information(i, format)) for i in range(count)]
        return json.dumps({"Layers": layers, "Bindings": self._engine._names})
