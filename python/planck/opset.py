"""Raises the opset of an ONNX model to 13, the first whose DequantizeLinear has an axis.

Written out for the steps from 11, so that nodes keep their names and no node is added where the
meaning is the same; older models go through the package onnx up to 11. What changed: the
operators' change log of ONNX (https://onnx.ai/onnx/operators).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planck import _core

TARGET = 13
WRITTEN_FROM = 11


def entry_of(proto: Any) -> Any:
    """The model's entry for the opset of ONNX itself. Errors: GraphError."""
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return entry
    raise _core.GraphError("the model names no opset of ONNX")


def raised(proto: Any, opset: int) -> Any:
    """The onnx.ModelProto at `opset` (up to 13) or what it has above; may change `proto`.

    Errors: UnsupportedError where the package onnx cannot convert a model older than opset 11.
    """
    found = entry_of(proto).version
    if found >= opset:
        return proto
    if found < WRITTEN_FROM:
        proto = _converted(proto, min(opset, WRITTEN_FROM))
    if entry_of(proto).version < opset:
        ranks = _core.tensor_ranks(proto.SerializeToString())
        _raise_graph(proto.graph, ranks)
        for function in proto.functions:
            _raise_nodes(function.node, None, ranks)
        entry_of(proto).version = TARGET
    proto.ir_version = max(proto.ir_version, 4)  # initializers need not be inputs from here on
    return proto


def _converted(proto: Any, opset: int) -> Any:
    from onnx import version_converter

    try:
        return version_converter.convert_version(proto, opset)
    except Exception as error:
        found = entry_of(proto).version
        raise _core.UnsupportedError(
            f"the model has opset {found}, which the package onnx cannot convert to {opset}: "
            f"{error}"
        ) from error


def _raise_graph(graph: Any, ranks: dict[str, int]) -> None:
    _raise_nodes(graph.node, graph, ranks)


def _raise_nodes(nodes: Any, graph: Any, ranks: dict[str, int]) -> None:
    """Changes the nodes in place; constants become initializers, in functions Constant nodes."""
    changed: list[Any] = []
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _raise_graph(attribute.g, ranks)
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        changed.extend([node] if rule is None else rule(node, graph, ranks))
    copies = [_copied(node) for node in changed]
    del nodes[:]
    nodes.extend(copies)


def _copied(node: Any) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


def _taken(node: Any, name: str) -> Any:
    """The attribute, which the node loses; None if it has none."""
    for i, attribute in enumerate(node.attribute):
        if attribute.name == name:
            found = _copied(attribute)
            del node.attribute[i]
            return found
    return None


def _lists_to_input(attribute: str, place: int) -> Callable[[Any, Any, Any], list[Any]]:
    """Squeeze, Unsqueeze, ReduceSum, Split: an attribute has become an input."""

    def rule(node: Any, graph: Any, _: Any) -> list[Any]:
        import numpy as np
        from onnx import helper, numpy_helper

        found = _taken(node, attribute)
        if found is None:
            return [node]
        name = f"{node.output[0]}_{attribute}"
        values = numpy_helper.from_array(np.asarray(found.ints, np.int64), name)
        while len(node.input) < place:
            node.input.append("")
        node.input.append(name)
        if graph is None:
            return [helper.make_node("Constant", [], [name], value=values), node]
        graph.initializer.append(values)
        return [node]

    return rule


def _softmax(node: Any, graph: Any, ranks: dict[str, int]) -> list[Any]:
    """Softmax and its like once made a matrix out of all axes before and from `axis` on."""
    from onnx import helper

    found = _taken(node, "axis")
    axis = 1 if found is None else found.i
    x, y = node.input[0], node.output[0]
    rank = ranks.get(x, ranks.get(y))
    if axis == -1 or (rank is not None and axis in (rank - 1, -1)):
        node.attribute.append(helper.make_attribute("axis", -1))
        return [node]
    shape, flat, result = f"{y}_shape", f"{y}_flat", f"{y}_matrix"
    node.input[0], node.output[0] = flat, result
    node.attribute.append(helper.make_attribute("axis", -1))
    return [
        helper.make_node("Shape", [x], [shape], f"{node.name}_Shape"),
        helper.make_node("Flatten", [x], [flat], f"{node.name}_Flatten", axis=axis),
        node,
        helper.make_node("Reshape", [result, shape], [y], f"{node.name}_Reshape"),
    ]


def _dropout(node: Any, graph: Any, ranks: dict[str, int]) -> list[Any]:
    """The ratio is for training."""
    _taken(node, "ratio")
    return [node]


RULES: dict[str, Callable[[Any, Any, dict[str, int]], list[Any]]] = {
    "Dropout": _dropout,
    "Hardmax": _softmax,
    "LogSoftmax": _softmax,
    "ReduceSum": _lists_to_input("axes", 1),
    "Softmax": _softmax,
    "Split": _lists_to_input("split", 1),
    "Squeeze": _lists_to_input("axes", 1),
    "Unsqueeze": _lists_to_input("axes", 1),
}
