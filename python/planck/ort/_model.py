"""What an ONNX file says about itself: metadata, and inputs and outputs as they were declared.

The names of symbolic dimensions, doc strings and the like have no place in a plan, so they are read
from the file. Nodes and weights are stepped over.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from typing import BinaryIO

from planck import _core
from planck.wire import Message, signed

Dims = list["int | str | None"]


_NO_VERSION = (1 << 63) - 1  # as in ONNX Runtime


@dataclass(slots=True)
class Declared:
    """The type of an input or output: ONNX's element type, and dims or None for any rank."""

    element_type: int = 0
    dims: Dims | None = None


@dataclass(slots=True)
class ModelMetadata:
    """Who made the model, and what they wrote about it."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = _NO_VERSION
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ModelFacts:
    """What `read` finds: inputs and outputs by name, names of initializers."""

    ir_version: int = 0
    metadata: ModelMetadata = field(default_factory=ModelMetadata)
    inputs: dict[str, Declared] = field(default_factory=dict)
    outputs: dict[str, Declared] = field(default_factory=dict)
    initializers: set[str] = field(default_factory=set)


def read_file(path: str | os.PathLike[str]) -> ModelFacts:
    """Reads an ONNX file. Errors: ParseError, FileError."""
    try:
        with open(path, "rb") as file:
            return read(file)
    except OSError as error:
        raise _core.FileError(f"cannot read '{os.fspath(path)}': {error}") from error


def read_bytes(model: bytes) -> ModelFacts:
    """Reads an ONNX model in memory. Errors: ParseError."""
    return read(io.BytesIO(model))


def read(stream: BinaryIO) -> ModelFacts:
    """Reads an ONNX model. Errors: ParseError.

    >>> import io
    >>> read(io.BytesIO(bytes([18, 4]) + b"tool")).metadata.producer_name
    'tool'
    """
    facts = ModelFacts()
    end = stream.seek(0, 2)
    stream.seek(0)
    try:
        _read_model(Message(stream, end), facts)
    except (IndexError, KeyError) as error:
        raise _core.ParseError("this is no ONNX model: a field is cut off or unknown") from error
    return facts


def _read_model(message: Message, facts: ModelFacts) -> None:
    metadata = facts.metadata
    for number, value in message.fields():
        if number == 1:
            facts.ir_version = signed(value)
        elif number == 2:
            metadata.producer_name = message.text(value)
        elif number == 4:
            metadata.domain = message.text(value)
        elif number == 5:
            metadata.version = signed(value)
        elif number == 6:
            metadata.description = message.text(value)
        elif number == 7:
            _read_graph(message.inner(value), facts)
        elif number == 14:
            metadata.custom_metadata_map.update([_entry(message.inner(value))])


def _entry(message: Message) -> tuple[str, str]:
    texts = {number: message.text(size) for number, size in message.fields()}
    return texts.get(1, ""), texts.get(2, "")


def _read_graph(message: Message, facts: ModelFacts) -> None:
    for number, size in message.fields():
        if number == 2:
            facts.metadata.graph_name = message.text(size)
        elif number == 5:
            facts.initializers.add(_tensor_name(message.inner(size)))
        elif number == 10:
            facts.metadata.graph_description = message.text(size)
        elif number in (11, 12):
            name, declared = _value_info(message.inner(size))
            (facts.inputs if number == 11 else facts.outputs)[name] = declared
        elif number == 15:
            facts.initializers.add(_sparse_name(message.inner(size)))


def _tensor_name(message: Message) -> str:
    return next((message.text(size) for number, size in message.fields() if number == 8), "")


def _sparse_name(message: Message) -> str:
    values = (message.inner(size) for number, size in message.fields() if number == 1)
    return next((_tensor_name(value) for value in values), "")


def _value_info(message: Message) -> tuple[str, Declared]:
    name, declared = "", Declared()
    for number, size in message.fields():
        if number == 1:
            name = message.text(size)
        elif number == 2:
            for kind, inner in message.inner(size).fields():
                if kind == 1:
                    declared = _tensor_type(message.inner(inner))
    return name, declared


def _tensor_type(message: Message) -> Declared:
    declared = Declared()
    for number, value in message.fields():
        if number == 1:
            declared.element_type = value
        elif number == 2:
            shape = message.inner(value)
            declared.dims = [_dim(shape.inner(size)) for kind, size in shape.fields() if kind == 1]
    return declared


def _dim(message: Message) -> int | str | None:
    """An extent, a name, or None where the model says neither (some exporters write -1 or "")."""
    dim: int | str | None = None
    for number, value in message.fields():
        if number == 1:
            dim = value if value >> 63 == 0 else None
        elif number == 2:
            dim = message.text(value) or None
    return dim
