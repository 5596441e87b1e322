"""The outline of an ONNX model: its nodes, and the names, types and shapes of its tensors.

Weights are stepped over, and nothing but this package is needed. What is checked is the wire
format; whether the model keeps ONNX's rules, `planck.build` says.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from planck import _core
from planck.wire import Message, signed

Dims = tuple["int | str | None", ...]


@dataclass(slots=True)
class TensorType:
    """ONNX's number of an element type (0: not said), and extents; None: any rank."""

    element_type: int = 0
    dims: Dims | None = None


@dataclass(slots=True)
class Node:
    """A node: `integers` has the attributes that are one whole number, such as transB."""

    name: str = ""
    op_type: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    integers: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Outline:
    """Nodes in the file's order, which is topological; types by tensor name."""

    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, TensorType] = field(default_factory=dict)
    outputs: dict[str, TensorType] = field(default_factory=dict)
    initializers: dict[str, TensorType] = field(default_factory=dict)
    declared: dict[str, TensorType] = field(default_factory=dict)  # value_info
    opsets: dict[str, int] = field(default_factory=dict)

    def tensors(self) -> list[str]:
        """Inputs without an initializer, then what nodes produce, in topological order."""
        names = [name for name in self.inputs if name not in self.initializers]
        for node in self.nodes:
            names += [name for name in node.outputs if name]
        return names

    def type_of(self, name: str) -> TensorType:
        """What the file says about a tensor; an empty type where it says nothing."""
        for table in (self.inputs, self.outputs, self.declared, self.initializers):
            if name in table:
                return table[name]
        return TensorType()


def read_outline(model: str | os.PathLike[str] | bytes) -> Outline:
    """The outline of a model, path or bytes. Errors: ParseError, FileError.

    >>> read_outline(b"").nodes
    []
    """
    if isinstance(model, bytes):
        return _read(io.BytesIO(model))
    try:
        with open(model, "rb") as file:
            return _read(file)
    except OSError as error:
        raise _core.FileError(f"cannot read '{os.fspath(model)}': {error}") from error


def with_ports(
    model: bytes, inputs: dict[str, TensorType], outputs: dict[str, TensorType]
) -> bytes:
    """The model with other types of some inputs, and other outputs than its own.

    All else stays as it was, byte for byte. Errors: ParseError.
    """
    parts: list[bytes] = []
    for number, start, body, end in _spans(model, 0, len(model)):
        if number == _GRAPH:
            parts.append(_sized(_GRAPH, _graph_with(model, body, end, inputs, outputs)))
        else:
            parts.append(model[start:end])
    return b"".join(parts)


_GRAPH, _INPUT, _OUTPUT = 7, 11, 12  # fields of a model, and of a graph


def _graph_with(
    model: bytes,
    begin: int,
    end: int,
    inputs: dict[str, TensorType],
    outputs: dict[str, TensorType],
) -> bytes:
    parts: list[bytes] = []
    for number, start, body, after in _spans(model, begin, end):
        if number == _OUTPUT:
            continue
        name = ""
        if number == _INPUT and inputs:
            stream = io.BytesIO(model[body:after])
            name = declared(Message(stream, after - body))[0]
        if name in inputs:
            parts.append(_sized(_INPUT, _value_info(name, inputs[name])))
        else:
            parts.append(model[start:after])
    parts += [_sized(_OUTPUT, _value_info(name, kind)) for name, kind in outputs.items()]
    return b"".join(parts)


def guarded(stream: BinaryIO, body: Callable[[Message], None]) -> None:
    """Lets `body` read the whole stream. Errors: ParseError for what is no message."""
    end = stream.seek(0, 2)
    stream.seek(0)
    try:
        body(Message(stream, end))
    except (IndexError, KeyError, OverflowError, ValueError) as error:
        raise _core.ParseError("this is no ONNX model: a field is cut off or unknown") from error


def _read(stream: BinaryIO) -> Outline:
    outline = Outline()
    guarded(stream, lambda message: _read_model(message, outline))
    return outline


def _read_model(message: Message, outline: Outline) -> None:
    for number, value in message.fields():
        if number == 7:
            _read_graph(message.inner(value), outline)
        elif number == 8:
            domain, version = "", 0
            inner = message.inner(value)
            for kind, size in inner.fields():
                if kind == 1:
                    domain = inner.text(size)
                elif kind == 2:
                    version = signed(size)
            outline.opsets[domain] = version


def _read_graph(message: Message, outline: Outline) -> None:
    tables = {11: outline.inputs, 12: outline.outputs, 13: outline.declared}
    for number, size in message.fields():
        if number == 1:
            outline.nodes.append(_node(message.inner(size)))
        elif number == 5:
            name, kind = _initializer(message.inner(size))
            outline.initializers[name] = kind
        elif number in tables:
            name, kind = declared(message.inner(size))
            tables[number][name] = kind


def _node(message: Message) -> Node:
    node = Node()
    for number, size in message.fields():
        if number == 1:
            node.inputs.append(message.text(size))
        elif number == 2:
            node.outputs.append(message.text(size))
        elif number == 3:
            node.name = message.text(size)
        elif number == 4:
            node.op_type = message.text(size)
        elif number == 5:
            node.integers.update(_integer(message.inner(size)))
        elif number == 7:
            node.domain = message.text(size)
    return node


def _integer(message: Message) -> dict[str, int]:
    name, value = "", None
    for number, content in message.fields():
        if number == 1:
            name = message.text(content)
        elif number == 3:
            value = signed(content)
    return {} if value is None else {name: value}


def _initializer(message: Message) -> tuple[str, TensorType]:
    name, element_type, dims = "", 0, list[int]()
    for number, value in message.fields():
        if number == 1:
            dims.append(signed(value))
        elif number == 2:
            element_type = value
        elif number == 8:
            name = message.text(value)
    return name, TensorType(element_type, tuple(dims))


def declared(message: Message) -> tuple[str, TensorType]:
    """Name and type of an input, output or value; types other than tensors are empty."""
    name, kind = "", TensorType()
    for number, size in message.fields():
        if number == 1:
            name = message.text(size)
        elif number == 2:
            for variant, inner in message.inner(size).fields():
                if variant == 1:  # a tensor, neither sequence nor map
                    kind = _tensor_type(message.inner(inner))
    return name, kind


def _tensor_type(message: Message) -> TensorType:
    kind = TensorType()
    for number, value in message.fields():
        if number == 1:
            kind.element_type = value
        elif number == 2:
            shape = message.inner(value)
            kind.dims = tuple(_dim(shape.inner(size)) for n, size in shape.fields() if n == 1)
    return kind


def _dim(message: Message) -> int | str | None:
    """An extent, a name, or None where the model says neither (some exporters write -1 or "")."""
    dim: int | str | None = None
    for number, value in message.fields():
        if number == 1:
            dim = value if value >> 63 == 0 else None
        elif number == 2:
            dim = message.text(value) or None
    return dim


# --- writing


def _spans(model: bytes, begin: int, end: int) -> list[tuple[int, int, int, int]]:
    """Field number, begin of the field, begin of its content and end, of each field."""
    out: list[tuple[int, int, int, int]] = []

    def collect(_: Message) -> None:
        stream.seek(begin)
        message = Message(stream, end)
        start = begin
        for number, size in message.fields():
            body = stream.tell()
            after = body if model[start] & 7 == 0 else body + size  # 0: a number, read already
            out.append((number, start, body, after))
            start = after

    stream = io.BytesIO(model)
    guarded(stream, collect)
    return out


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _sized(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _value_info(name: str, kind: TensorType) -> bytes:
    tensor = _number(1, kind.element_type)
    if kind.dims is not None:
        dims = b"".join(_sized(1, _extent(extent)) for extent in kind.dims)
        tensor += _sized(2, dims)
    typed = _sized(2, _sized(1, tensor)) if kind.element_type else b""
    return _sized(1, name.encode()) + typed


def _extent(extent: int | str | None) -> bytes:
    if extent is None:
        return b""
    return _number(1, extent) if isinstance(extent, int) else _sized(2, extent.encode())


def model_of_one_node(op_type: str, domain: str = "") -> bytes:
    """A model with one node without inputs, to ask whether its op is known.

    >>> [node.op_type for node in read_outline(model_of_one_node("Gelu")).nodes]
    ['Gelu']
    """
    parts = [_sized(2, b"y"), _sized(4, op_type.encode())]
    if domain:
        parts.append(_sized(7, domain.encode()))
    graph = _sized(1, b"".join(parts)) + _sized(2, b"g")
    graph += _sized(_OUTPUT, _value_info("y", TensorType()))
    opsets = {"": 22, domain: 1} if domain else {"": 22}
    rows = [_sized(8, _sized(1, d.encode()) + _number(2, version)) for d, version in opsets.items()]
    return _number(1, 8) + _sized(_GRAPH, graph) + b"".join(rows)
