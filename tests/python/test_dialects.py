"""Quantised ONNX of every producer: the same numbers, and one form after the passes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pytest

import planck
import planck.models
from planck import _core

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("ml_dtypes")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from tests.python.dialects import Array, Builder, Fixture, fixtures  # noqa: E402

FIXTURES = {f.name: f for f in fixtures()}
PRODUCTS = ("planck.Linear", "planck.Convolution", "ConvTranspose", "MatMul", "Conv", "Gemm")
# What stays float, and why; all products of the other fixtures can take integers.
REASONS = {
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
            op in ("planck.Linear", "planck.Convolution", "ConvTranspose")
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


def test_products_run_on_integer_kernels(dialect: Fixture) -> None:
    plan = planck.build(dialect.model.SerializeToString())
    families = [step.family for step in plan.steps]
    integers = sum(family in ("qproduct", "qdepthwise") for family in families)
    # Where activations or weights are no bytes, products are of floats.
    assert integers >= dialect.products or dialect.name in REASONS, families
    if dialect.floats == 0 and dialect.name not in REASONS:
        allowed = ("qproduct", "qdepthwise", "copy")  # tiles of ConvTranspose are copied
        assert not [s for s in plan.steps if s.op in PRODUCTS and s.family not in allowed]
        assert not [s.op for s in plan.steps if s.kernel == "reference"]


def test_the_report_on_int8_finds_no_product_of_floats(dialect: Fixture) -> None:
    """What `planck lint` prints: conversions at the ends, and products that REASONS knows."""
    report = planck.int8_report(planck.build(dialect.model.SerializeToString()), {"x": dialect.x})
    rows = [row for row in report.rows if row.kind in ("float product", "reference")]
    if dialect.floats == 0 and dialect.name not in REASONS:
        assert rows == []
        assert report.steps["integer products"] >= dialect.products
    for row in rows:
        assert row.reason not in ("", "its input is not quantised") or dialect.products == 0, row


def test_what_stays_float_has_a_reason(dialect: Fixture) -> None:
    plan = planck.build(dialect.model.SerializeToString())
    reasons = [reason for name, _, reason in plan.report["refusals"] if name == "quantized"]
    for part in REASONS.get(dialect.name, ()):
        assert any(part in reason for reason in reasons), reasons
    if dialect.name not in REASONS:  # pairs in front of other ops may be left
        known = ("quantised for ", "depthwise convolutions ")
        assert all(reason.startswith(known) for reason in reasons), reasons


def test_four_bits_in_a_typed_field() -> None:
    b = Builder()
    numbers = [-8, 7, -1, 3, 0]
    b.weights.append(onnx.helper.make_tensor("q", onnx.TensorProto.INT4, [5], numbers))
    b.weights.append(onnx.helper.make_tensor("f", onnx.TensorProto.FLOAT8E5M2, [5], numbers))
    half = b.constant(np.array(0.5, np.float32))
    y = b.node("Add", b.node("DequantizeLinear", "q", half), b.node("DequantizeLinear", "f", half))
    model = b.model(b.node("Add", "x", y), (5,), opset=21)
    x = np.arange(5, dtype=np.float32)
    got = planck.build(model.SerializeToString()).run({"x": x})["y"]
    np.testing.assert_array_equal(got, x + np.array(numbers, np.float32))


def test_compare_sees_the_tensors_of_the_model() -> None:
    dialect = FIXTURES["operators_uint8"]
    plan = planck.build(dialect.model.SerializeToString())
    report = planck.compare(plan, "double", {"x": dialect.x})
    assert {"y", "v1_0"} <= {row.name for row in report.rows}


# --- what ONNX Runtime's own quantizers write --------------------------------------------------


class Once:
    """One batch to calibrate with."""

    def __init__(self, feeds: dict[str, Array]) -> None:
        self.left = [feeds]

    def get_next(self) -> dict[str, Array] | None:
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
@pytest.mark.parametrize(("name", "shape"), [("resnet50", (1, 64, 64)), ("bert_encoder", (2, 16))])
def test_what_a_quantizer_writes(name, shape, form, model_path, tmp_path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, path = str(model_path(name)), str(tmp_path / "q.onnx")
    feeds = planck.models.feeds(name, shape, seed=1, size="mini")
    weights = quantization.QuantType.QInt8
    if form == "dynamic":
        quantization.quantize_dynamic(source, path, weight_type=weights)
    else:  # weights of seven bits: nothing saturates in its kernels
        form = quantization.QuantFormat[form]
        quantization.quantize_static(
            source, path, Once(feeds), form, weight_type=weights, reduce_range=True
        )
    graph = GraphText(_core.graph_text(path, {}))
    linear = graph.count("planck.Linear") + graph.count("planck.Convolution")
    assert graph.canonical() == linear > 0, graph.text
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    want = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    got = planck.build(path).run(feeds)
    for key, value in want.items():
        rms = np.sqrt(np.mean(np.square(value)))
        assert np.sqrt(np.mean(np.square(got[key] - value))) <= 0.05 * rms  # some roundings flip
