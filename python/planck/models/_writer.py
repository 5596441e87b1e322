"""A small graph writer that names things as the PyTorch exporter names them.

Goals: a model builder reads like the module tree it rebuilds; node and value names, constants and
initializers come out in the exporter's style; the weights are produced only while the file is
written, so that a census of a large model costs no memory.
Non-goals: shape inference, optimisation, any op whose form an exporter would not write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planck.models._weights import Array, Kind, WeightSource

OPSETS = range(11, 19)

Dim = int | str
Attribute = int | float | str | Sequence[int] | Array
WeightType = Literal["fp32", "fp16"]
Reader = Callable[[str, tuple[int, ...], Kind], Array]


@dataclass(slots=True)
class Node:
    """One ONNX node; arrays among the attributes are tensors."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class Initializer:
    """A tensor of the file; `make` returns it as an array of `dtype` and `shape`."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    make: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the graph as declared; a dim is a number or a symbol."""

    name: str
    dtype: np.dtype[np.generic]
    dims: tuple[Dim, ...]


class GraphWriter:
    """Collects the nodes, initializers and ports of one graph.

    `opset` is 11 to 18; `source` gives the parameters; with `weights="fp16"` every floating-point
    parameter is stored as f16 and followed by a Cast to f32. From opset 13 on, Unsqueeze and
    Squeeze take their axes from an initializer, or with `constant_axes` from a Constant node.
    """

    def __init__(
        self,
        name: str,
        opset: int,
        source: WeightSource,
        weights: WeightType = "fp32",
        *,
        constant_axes: bool = False,
    ) -> None:
        if opset not in OPSETS:
            raise ValueError(f"opset is {opset}, but must be {OPSETS[0]} to {OPSETS[-1]}")
        if weights not in ("fp32", "fp16"):
            raise ValueError(f"weights is {weights!r}, but must be 'fp32' or 'fp16'")
        self.name = name
        self.opset = opset
        self.nodes: list[Node] = []
        self.initializers: list[Initializer] = []
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self._source = source
        self._weights = weights
        self._constant_axes = constant_axes
        self._modules: list[str] = []
        self._names: Counter[str] = Counter()

    def take_weights_from(self, source: WeightSource) -> None:
        """Let another source give the parameters; they are read while the file is written."""
        self._source = source

    # Scopes: the same path names nodes ("/encoder/layer.0/...") and parameters ("encoder.layer.0").

    @contextmanager
    def scope(self, *modules: str) -> Iterator[None]:
        """Enter sub-modules, outermost first, for the nodes and parameters written inside."""
        depth = len(self._modules)
        self._modules.extend(modules)
        try:
            yield
        finally:
            del self._modules[depth:]

    # Nodes.

    def node(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """Append a node with one output and return the output's name; "" is an absent input."""
        return self.node_with_outputs(1, op, *inputs, **attributes)[0]

    def node_with_outputs(
        self, outputs: int, op: str, *inputs: str, **attributes: Attribute
    ) -> list[str]:
        """Append a node and return the names of its `outputs` outputs."""
        name = self._unique("/" + "/".join([*self._modules, op]))
        results = [f"{name}_output_{i}" for i in range(outputs)]
        self.nodes.append(Node(op, name, list(inputs), results, attributes))
        return results

    def constant(self, value: object, dtype: str = "float32") -> str:
        """Append a Constant node; `value` is a scalar or a nested list."""
        return self.node("Constant", value=np.array(value, dtype=dtype))

    # Ops whose axes moved from an attribute to an input.

    def unsqueeze(self, x: str, axis: int) -> str:
        """Insert a dimension of 1 at `axis`."""
        return self._view("Unsqueeze", x, axis)

    def squeeze(self, x: str, axis: int) -> str:
        """Remove `axis`, a dimension of 1."""
        return self._view("Squeeze", x, axis)

    def split(self, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Cut x into parts of the given sizes along `axis`."""
        if self.opset < 13:
            return self.node_with_outputs(len(sizes), "Split", x, axis=axis, split=sizes)
        return self.node_with_outputs(
            len(sizes), "Split", x, self.integers("Split", sizes), axis=axis
        )

    def reduce(self, op: str, x: str, axis: int, keep: bool = True) -> str:
        """Reduce over one axis by `op`, such as ReduceMean."""
        since = 13 if op == "ReduceSum" else 18
        return self._with_axes(op, x, [axis], since, keepdims=int(keep))

    def _view(self, op: str, x: str, axis: int) -> str:
        if self._constant_axes and self.opset >= 13:
            return self.node(op, x, self.constant([axis], "int64"))
        return self._with_axes(op, x, [axis], since=13)

    def _with_axes(
        self, op: str, x: str, axes: list[int], since: int, **attributes: Attribute
    ) -> str:
        if self.opset < since:
            return self.node(op, x, axes=axes, **attributes)
        return self.node(op, x, self.integers(op, axes), **attributes)

    # Initializers.

    def integers(self, user: str, values: Sequence[int]) -> str:
        """Add an i64 [len(values)] initializer as constant folding leaves it for op `user`."""
        data = np.array(values, dtype=np.int64)
        return self._initializer(self._folded(user), data.dtype, data.shape, lambda: data)

    def buffer(self, name: str, values: Array) -> str:
        """Add a buffer of the current module: an initializer that is no weight."""
        return self._initializer(self._path(name), values.dtype, values.shape, lambda: values)

    def parameter(self, name: str, shape: tuple[int, ...], kind: Kind) -> str:
        """Add a parameter of the current module under its own name."""
        path = self._path(name)
        return self._float(path, shape, lambda: self._source.tensor(path, shape, kind))

    def transposed(self, name: str, shape: tuple[int, int], kind: Kind = "weight") -> str:
        """Add the transpose of a Linear weight [out, in]: folding costs it its name."""
        return self.folded("MatMul", (shape[1], shape[0]), lambda read: read(name, shape, kind).T)

    def folded(self, user: str, shape: tuple[int, ...], make: Callable[[Reader], Array]) -> str:
        """Add f32 [shape], which constant folding computes for op `user` and names after it.

        `make` gets a function that reads parameters of the current module.
        """
        modules = [*self._modules]

        def read(name: str, shape: tuple[int, ...], kind: Kind) -> Array:
            return self._source.tensor(".".join([*modules, name]), shape, kind)

        return self._float(self._folded(user), shape, lambda: np.ascontiguousarray(make(read)))

    def _float(self, name: str, shape: tuple[int, ...], make: Callable[[], Array]) -> str:
        if self._weights == "fp32":
            return self._initializer(name, np.dtype(np.float32), shape, make)
        half = np.dtype(np.float16)
        value = self._initializer(name, half, shape, lambda: make().astype(half))
        return self.node("Cast", value, to=1)

    def _initializer(
        self,
        name: str,
        dtype: np.dtype[np.generic],
        shape: tuple[int, ...],
        make: Callable[[], Array],
    ) -> str:
        unique = self._unique(name)
        if unique != name:
            raise ValueError(f"{name} is added twice to {self.name}")
        self.initializers.append(Initializer(name, dtype, shape, make))
        return name

    # Ports.

    def input(self, name: str, dtype: str, dims: Sequence[Dim]) -> str:
        """Declare a graph input and return its name."""
        self._unique(name)
        self.inputs.append(Port(name, np.dtype(dtype), tuple(dims)))
        return name

    def output(self, value: str, name: str, dtype: str, dims: Sequence[Dim]) -> None:
        """Declare a graph output: `value` is renamed to `name` wherever it occurs."""
        for node in self.nodes:
            node.inputs = [name if x == value else x for x in node.inputs]
            node.outputs = [name if x == value else x for x in node.outputs]
        self.outputs.append(Port(name, np.dtype(dtype), tuple(dims)))

    # Facts.

    def census(self) -> Counter[str]:
        """Count the nodes by op."""
        return Counter(node.op for node in self.nodes)

    def _path(self, name: str) -> str:
        return ".".join([*self._modules, name])

    def _folded(self, user: str) -> str:
        # The exporter numbers its values; ours need only be distinct and reproducible.
        return f"onnx::{user}_{len(self.nodes) + len(self.initializers)}"

    def _unique(self, name: str) -> str:
        count = self._names[name]
        self._names[name] += 1
        return f"{name}_{count}" if count else name
