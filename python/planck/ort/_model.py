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
from planck.outline import TensorType, declared, guarded
from planck.wire import Message, signed

_NO_VERSION = (1 << 63) - 1  # as in ONNX Runtime


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
    inputs: dict[str, TensorType] = field(default_factory=dict)
    outputs: dict[str, TensorType] = field(default_factory=dict)
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
    guarded(stream, lambda message: _read_model(message, facts))
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
            name, kind = declared(message.inner(size))
            (facts.inputs if number == 11 else facts.outputs)[name] = kind
        elif number == 15:
            facts.initializers.add(_sparse_name(message.inner(size)))


def _tensor_name(message: Message) -> str:
    return next((message.text(size) for number, size in message.fields() if number == 8), "")


def _sparse_name(message: Message) -> str:
    values = (message.inner(size) for number, size in message.fields() if number == 1)
    return next((_tensor_name(value) for value in values), "")
