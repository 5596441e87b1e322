"""Changes of an onnx.ModelProto: names that are free, nodes before others, constants that go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from planck import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

FLOAT32 = 1  # ONNX's numbers of types
HALVES = (10, 16)  # float16, bfloat16


def loaded(model: Any, purpose: str) -> Any:
    """An onnx.ModelProto that is the caller's to change, with all weights inside.

    model: a path, the bytes of a file, or a ModelProto, which is copied. Errors: FileError,
    ParseError, UsageError; ImportError without the package onnx, which `purpose` needs.
    """
    from planck.models._optional import require

    onnx = require("onnx", "onnx", purpose)
    if isinstance(model, onnx.ModelProto):
        return copied(model)
    if isinstance(model, bytes):
        try:
            return onnx.load_from_string(model)
        except Exception as error:
            raise _core.ParseError(f"these bytes are no ONNX model: {error}") from error
    if not isinstance(model, (str, os.PathLike)):
        raise _core.UsageError(
            f"model is {type(model).__name__}; expected a path, bytes or an onnx.ModelProto"
        )
    try:
        return onnx.load(os.fspath(model))
    except OSError as error:
        raise _core.FileError(f"cannot read '{os.fspath(model)}': {error}") from error
    except Exception as error:
        raise _core.ParseError(f"'{os.fspath(model)}' is no ONNX model: {error}") from error


def copied(message: Any) -> Any:
    """A copy of a message of protobuf."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


class Editor:
    """A model whose nodes keep their places until `finish`."""

    def __init__(self, proto: Any, sources: int | None = None) -> None:
        """`sources`: how many nodes the core counts, to be sure that both count alike."""
        from onnx import numpy_helper

        self.proto = proto
        self.graph = proto.graph
        functions = {(f.domain, f.name): f for f in proto.functions}
        places = _counted(self.graph, functions)
        if sources is not None and places[-1] != sources:
            raise _core.InternalError(
                f"the model has {places[-1]} nodes here and {sources} in the core"
            )
        self.index = {place: i for i, place in enumerate(places[:-1])}
        self.before: dict[int, list[Any]] = {}  # index of a node -> nodes to insert before it
        self.taken = {name for node in self.graph.node for name in (*node.output, node.name)}
        self.taken |= {t.name for t in self.graph.initializer}
        self.taken |= {v.name for v in self.graph.input}
        self._array = numpy_helper.to_array
        self._tensors: dict[str, Any] | None = None
        self._halves: dict[str, str] = {}  # what a Cast makes of a constant in half precision

    def fresh(self, name: str) -> str:
        """The name, or with a number where it is taken."""
        spelled, count = name, 0
        while spelled in self.taken:
            count += 1
            spelled = f"{name}_{count}"
        self.taken.add(spelled)
        return spelled

    def values(self, name: str) -> Array | None:
        """The contents of an initializer or Constant node, or of one in half precision that a Cast
        makes float32; None for other tensors.
        """
        if self._tensors is None:
            self._tensors = {t.name: t for t in self.graph.initializer}
            for node in self.graph.node:
                for attribute in node.attribute:
                    if node.op_type == "Constant" and attribute.name == "value":
                        self._tensors[node.output[0]] = attribute.t
            self._halves = {
                node.output[0]: node.input[0]
                for node in self.graph.node
                if is_cast_of_half(node, self._tensors)
            }
        half = self._halves.get(name)
        tensor = self._tensors.get(name if half is None else half)
        if tensor is None:
            return None
        values: Array = self._array(tensor)
        return values if half is None else values.astype("float32")

    def constant(self, name: str, values: Array) -> str:
        """A new initializer; returns its name."""
        from onnx import numpy_helper

        spelled = self.fresh(name)
        self.graph.initializer.append(numpy_helper.from_array(values, spelled))
        return spelled

    def insert(self, at: int, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """A node with one output before node `at`; returns the output's name."""
        from onnx import helper

        spelled = self.fresh(name)
        output = self.fresh(f"{spelled}_Output")
        node = helper.make_node(op, inputs, [output], spelled, **attributes)
        self.before.setdefault(at, []).append(node)
        return output

    def readers(self) -> dict[str, list[tuple[int, int]]]:
        """Who reads a tensor: indices of the node and of its input; outputs read as node -1."""
        out: dict[str, list[tuple[int, int]]] = {}
        for at, node in enumerate(self.graph.node):
            for i, name in enumerate(node.input):
                out.setdefault(name, []).append((at, i))
            for name in _captured(node):
                out.setdefault(name, []).append((-1, 0))
        for output in self.graph.output:
            out.setdefault(output.name, []).append((-1, 0))
        return out

    def makers(self) -> dict[str, int]:
        """The index of the node that makes a tensor."""
        return {name: at for at, node in enumerate(self.graph.node) for name in node.output}

    def finish(self, replaced: Iterable[str] = (), drop: Iterable[int] = ()) -> Any:
        """Puts new nodes into their places, drops nodes, and of `replaced` what nobody reads."""
        dropped = set(drop)
        nodes: list[Any] = []
        for at, node in enumerate(self.graph.node):
            nodes.extend(self.before.get(at, ()))
            if at not in dropped:
                nodes.append(node)
        nodes.extend(self.before.get(len(self.graph.node), ()))
        outputs = {output.name for output in self.graph.output}
        unread = set(replaced) - outputs - _read_names(nodes)
        casts = [n for n in nodes if n.op_type == "Cast" and unread & set(n.output)]
        if casts:  # of weights in half precision, which go with them
            nodes = [n for n in nodes if n.op_type != "Cast" or not unread & set(n.output)]
            unread |= {n.input[0] for n in casts} - outputs - _read_names(nodes)
        kept = [n for n in nodes if n.op_type != "Constant" or not unread & set(n.output)]
        kept = [copied(node) for node in kept]
        del self.graph.node[:]
        self.graph.node.extend(kept)
        for field in (self.graph.initializer, self.graph.input):
            stay = [copied(entry) for entry in field if entry.name not in unread]
            del field[:]
            field.extend(stay)
        return self.proto


def is_cast_of_half(node: Any, constants: Mapping[str, Any]) -> bool:
    """Whether the node makes float32 of a constant in float16 or bfloat16."""
    if node.op_type != "Cast" or node.input[0] not in constants:
        return False
    to = next((a.i for a in node.attribute if a.name == "to"), 0)
    return to == FLOAT32 and constants[node.input[0]].data_type in HALVES


def _counted(graph: Any, functions: Mapping[tuple[str, str], Any]) -> list[int]:
    """The index of each node of the graph when the nodes inside it are counted after it."""
    places: list[int] = []
    at = 0
    for node in graph.node:
        places.append(at)
        at += _size(node, functions)
    return [*places, at]


def _size(node: Any, functions: Mapping[tuple[str, str], Any]) -> int:
    total = 1
    for attribute in node.attribute:
        if attribute.HasField("g"):
            total += sum(_size(inner, functions) for inner in attribute.g.node)
    called = functions.get((node.domain, node.op_type))
    if called is not None:
        total += sum(_size(inner, functions) for inner in called.node)
    return total


def _captured(node: Any) -> set[str]:
    """What the sub-graphs of a node read, their own tensors included."""
    names: set[str] = set()
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names |= _read_names(attribute.g.node)
            names.update(output.name for output in attribute.g.output)
    return names


def _read_names(nodes: Iterable[Any]) -> set[str]:
    read: set[str] = set()
    for node in nodes:
        read.update(node.input)
        read |= _captured(node)
    return read
