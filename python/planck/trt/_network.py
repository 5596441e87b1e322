"""`INetworkDefinition`, `ITensor`, `ILayer`: views of an ONNX model, a layer being one node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from planck import _core
from planck.outline import Node, Outline, TensorType, read_outline, with_ports
from planck.trt._base import Sealed
from planck.trt._dims import Dims, dims_of_type, shape_from
from planck.trt._enums import (
    DataType,
    LayerType,
    TensorFormat,
    TensorLocation,
    data_type_of_onnx,
    layer_type,
)
from planck.trt._logger import refused

_PARSE = "write the model as ONNX and read it with OnnxParser"


class ITensor(Sealed):
    """A tensor of a network by its ONNX name."""

    def __init__(self, network: INetworkDefinition, name: str) -> None:
        self._network = network
        self._name = name
        self.location = TensorLocation.DEVICE
        self.allowed_formats = 1 << TensorFormat.LINEAR
        self._sealed = True

    @property
    def name(self) -> str:
        """The ONNX name."""
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        if value != self._name:
            raise refused(f"the tensor {self._name!r} cannot be renamed", "rename it in the model")

    @property
    def shape(self) -> Dims:
        """Extents, -1 where a run decides; empty where the model does not say."""
        return dims_of_type(self._network._type(self._name))

    @shape.setter
    def shape(self, value: Any) -> None:
        """Fixes the shape of an input. Errors: UsageError, UnsupportedError."""
        if not self.is_network_input:
            raise refused(f"{self._name!r} is no input", "only the shapes of inputs can be set")
        shape, now = shape_from(value, f"shape of {self._name!r}"), self.shape
        known = zip(shape, now, strict=False)
        if len(shape) != len(now) or any(w not in (-1, s) for s, w in known):
            raise _core.UsageError(
                f"input {self._name!r} has the shape {now}, which {shape} is not"
            )
        dims = self._network._type(self._name).dims or ()
        fixed = tuple(s if s >= 0 else d for s, d in zip(shape, dims, strict=True))
        self._network._set_input(self._name, fixed)

    @property
    def dtype(self) -> DataType:
        """The element type; FLOAT where the model does not say."""
        return data_type_of_onnx(self._network._type(self._name).element_type)

    @dtype.setter
    def dtype(self, value: DataType) -> None:
        if value != self.dtype:
            raise refused(
                f"{self._name!r} is {self.dtype.name} and stays it",
                "inputs and outputs have the types of the model: put a Cast into it",
            )

    @property
    def is_network_input(self) -> bool:
        """Whether it is an input."""
        return self._name in self._network._inputs()

    @property
    def is_network_output(self) -> bool:
        """Whether it is an output."""
        return self._name in self._network._outputs

    is_shape_tensor = False
    is_execution_tensor = True

    @property
    def dynamic_range(self) -> tuple[float, float] | None:
        """The lowest and highest value that int8 is to hold, or None."""
        return self._network._ranges.get(self._name)

    @dynamic_range.setter
    def dynamic_range(self, value: tuple[float, float]) -> None:
        self.set_dynamic_range(*value)

    def set_dynamic_range(self, min: float, max: float) -> bool:
        """Sets what int8 is to hold; the larger magnitude counts. Errors: UsageError."""
        if not min <= max or abs(min) == float("inf") or abs(max) == float("inf"):
            raise _core.UsageError(f"the range [{min}, {max}] of {self._name!r} is none")
        self._network._ranges[self._name] = (float(min), float(max))
        return True

    def reset_dynamic_range(self) -> None:
        """Forgets the range."""
        self._network._ranges.pop(self._name, None)

    def __repr__(self) -> str:
        """Its name, type and shape."""
        return f"ITensor({self._name!r}, {self.dtype.name}, {self.shape})"


class ILayer(Sealed):
    """A node of the model."""

    def __init__(self, network: INetworkDefinition, node: Node) -> None:
        self._network = network
        self._node = node
        self._precision: DataType | None = None
        self._output_types: dict[int, DataType] = {}
        self.metadata = ""
        self._sealed = True

    @property
    def name(self) -> str:
        """The node's name; `node_of_<first output>` for one without."""
        outputs = self._node.outputs
        return self._node.name or f"node_of_{outputs[0] if outputs else ''}"

    @property
    def named(self) -> bool:
        """Whether the model gives the node a name."""
        return bool(self._node.name)

    @property
    def type(self) -> LayerType:
        """The kind of layer that TensorRT would make of it."""
        return layer_type(self._node.op_type)

    @property
    def op_type(self) -> str:
        """The ONNX op."""
        return self._node.op_type

    @property
    def precision(self) -> DataType:
        """The precision that was asked for; FLOAT where none was."""
        return DataType.FLOAT if self._precision is None else self._precision

    @precision.setter
    def precision(self, value: DataType) -> None:
        self._precision = DataType(value)

    @property
    def precision_is_set(self) -> bool:
        """Whether a precision was asked for."""
        return self._precision is not None

    def reset_precision(self) -> None:
        """Asks for none."""
        self._precision = None

    def set_output_type(self, index: int, dtype: DataType) -> None:
        """Asks for the type of an output."""
        self._output_types[index] = DataType(dtype)

    def get_output_type(self, index: int) -> DataType:
        """The type asked for, else the tensor's own."""
        return self._output_types.get(index, self.get_output(index).dtype)

    def output_type_is_set(self, index: int) -> bool:
        """Whether a type was asked for."""
        return index in self._output_types

    def reset_output_type(self, index: int) -> None:
        """Asks for none."""
        self._output_types.pop(index, None)

    def asked(self) -> set[DataType]:
        """Every type that was asked for."""
        return {
            *self._output_types.values(),
            *([] if self._precision is None else [self._precision]),
        }

    @property
    def num_inputs(self) -> int:
        """How many inputs the node has, constants too."""
        return len(self._node.inputs)

    @property
    def num_outputs(self) -> int:
        """How many outputs the node has."""
        return len(self._node.outputs)

    def get_input(self, index: int) -> ITensor | None:
        """An input; None where it is left out."""
        name = self._node.inputs[index]
        return self._network._tensor(name) if name else None

    def get_output(self, index: int) -> ITensor:
        """An output."""
        return self._network._tensor(self._node.outputs[index])


class INetworkDefinition(Sealed):
    """The model that a parser read; building one layer by layer is out of scope."""

    has_implicit_batch_dimension = False
    has_explicit_precision = False
    error_recorder: Any = None

    def __init__(self, flags: int = 0) -> None:
        self.name = "Unnamed Network 0"
        self.flags = flags
        self._bytes = b""
        self._folder: str | None = None
        self._outline = Outline()
        self._outputs: list[str] = []
        self._fixed: dict[str, TensorType] = {}
        self._ranges: dict[str, tuple[float, float]] = {}
        self._layers: list[ILayer] = []
        self._tensors: dict[str, ITensor] = {}
        self._sealed = True

    def _load(self, model: bytes, folder: str | None) -> None:
        """Takes over what a parser found to be good."""
        self._bytes, self._folder = model, folder
        self._outline = read_outline(model)
        self._outputs = list(self._outline.outputs)
        self._fixed, self._ranges, self._tensors = {}, {}, {}
        self._layers = [ILayer(self, node) for node in self._outline.nodes]

    def _model(self) -> bytes:
        """The model as it was parsed, with the outputs and input shapes that were set since."""
        if self._outputs == list(self._outline.outputs) and not self._fixed:
            return self._bytes
        kinds = {name: self._outline.type_of(name) for name in self._outputs}
        return with_ports(self._bytes, self._fixed, kinds)

    def _inputs(self) -> list[str]:
        return [n for n in self._outline.inputs if n not in self._outline.initializers]

    def _type(self, name: str) -> TensorType:
        return self._fixed.get(name) or self._outline.type_of(name)

    def _set_input(self, name: str, dims: tuple[int | str | None, ...]) -> None:
        self._fixed[name] = replace(self._type(name), dims=dims)

    def _tensor(self, name: str) -> ITensor:
        return self._tensors.setdefault(name, ITensor(self, name))

    @property
    def num_inputs(self) -> int:
        """How many inputs a run is to give."""
        return len(self._inputs())

    @property
    def num_outputs(self) -> int:
        """How many outputs a run gives."""
        return len(self._outputs)

    @property
    def num_layers(self) -> int:
        """How many nodes the model has."""
        return len(self._layers)

    def get_input(self, index: int) -> ITensor:
        """An input in the model's order."""
        return self._tensor(self._inputs()[index])

    def get_output(self, index: int) -> ITensor:
        """An output in the model's order, then those marked."""
        return self._tensor(self._outputs[index])

    def get_layer(self, index: int) -> ILayer:
        """A node in the model's order."""
        return self._layers[index]

    def __getitem__(self, index: int) -> ILayer:
        """A node in the model's order."""
        return self._layers[index]

    def __len__(self) -> int:
        """How many nodes the model has."""
        return len(self._layers)

    def __bool__(self) -> bool:
        """True, parsed or not."""
        return True

    def mark_output(self, tensor: ITensor) -> None:
        """Makes a tensor an output. Errors: UsageError for one of another network."""
        if tensor.name not in self._outline.tensors():
            raise _core.UsageError(
                f"the network has no tensor {tensor.name!r} that a node produces"
            )
        if tensor.name not in self._outputs:
            self._outputs.append(tensor.name)

    def unmark_output(self, tensor: ITensor) -> None:
        """Makes an output an inner tensor. Errors: UsageError for no output."""
        if tensor.name not in self._outputs:
            raise _core.UsageError(f"{tensor.name!r} is no output of the network")
        self._outputs.remove(tensor.name)

    def get_flag(self, flag: int) -> bool:
        """Whether the network was created with a flag."""
        return bool(self.flags >> int(flag) & 1)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """`add_convolution` and the like exist, and say what to do instead."""
        if not name.startswith("add_"):
            raise AttributeError(f"INetworkDefinition has no attribute {name!r}")

        def add(*_: Any, **__: Any) -> Any:
            raise refused(f"{name}: networks are not built layer by layer", _PARSE)

        return add
