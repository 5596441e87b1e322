"""Inputs and outputs of a session: what they take and give, in the model's own words."""

from __future__ import annotations

from dataclasses import dataclass

from planck.by_value import ValuePlans
from planck.ort._model import ModelFacts
from planck.ort._types import dtype_of_name, type_string, type_string_of_number
from planck.outline import TensorType
from planck.plan import Plan, Port

Dims = list["int | str | None"]


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output. shape: extents, names of symbolic ones, None for those without a name.

    >>> print(NodeArg("x", "tensor(float)", ["N", 3]))
    NodeArg(name='x', type='tensor(float)', shape=['N', 3])
    """

    name: str
    type: str
    shape: Dims


def node_args(plan: Plan | ValuePlans, facts: ModelFacts) -> tuple[list[NodeArg], list[NodeArg]]:
    """The inputs that have no initializer, and the outputs, both in the model's order."""
    names: dict[str, str | None] = {}
    for port in plan.inputs:
        for dim, declared in zip(port.shape, _declared(facts.inputs, port), strict=True):
            if isinstance(dim, str):
                names[dim] = declared if isinstance(declared, str) else None
    inputs = [_node_arg(port, _declared(facts.inputs, port), names) for port in plan.inputs]
    outputs = [_node_arg(port, _declared(facts.outputs, port), names) for port in plan.outputs]
    return inputs, outputs


def overridable(facts: ModelFacts) -> list[NodeArg]:
    """The inputs that have an initializer, which IR 4 and later mean as defaults."""
    if facts.ir_version < 4:
        return []
    return [
        NodeArg(name, type_string_of_number(declared.element_type), list(declared.dims or ()))
        for name, declared in facts.inputs.items()
        if name in facts.initializers
    ]


def _declared(all_declared: dict[str, TensorType], port: Port) -> Dims:
    """The dims of the file. A plan file has no others than its own, whose "?" means no name."""
    declared = all_declared.get(port.name)
    if declared is None and not all_declared:
        return [None if isinstance(dim, str) and dim.startswith("?") else dim for dim in port.shape]
    if declared is None or declared.dims is None or len(declared.dims) != len(port.shape):
        return [None] * len(port.shape)
    return list(declared.dims)


def _node_arg(port: Port, declared: Dims, names: dict[str, str | None]) -> NodeArg:
    """Extents that are known win over what the file says, and that over names of inputs' axes."""
    dims: Dims = []
    for dim, given in zip(port.shape, declared, strict=True):
        dims.append(dim if isinstance(dim, int) else given if given is not None else names.get(dim))
    return NodeArg(port.name, type_string(dtype_of_name(port.dtype)), dims)
