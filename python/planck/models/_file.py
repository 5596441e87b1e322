"""Writes a graph as an ONNX file, one tensor at a time.

A ModelProto that holds its weights and the bytes made of it would take twice the file's size in
memory. Every length in the file follows from the shapes, so the large tensors are streamed between
parts that protobuf serializes; the fields keep the order in which protobuf itself writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from planck.models._optional import require
from planck.models._writer import GraphWriter, Initializer, Node, Port

# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9

_PROTOBUF_LIMIT = 2**31 - 1
_INLINE_BYTES = 1024  # smaller tensors stay in the model, where shape inference sees them
_PAGE = 4096  # external tensors begin on a page, so that a reader can map each alone
_IR_VERSIONS = {11: 6, 12: 7, 13: 7, 14: 7}  # later opsets: 8


def save(graph: GraphWriter, path: str | Path, external_data: bool = False) -> None:
    """Write `graph` to `path`; with `external_data` the weights go to `path` + ".data".

    Errors: ValueError when the model passes the 2 GiB limit of protobuf;
    MissingPackageError without the package onnx; OSError from the file system.
    """
    onnx = require("onnx", "onnx", "writing a model")
    path = Path(path)
    data_path = path.with_name(path.name + ".data")
    tensors = graph.initializers
    offsets = _offsets(tensors) if external_data else {}
    headers = [_tensor_header(onnx, t, offsets.get(t.name), data_path.name) for t in tensors]
    front = onnx.GraphProto(name=graph.name, node=[_node(onnx, n) for n in graph.nodes])
    back = onnx.GraphProto(
        input=[_port(onnx, p) for p in graph.inputs],
        output=[_port(onnx, p) for p in graph.outputs],
    )
    opset = onnx.helper.make_opsetid("", graph.opset)
    parts = [front.SerializeToString(deterministic=True), back.SerializeToString()]
    sizes = [
        len(header) + (0 if t.name in offsets else _sized(_TENSOR_RAW_DATA, t.nbytes))
        for header, t in zip(headers, tensors, strict=True)
    ]
    total = sum(map(len, parts)) + sum(_sized(_GRAPH_INITIALIZER, size) for size in sizes)
    if total > _PROTOBUF_LIMIT - _PAGE:
        raise ValueError(
            f"{graph.name} takes {total} bytes, more than a protobuf file can hold; "
            "pass external_data=True"
        )
    head = onnx.ModelProto(
        ir_version=_IR_VERSIONS.get(graph.opset, 8), producer_name="planck.models"
    )
    with path.open("wb") as file:
        file.write(head.SerializeToString())
        file.write(_tag(_MODEL_GRAPH, total))
        file.write(parts[0])
        for header, size, tensor in zip(headers, sizes, tensors, strict=True):
            file.write(_tag(_GRAPH_INITIALIZER, size))
            file.write(header)
            if tensor.name not in offsets:
                file.write(_tag(_TENSOR_RAW_DATA, tensor.nbytes))
                _write_values(file, tensor)
        file.write(parts[1])
        file.write(onnx.ModelProto(opset_import=[opset]).SerializeToString())
    if external_data:
        _save_external(data_path, tensors, offsets)


def _save_external(path: Path, tensors: Sequence[Initializer], offsets: dict[str, int]) -> None:
    with path.open("wb") as file:
        for tensor in tensors:
            if tensor.name in offsets:
                file.write(bytes(offsets[tensor.name] - file.tell()))
                _write_values(file, tensor)


def _offsets(tensors: Sequence[Initializer]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    end = 0
    for tensor in tensors:
        if tensor.nbytes >= _INLINE_BYTES:
            offsets[tensor.name] = -(-end // _PAGE) * _PAGE
            end = offsets[tensor.name] + tensor.nbytes
    return offsets


def _write_values(file: BinaryIO, tensor: Initializer) -> None:
    values = np.ascontiguousarray(tensor.make())
    if values.dtype != tensor.dtype or values.shape != tensor.shape:
        raise ValueError(
            f"{tensor.name} is {values.dtype}{list(values.shape)}, "
            f"but the graph says {tensor.dtype}{list(tensor.shape)}"
        )
    little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
    file.write(little_endian.reshape(-1).view(np.uint8).data)


def _tensor_header(onnx: Any, tensor: Initializer, offset: int | None, location: str) -> bytes:
    proto = onnx.TensorProto(
        dims=tensor.shape,
        data_type=onnx.helper.np_dtype_to_tensor_dtype(tensor.dtype),
        name=tensor.name,
    )
    if offset is not None:
        proto.data_location = onnx.TensorProto.EXTERNAL
        facts = {"location": location, "offset": offset, "length": tensor.nbytes}
        for key, value in facts.items():
            proto.external_data.add(key=key, value=str(value))
    header: bytes = proto.SerializeToString()
    return header


def _node(onnx: Any, node: Node) -> Any:
    attributes = {
        key: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in node.attributes.items()
    }
    return onnx.helper.make_node(node.op, node.inputs, node.outputs, node.name, **attributes)


def _port(onnx: Any, port: Port) -> Any:
    dtype = onnx.helper.np_dtype_to_tensor_dtype(port.dtype)
    return onnx.helper.make_tensor_value_info(port.name, dtype, port.dims)


def _sized(field: int, size: int) -> int:
    """Bytes that a field of `size` bytes takes with its tag."""
    return len(_tag(field, size)) + size


def _tag(field: int, size: int) -> bytes:
    """The tag of a length-delimited field (wire type 2), then its length."""
    return _varint(field << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
