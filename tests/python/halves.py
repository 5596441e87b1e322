"""Float models as exporters write them in half precision: weights, activations, inputs, outputs."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

DTYPES = {
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def in_half(
    model: ModelProto, to: int = TensorProto.FLOAT16, *, scales: bool = False
) -> ModelProto:
    """Every float32 of the model in float16 or bfloat16 (`to`), as `model.half()` exports it.

    scales: of Q and DQ as well, as opset 19 allows it; otherwise these stay in float32, between
    Casts, as ModelOpt writes them.
    """
    out = ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    kept = set() if scales else _parameters(graph)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(_half_tensor(tensor, to))
    for port in (*graph.input, *graph.output, *graph.value_info):
        if port.type.tensor_type.elem_type == TensorProto.FLOAT:
            port.type.tensor_type.elem_type = to
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            _convert(node, attribute, to)
        nodes.extend([node] if scales else _between_casts(node, to, kept))
    del graph.node[:]
    graph.node.extend(nodes)
    return out


def _parameters(graph: Any) -> set[str]:
    return {name for n in graph.node if n.op_type in QUANTIZERS for name in n.input[1:]}


def _half_tensor(tensor: TensorProto, to: int) -> TensorProto:
    largest = float(ml_dtypes.finfo(DTYPES[to]).max)  # masks stay finite
    numbers = numpy_helper.to_array(tensor).clip(-largest, largest).astype(DTYPES[to])
    return helper.make_tensor(tensor.name, to, numbers.shape, numbers.tobytes(), raw=True)


def _convert(node: Any, attribute: AttributeProto, to: int) -> None:
    if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
        attribute.i = to
    if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
        attribute.t.CopyFrom(_half_tensor(attribute.t, to))


def _between_casts(node: Any, to: int, kept: set[str]) -> list[Any]:
    """x -> Cast -> Q; DQ -> Cast, as Q and DQ of opset 17 know no halves."""
    if node.op_type == "QuantizeLinear":
        wide = f"{node.output[0]}_wide"
        cast = helper.make_node(
            "Cast", [node.input[0]], [wide], f"{wide}_Cast", to=TensorProto.FLOAT
        )
        node.input[0] = wide
        return [cast, node]
    if node.op_type == "DequantizeLinear":
        half, wide = node.output[0], f"{node.output[0]}_wide"
        node.output[0] = wide
        return [node, helper.make_node("Cast", [wide], [half], f"{half}_Cast", to=to)]
    return [node]
