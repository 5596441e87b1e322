"""One case, the reference, and ONNX's own evaluator; kernel rows take the same road."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import planck
from planck import _core

Array = NDArray[Any]
Attrs = Mapping[str, Any]

OPSET = 21
# ONNX's evaluator computes in the tensors' own type, ours in double: what separates them is float
# arithmetic, seen against the largest element. Everything else must be equal.
RELATIVE = {"float16": 4e-3, "float32": 1e-5, "float64": 1e-11}


def normal(*shape: int, seed: int = 7) -> Array:
    """Standard normal values of this shape, the same on every run."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    """A list of int64, as axes and shapes are."""
    return np.array(values, np.int64)


def scalar(value: float, dtype: Any = np.int64) -> Array:
    return np.array(value, dtype)


@dataclass(frozen=True)
class Case:
    """One problem: attributes, inputs (None: absent), and the expected error if it must fail.

    `not_onnx` says why ONNX's evaluator is not asked, where it has the op but cannot judge.
    """

    name: str
    op: str
    inputs: list[Array | None]
    attrs: Attrs = field(default_factory=dict)
    fails: str = ""
    outputs: int = 1
    not_onnx: str = ""
    opset: int = OPSET


def run(case: Case, row: str) -> list[Array]:
    return _core.run_op(case.op, json.dumps(case.attrs), case.inputs, case.outputs, row)


def rows_of(case: Case) -> list[tuple[str, str]]:
    """The reference and every kernel row for the case, each with its refusal ('': it runs)."""
    if case.fails:
        return [("reference", "")]
    try:
        rows = _core.op_rows(case.op, json.dumps(case.attrs), case.inputs, case.outputs)
    except planck.UnsupportedError as error:
        assert "depends on data" in str(error)  # no plan can hold it yet
        rows = []
    merged: dict[str, str] = {}  # several steps may have the same rows: a row runs them all or none
    for name, why in rows:
        merged[name] = merged.get(name) or why
    return [("reference", ""), *merged.items()]


def onnx_attributes(case: Case) -> dict[str, Any]:
    """ONNX keeps the fill of ConstantOfShape in a tensor, our attributes hold no tensors."""
    attrs = dict(case.attrs)
    if case.op == "ConstantOfShape":
        kind = helper.tensor_dtype_to_np_dtype(int(attrs.pop("dtype", TensorProto.FLOAT)))
        attrs["value"] = numpy_helper.from_array(np.array([attrs.pop("value", 0)], kind))
    return attrs


def run_onnx(case: Case) -> list[Array]:
    """The case as a model of one node, through onnx.reference."""
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(case.inputs)]
    results = [f"y{i}" for i in range(case.outputs)]
    feeds = {name: x for name, x in zip(names, case.inputs, strict=True) if x is not None}
    node = helper.make_node(case.op, names, results, **onnx_attributes(case))
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in results]
    graph = helper.make_graph([node], case.name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)])
    return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, feeds)]


def assert_close(actual: Array, expected: Array) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    relative = RELATIVE.get(actual.dtype.name)
    if relative is None:
        np.testing.assert_array_equal(actual, expected)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    largest = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=relative * largest)


def check(case: Case, row: str) -> None:
    """The row fails as it must, or agrees with ONNX and the reference."""
    if case.fails:
        with pytest.raises(planck.Error, match=case.fails):
            run(case, row)
        return
    actual = run(case, row)
    assert len(actual) == case.outputs
    if row != "reference":
        expected = run(case, "reference")
    elif case.op.startswith("planck.") or case.not_onnx:
        return  # the unfused formula is the judge: tests/cpp/ops_fused_test.cpp
    else:
        expected = run_onnx(case)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs)
