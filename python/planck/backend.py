"""The backend interface of ONNX: its conformance suite and scripts that take any backend run on it.

>>> import planck.backend
>>> planck.backend.supports_device("CPU"), planck.backend.supports_device("TPU")
(True, False)

The package onnx is needed only for `run_node`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planck import _core
from planck.arguments import model_of
from planck.build import build
from planck.by_value import ValuePlans
from planck.plan import Plan

__all__ = [
    "PlanckBackend",
    "PlanckRep",
    "is_compatible",
    "prepare",
    "run",
    "run_model",
    "run_node",
    "supports_device",
]

Array = NDArray[Any]

# What `prepare` hands on to `planck.build`, and what the suite passes that changes nothing here.
_OPTIONS = ("threads", "denormals", "fallback", "precision", "limits", "external_data_dir")
_IGNORED = ("rtol", "atol")


class PlanckRep:
    """A prepared model."""

    def __init__(self, plan: Plan | ValuePlans) -> None:
        """Wraps what `PlanckBackend.prepare` built.

        plan: ValuePlans where values of inputs decide shapes, so that plans are built by `run`.
        """
        self.plan = plan

    def run(self, inputs: Any, **_: Any) -> tuple[Array, ...]:
        """Runs the model and returns its outputs in order.

        inputs: arrays in the order of the graph's inputs, less those with an initializer; or a
        dict by name; or one array. Scalars count as arrays, None means that an input is not given.
        Errors: FeedError, RunError (see `planck.Plan.run`).
        """
        results = self.plan.run(self._feeds(inputs))
        return tuple(results[port.name] for port in self.plan.outputs)

    def _feeds(self, inputs: Any) -> dict[str, Array]:
        names = [port.name for port in self.plan.inputs]
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        elif isinstance(inputs, (list, tuple)):
            if len(inputs) > len(names):
                raise _core.FeedError(f"the model takes {len(names)} inputs, got {len(inputs)}")
            given = dict(zip(names, inputs, strict=False))
        else:
            given = {name: inputs for name in names[:1]}
        return {name: _array(name, value) for name, value in given.items() if value is not None}


def _array(name: str, value: Any) -> Array:
    if isinstance(value, (list, tuple)):
        raise _core.UnsupportedError(f"the input {name!r} is a sequence, which is not supported")
    return np.asarray(value)


class PlanckBackend:
    """Has the methods of `onnx.backend.base.Backend`, without importing onnx."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> PlanckRep:
        """Builds a model: a ModelProto, the bytes of one, or the path of a file.

        device: "CPU" (or "CPU:0"). options: threads, denormals, fallback, precision,
        limits and external_data_dir, as for `planck.build`; rtol and atol are ignored.
        Errors: those of `planck.build`; UsageError for any other option.
        """
        for name in options:
            if name not in _OPTIONS + _IGNORED:
                allowed = ", ".join(_OPTIONS + _IGNORED)
                raise _core.UsageError(f"there is no option {name!r}; the options are {allowed}")
        kept = {name: value for name, value in options.items() if name in _OPTIONS}
        kind, _, index = device.partition(":")
        if index not in ("", "0"):
            raise _core.DeviceError(f"there is no device {device!r}")
        given, target = model_of(_source(model)), kind.lower()
        try:
            return PlanckRep(build(given, device=target, **kept))
        except _core.UnsupportedError as refusal:

            def with_values(values: dict[str, Array]) -> Plan:
                return build(given, device=target, initializers=values, **kept)

            return PlanckRep(ValuePlans(given, with_values, refusal))

    @classmethod
    def run_model(
        cls, model: Any, inputs: Any, device: str = "CPU", **options: Any
    ) -> tuple[Array, ...]:
        """Prepares a model and runs it once; arguments and errors of both."""
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: Any,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        *,
        opset_version: int | None = None,
        **options: Any,
    ) -> tuple[Array, ...]:
        """Runs one NodeProto on arrays, those of its inputs that are not absent.

        opset_version: None takes the newest of the installed onnx. outputs_info is not needed.
        Errors: as for `run_model`.
        """
        names = [name for name in node.input if name]
        feeds = dict(inputs) if isinstance(inputs, Mapping) else _by_name(names, inputs)
        model = _model_of(node, feeds, opset_version)
        return cls.run_model(model, feeds, device, **options)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether "CPU", "CUDA" or "CUDA:1" can be prepared for."""
        return device in ("CPU", "CPU:0")

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **options: Any) -> bool:
        """Whether `prepare` would succeed; it is tried."""
        try:
            cls.prepare(model, device, **options)
        except _core.Error:
            return False
        return True


def _source(model: Any) -> str | os.PathLike[str] | bytes:
    if isinstance(model, (str, bytes, os.PathLike)):
        return model
    if hasattr(model, "SerializeToString"):
        data: bytes = model.SerializeToString()
        return data
    raise _core.UsageError(f"a model is a ModelProto, bytes or a path, not {type(model).__name__}")


def _by_name(names: list[str], inputs: Any) -> dict[str, Array]:
    values = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    if len(values) != len(names):
        raise _core.FeedError(f"the node has {len(names)} inputs, got {len(values)}")
    return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


def _model_of(node: Any, feeds: Mapping[str, Array], opset: int | None) -> bytes:
    """A model of this node, with fixed shapes."""
    from onnx import TensorProto, defs, helper

    def port(name: str, array: Array) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor_value_info(name, kind, array.shape)

    undefined = TensorProto.UNDEFINED
    outputs = [helper.make_tensor_value_info(n, undefined, None) for n in node.output if n]
    inputs = [port(name, np.asarray(array)) for name, array in feeds.items()]
    graph = helper.make_graph([node], "node", inputs, outputs)
    imports = [helper.make_opsetid("", opset or defs.onnx_opset_version())]
    if node.domain not in ("", "ai.onnx"):
        imports.append(helper.make_opsetid(node.domain, 1))
    data: bytes = helper.make_model(graph, opset_imports=imports).SerializeToString()
    return data


prepare = PlanckBackend.prepare
run = PlanckBackend.run_model
run_model = PlanckBackend.run_model
run_node = PlanckBackend.run_node
supports_device = PlanckBackend.supports_device
is_compatible = PlanckBackend.is_compatible
