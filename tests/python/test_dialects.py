"""Quantised ONNX of every producer: the same numbers, and one form after the passes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pytest

import planck
from planck import _core

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("ml_dtypes")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from tests.python.dialects import Array, Fixture, fixtures  # noqa: E402

FIXTURES = {f.name: f for f in fixtures()}
PRODUCTS = ("planck.Linear", "planck.Convolution", "ConvTranspose", "MatMul", "Conv", "Gemm")
# What stays float, and why; all products of the other fixtures can take integers.
REASONS = {
    "modelopt_weights": ["no integer kernel computes ConvTranspose"],
    "tf2onnx": ["zero point 127"],
    "dynamic_conv": ["its padding reads a zero point that the run alone knows"],
    "half_scales": ["f16, which has no kernels yet"],
    "modelopt_half": ["f16, which has no kernels yet"],
    "sixteen_bits": ["of s16"],
    "four_bits_int4": ["of s4"],
    "four_bits_uint4": ["of u4"],
    "float8_e4m3fn": ["of f8e4m3"],
    "float8_e5m2": ["of f8e5m2"],
    "tensorrt_custom": ["of f8e4m3"],
}
# What an op of the integer dialects must have become.
GONE = ("QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger")


@dataclass
class GraphText:
    """The text form: which line makes a value, and the ops with their operands."""

    text: str
    made: dict[str, str] = field(default_factory=dict)
    ops: list[tuple[str, list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for line in self.text.splitlines():
            found = re.match(r"\s*(%[^=]*) = (\S+?)(\(|\s)(.*)", line)
            if not found:
                continue
            names, op, _, rest = found.groups()
            for name in names.split(", "):
                self.made[name] = f"{op} {rest}"
            if op != "const":
                self.ops.append((op, rest.split(")")[0].split(", ")))

    def count(self, op: str) -> int:
        return sum(name == op for name, _ in self.ops)

    def canonical(self) -> int:
        """Products that read a DequantizeLinear and a constant on a grid of bytes."""
        return sum(
            op in ("planck.Linear", "planck.Convolution")
            and self.made.get(operands[0], "").startswith("DequantizeLinear")
            and re.search(r" quant\([us]8,", self.made.get(operands[1], "")) is not None
            for op, operands in self.ops
        )

    def products(self) -> int:
        return sum(op in PRODUCTS for op, _ in self.ops)


@pytest.fixture(params=FIXTURES)
def dialect(request: pytest.FixtureRequest) -> Fixture:
    return FIXTURES[request.param]


def expected(dialect: Fixture) -> Array:
    """By ONNX Runtime without optimizations, or by what the fixture says."""
    if dialect.oracle is not None:
        return dialect.oracle(dialect.x)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            dialect.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception:  # an opset or a type that it does not have
        return np.asarray(ReferenceEvaluator(dialect.model).run(None, {"x": dialect.x})[0])
    return np.asarray(session.run(None, {"x": dialect.x})[0])


def graph_of(dialect: Fixture, tmp_path) -> GraphText:
    path = tmp_path / "m.onnx"
    path.write_bytes(dialect.model.SerializeToString())
    return GraphText(_core.graph_text(str(path), {}))


def test_numbers_are_those_of_the_model(dialect: Fixture) -> None:
    want = expected(dialect).astype(np.float64)
    got = planck.build(dialect.model.SerializeToString()).run({"x": dialect.x})["y"]
    assert got.shape == want.shape
    gap = np.abs(got.astype(np.float64) - want)
    half = got.dtype == np.float16
    close = gap <= (4e-3 if half else 2e-5) * max(np.abs(want).max(), 1e-3)
    # Roundings may flip where a product is summed in another order.
    assert gap[~close].max(initial=0.0) <= dialect.step
    assert close.mean() >= 0.9


def test_products_read_integers_and_grids(dialect: Fixture, tmp_path) -> None:
    graph = graph_of(dialect, tmp_path)
    assert (graph.canonical(), graph.products()) == (
        dialect.products,
        dialect.products + dialect.floats,
    ), graph.text
    for op in GONE:
        assert graph.count(op) == 0, graph.text


def test_what_stays_float_has_a_reason(dialect: Fixture) -> None:
    plan = planck.build(dialect.model.SerializeToString())
    reasons = [reason for name, _, reason in plan.report["refusals"] if name == "quantized"]
    for part in REASONS.get(dialect.name, ()):
        assert any(part in reason for reason in reasons), reasons
    if dialect.name not in REASONS:  # pairs in front of other ops may be left
        known = ("quantised for ", "depthwise convolutions ")
        assert all(reason.startswith(known) for reason in reasons), reasons
