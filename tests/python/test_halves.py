"""Graphs in float16 and bfloat16: computed in fp32 by kernels, rounded where they begin and end."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.version_converter
import pytest
from onnx import TensorProto, helper, numpy_helper

import planck
import planck.models

ml_dtypes = pytest.importorskip("ml_dtypes")

from tests.python.halves import DTYPES, in_half  # noqa: E402

HALF = TensorProto.FLOAT16
BERT = ("bert_encoder", (2, 5))


def by_reference(plan: planck.Plan) -> list[str]:
    return [step.op for step in plan.steps if step.kernel == "reference"]


def products(plan: planck.Plan) -> dict[str, int]:
    """How many steps of each family multiply."""
    found = [s.family for s in plan.steps if s.family in ("linear", "qproduct", "attention")]
    return {family: found.count(family) for family in sorted(set(found))}


def bert(model_path, **options) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    name, shape = BERT
    feeds = planck.models.feeds(name, shape, seed=1, size="mini")
    return onnx.load(model_path(name, **options)), feeds


def halved(feeds: dict[str, np.ndarray], dtype: np.dtype) -> dict[str, np.ndarray]:
    return {k: v.astype(dtype) if v.dtype == np.float32 else v for k, v in feeds.items()}


def close(got: np.ndarray, want: np.ndarray, part: float) -> None:
    gap = np.abs(got.astype(np.float64) - want.astype(np.float64)).max()
    assert gap <= part * np.abs(want.astype(np.float64)).max()


@pytest.mark.parametrize(("to", "part"), [(HALF, 4e-3), (TensorProto.BFLOAT16, 4e-2)])
def test_bert_in_half_takes_the_steps_of_bert(model_path, to: int, part: float) -> None:
    model, feeds = bert(model_path)
    half = in_half(model, to)
    plan, wide = (planck.build(m.SerializeToString()) for m in (half, model))
    assert by_reference(plan) == []
    assert products(plan) == products(wide)
    ops = [dict(p.report["ops"]) for p in (plan, wide)]
    for counted in ops:
        counted.pop("Cast", None)  # where the graph begins and ends
    assert ops[0] == ops[1]
    got, want = plan.run(halved(feeds, DTYPES[to])), wide.run(feeds)
    for name, value in want.items():
        assert got[name].dtype == (DTYPES[to] if value.dtype == np.float32 else value.dtype)
        close(got[name], value, part)


@pytest.mark.parametrize("scales", [True, False])
def test_bert_with_quantizers_in_half_takes_integer_products(model_path, scales: bool) -> None:
    """Scales of float16 as opset 19 has them, or of float32 between Casts."""
    model, feeds = bert(model_path)
    if scales:
        model = onnx.version_converter.convert_version(model, 19)
    source = model.SerializeToString()
    calibrated = planck.calibrate(source, feeds).solve()
    quantised = planck.quantize(source, calibrated)
    half = in_half(quantised, scales=scales)
    plan, wide = (planck.build(m.SerializeToString()) for m in (half, quantised))
    assert by_reference(plan) == []
    assert products(plan) == products(wide)
    assert products(plan)["qproduct"] > 0
    refusals = [[r for r in p.report["refusals"] if r[0] == "quantized"] for p in (plan, wide)]
    assert refusals[0] == refusals[1]
    report = planck.int8_report(plan, halved(feeds, np.dtype(np.float16)))
    assert {row.kind for row in report.rows} == {
        row.kind for row in planck.int8_report(wide, feeds).rows
    }
    got, want = plan.run(halved(feeds, np.dtype(np.float16))), wide.run(feeds)
    floats = planck.build(in_half(model).SerializeToString()).run(
        halved(feeds, np.dtype(np.float16))
    )
    for name, exact in planck.build(source).run(feeds).items():
        lost, *costs = (
            np.square(y[name].astype(np.float64) - exact).mean() for y in (got, want, floats)
        )
        assert lost <= 1.5 * sum(costs)  # no more than int8 and half precision, each alone


def chain(dtype: int, *, output: int | None = None) -> tuple[bytes, dict[str, np.ndarray]]:
    """x -> MatMul -> Add -> Relu -> MatMul, in half throughout; weights by name."""
    rng = np.random.default_rng(7)
    weights = {
        "w": rng.standard_normal((24, 32)) / 5,
        "b": rng.standard_normal(32),
        "v": rng.standard_normal((32, 8)) / 6,
    }
    stored = {name: w.astype(np.float32).astype(DTYPES[dtype]) for name, w in weights.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], "first"),
        helper.make_node("Add", ["xw", "b"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["h"], "relu"),
        helper.make_node("MatMul", ["h", "v"], ["y"], "second"),
    ]
    tensors = [
        helper.make_tensor(name, dtype, w.shape, w.tobytes(), raw=True)
        for name, w in stored.items()
    ]
    outputs = [helper.make_tensor_value_info("y", dtype, None)]
    if output is not None:
        outputs.append(helper.make_tensor_value_info("h", dtype, None))
    graph = helper.make_graph(
        nodes, "half", [helper.make_tensor_value_info("x", dtype, ["N", 24])], outputs, tensors
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), stored


@pytest.mark.parametrize("dtype", [HALF, TensorProto.BFLOAT16])
def test_only_the_ends_are_rounded(dtype: int) -> None:
    """The numbers are those of the same model in fp32, rounded once at its outputs."""
    half, stored = chain(dtype, output=dtype)
    wide = onnx.load_from_string(half)
    for port in (*wide.graph.input, *wide.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT
    del wide.graph.initializer[:]
    wide.graph.initializer.extend(
        numpy_helper.from_array(w.astype(np.float32), name) for name, w in stored.items()
    )
    x = np.random.default_rng(8).standard_normal((5, 24)).astype(DTYPES[dtype])
    got = planck.build(half).run({"x": x})
    want = planck.build(wide.SerializeToString()).run({"x": x.astype(np.float32)})
    for name in ("y", "h"):
        np.testing.assert_array_equal(got[name], want[name].astype(DTYPES[dtype]))


def test_the_plan_says_what_was_asked_and_what_is_given() -> None:
    model, _ = chain(HALF)
    plan = planck.build(model)
    assert by_reference(plan) == []
    assert [row[1] for row in plan.report["passes"] if row[0] == "widen_half"] == [4]
    assert "precision asked fp16, given fp32" in plan.explain()
    left = planck.build(model, disabled_passes=["widen_half"])
    assert set(by_reference(left)) == {"planck.Linear"}


def test_a_comparison_holds_what_the_model_has_in_half() -> None:
    model, _ = chain(HALF)
    x = np.random.default_rng(9).standard_normal((5, 24)).astype(np.float16)
    report = planck.compare(planck.build(model), "double", {"x": x})
    rows = {row.name: row for row in report.rows}
    assert rows["h"].held and rows["y"].held
    assert rows["h"].cumulative.sqnr_db > 60


def model_of(nodes: list[onnx.NodeProto], kind: int, out: int, tensors=()) -> bytes:
    graph = helper.make_graph(
        nodes,
        "casts",
        [helper.make_tensor_value_info("x", kind, ["N", 8])],
        [helper.make_tensor_value_info("y", out, None)],
        list(tensors),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def test_a_rounding_that_the_model_spells_stays() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], "narrow", to=HALF),
        helper.make_node("Reshape", ["half", "shape"], ["turned"], "view"),
        helper.make_node("Cast", ["turned"], ["back"], "widen", to=TensorProto.FLOAT),
        helper.make_node("Add", ["back", "back"], ["y"], "add"),
    ]
    shape = numpy_helper.from_array(np.array([0, 2, 4]), "shape")
    model = model_of(nodes, TensorProto.FLOAT, TensorProto.FLOAT, [shape])
    x = np.random.default_rng(3).standard_normal((3, 8)).astype(np.float32)
    got = planck.build(model).run({"x": x})["y"]
    np.testing.assert_array_equal(
        got, (2 * x.astype(np.float16).astype(np.float32)).reshape(3, 2, 4)
    )


def test_overflow_of_half_is_none_of_fp32() -> None:
    """(x * 300)^2 / 90000 leaves float16 on the way, not where it ends."""
    nodes = [
        helper.make_node("Mul", ["x", "c"], ["m"], "mul"),
        helper.make_node("Mul", ["m", "m"], ["s"], "square"),
        helper.make_node("Div", ["s", "d"], ["y"], "div"),
    ]
    constants = [
        numpy_helper.from_array(np.float16(v), n) for n, v in (("c", 300.0), ("d", 60000.0))
    ]
    plan = planck.build(model_of(nodes, HALF, HALF, constants))
    x = np.full((1, 8), 2.0, np.float16)
    np.testing.assert_array_equal(plan.run({"x": x})["y"], np.full((1, 8), 6.0, np.float16))


def test_moves_of_halves_alone_stay_halves() -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["y"], "turn", perm=[1, 0])]
    plan = planck.build(model_of(nodes, HALF, HALF))
    assert [step.op for step in plan.steps] == ["Transpose"] or by_reference(plan) == []
    x = np.random.default_rng(4).standard_normal((3, 8)).astype(np.float16)
    np.testing.assert_array_equal(plan.run({"x": x})["y"], x.T)


def test_a_saved_plan_is_the_same(tmp_path) -> None:
    model, _ = chain(HALF)
    plan = planck.build(model)
    plan.save(tmp_path / "m.plan")
    x = np.random.default_rng(5).standard_normal((5, 24)).astype(np.float16)
    loaded = planck.load(tmp_path / "m.plan")
    np.testing.assert_array_equal(loaded.run({"x": x})["y"], plan.run({"x": x})["y"])


@pytest.mark.parametrize("to", [HALF, TensorProto.BFLOAT16])
@pytest.mark.parametrize("recipe", ["auto", "dynamic"])
def test_a_graph_in_half_is_quantised_as_one_of_floats(model_path, recipe, to: int) -> None:
    model, feeds = bert(model_path)
    half = in_half(model, to).SerializeToString()
    wide = model.SerializeToString()
    dynamic = recipe == "dynamic"
    scales = [None if dynamic else planck.calibrate(m, feeds).solve() for m in (half, wide)]
    placed, want = (
        planck.placement(m, s, recipe=recipe) for m, s in zip((half, wide), scales, strict=True)
    )
    assert placed.kept == want.kept
    for ours, theirs in ((placed.weights, want.weights), (placed.activations, want.activations)):
        assert [t.name for t in ours] == [t.name for t in theirs]
    quantised = planck.quantize(half, scales[0], recipe=recipe)
    onnx.checker.check_model(quantised)
    plan = planck.build(quantised.SerializeToString())
    assert by_reference(plan) == []
    assert products(plan) == products(
        planck.build(planck.quantize(wide, scales[1], recipe=recipe).SerializeToString())
    )
    got = plan.run(feeds)
    assert {y.dtype for y in got.values()} == {DTYPES[to]}
    if dynamic:
        return
    built = planck.build(half, precision="int8", scales=scales[0]).run(feeds)
    for name, y in got.items():  # the file and the build are one plan
        np.testing.assert_array_equal(y, built[name])


def test_a_constant_in_half_behind_a_view_and_a_cast_is_a_weight() -> None:
    rng = np.random.default_rng(11)
    stored = rng.standard_normal((32, 24)).astype(np.float16)
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("Cast", ["turned"], ["wide"], "widen", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "wide"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], "second"),
    ]
    tensors = [
        numpy_helper.from_array(stored, "w"),
        numpy_helper.from_array(rng.standard_normal((32, 8)).astype(np.float32), "v"),
    ]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 24])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8])]
    views = [helper.make_tensor_value_info("turned", HALF, [24, 32])]
    graph = helper.make_graph(nodes, "views", ports, outputs, tensors, value_info=views)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    x = {"x": rng.standard_normal((64, 24)).astype(np.float32)}
    scales = planck.calibrate(model, x).solve()
    placed = planck.placement(model, scales)
    assert [w.name for w in placed.weights] == ["w"]
    plan = planck.build(model, precision="int8", scales=scales)
    assert products(plan) == {"linear": 1, "qproduct": 1}  # the last one gives the output
    quantised = planck.quantize(model, scales)
    onnx.checker.check_model(quantised, full_check=True)
    again = planck.build(quantised.SerializeToString())
    np.testing.assert_array_equal(again.run(x)["y"], plan.run(x)["y"])


def mixed() -> tuple[bytes, dict[str, np.ndarray]]:
    """Products in half precision between Casts, all else in fp32, as automatic casting has it."""
    rng = np.random.default_rng(2)

    def node(op: str, inputs: str, output: str, name: str, **attributes: int) -> onnx.NodeProto:
        return helper.make_node(op, inputs.split(), [output], name, **attributes)

    wide, half = {"to": TensorProto.FLOAT}, {"to": HALF}
    nodes = [
        node("Add", "x b", "a", "add"),
        node("Cast", "a", "a16", "narrow_a", **half),
        node("MatMul", "a16 w", "m16", "first"),
        node("Cast", "m16", "m", "widen_m", **wide),
        node("Relu", "m", "r", "relu"),
        node("Cast", "r", "r16", "narrow_r", **half),
        node("MatMul", "r16 v", "n16", "second"),
        node("Cast", "n16", "n", "widen_n", **wide),
        node("MatMul", "m u", "k", "third"),
        node("Add", "n k", "s", "sum"),
        node("Softmax", "s", "t", "softmax"),
        node("MatMul", "t z", "y", "last"),
    ]
    shapes = {"b": (24,), "w": (24, 32), "v": (32, 16), "u": (32, 16), "z": (16, 4)}
    tensors = [
        numpy_helper.from_array(
            rng.standard_normal(shape).astype(np.float16 if name in "wv" else np.float32), name
        )
        for name, shape in shapes.items()
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])
        for name, width in (("x", 24), ("y", 4))
    ]
    graph = helper.make_graph(nodes, "mixed", ports[:1], ports[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), {"x": rng.standard_normal((64, 24)).astype(np.float32)}


def test_a_graph_of_two_precisions_is_quantised() -> None:
    model, feeds = mixed()
    scales = planck.calibrate(model, feeds).solve()
    placed = planck.placement(model, scales)
    assert [w.name for w in placed.weights] == ["w", "v", "u"]
    assert [k.node for k in placed.kept] == ["last"]
    plan = planck.build(model, precision="int8", scales=scales)
    assert products(plan) == {"linear": 1, "qproduct": 3}
    quantised = planck.quantize(model, scales)
    onnx.checker.check_model(quantised, full_check=True)
    again = planck.build(quantised.SerializeToString())
    assert products(again) == products(plan)
    np.testing.assert_array_equal(again.run(feeds)["y"], plan.run(feeds)["y"])
    excluded = planck.placement(model, scales, exclude=["first"])
    assert [w.name for w in excluded.weights] == ["v", "u"]
