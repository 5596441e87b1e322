"""planck.quantize: valid files, the plan that scales give directly, smoothing and correction."""

from __future__ import annotations

import numpy as np
import pytest

import planck
import planck.models
from planck import Scales

onnx = pytest.importorskip("onnx")

# name, options, shape of the feeds; opsets 12, 17, 12 and 15
MODELS = [
    ("bert_encoder", {"size": "mini"}, (2, 5)),
    ("bert_encoder", {"size": "mini", "opset": 17}, (2, 5)),
    ("minilm", {"size": "mini"}, (2, 5)),
    ("resnet50", {"size": "mini"}, (1, 64, 64)),
    ("bert_classifier", {"size": "mini"}, (2, 5)),  # weights in half precision
]


def scales_of(path, feeds):
    """Symmetric grids of what the feeds give."""
    taps = planck.build(path).taps(feeds)
    floats = {name: value for name, value in taps.items() if value.dtype == np.float32}
    floats |= {name: value for name, value in feeds.items() if value.dtype == np.float32}
    return Scales.from_ranges({name: float(np.abs(v).max()) for name, v in floats.items()})


def kernels(plan):
    return [(step.op, step.family, step.kernel, step.asked, step.given) for step in plan.steps]


def sqnr(got, want):
    noise = np.square(got.astype(np.float64) - want).mean()
    return 10 * np.log10(np.square(want.astype(np.float64)).mean() / noise)


@pytest.mark.parametrize(("name", "options", "shape"), MODELS)
@pytest.mark.parametrize("weights", ["per_channel", "per_tensor"])
def test_both_ways_give_one_plan(name, options, shape, weights, model_path):
    path = model_path(name, **options)
    feeds = planck.models.feeds(name, shape, size="mini")
    scales = scales_of(path, feeds)
    model = planck.quantize(path, scales, weights=weights)
    onnx.checker.check_model(model)
    written = planck.build(model.SerializeToString(), precision="int8")
    direct = planck.build(path, precision="int8", scales=scales, placement={"weights": weights})
    assert kernels(written) == kernels(direct)
    ours, theirs = written._core.constants(), direct._core.constants()
    assert len(ours) == len(theirs)
    for (_, packed, bits), (_, other, same) in zip(ours, theirs, strict=True):
        assert packed == other
        assert np.array_equal(bits, same)
    one, two, want = written.run(feeds), direct.run(feeds), planck.build(path).run(feeds)
    for output in want:
        assert np.array_equal(one[output], two[output]), output
        assert sqnr(one[output], want[output]) > 15, output


def test_only_weights_that_are_left_stay(model_path):
    path = model_path("bert_encoder")
    feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
    model = planck.quantize(path, scales_of(path, feeds))
    float32 = {t.name for t in model.graph.initializer if t.data_type == 1}
    weights = {w.name for w in planck.placement(path, scales_of(path, feeds)).weights}
    assert weights and not weights & float32
    assert sum(t.data_type == 3 and len(t.dims) == 2 for t in model.graph.initializer) == 12
    nodes = [node.name for node in model.graph.node if node.op_type.endswith("QuantizeLinear")]
    assert len(set(nodes)) == len(nodes) and len(nodes) == 8
    assert all(node.endswith("_QuantizeLinear") for node in nodes)


@pytest.mark.parametrize("recipe", ["auto", "dynamic"])
def test_weights_in_half_precision_go_with_their_casts(recipe, model_path):
    path = model_path("bert_classifier")
    feeds = planck.models.feeds("bert_classifier", (2, 5), size="mini")
    scales = None if recipe == "dynamic" else scales_of(path, feeds)
    model = planck.quantize(path, scales, recipe=recipe)
    onnx.checker.check_model(model)
    weights = {w.name for w in planck.placement(path, scales, recipe=recipe).weights}
    names = {o for node in model.graph.node for o in node.output}
    assert len(weights) == 13 and not weights & names  # results of Casts, all gone
    left = [t for t in model.graph.initializer if t.data_type == 10 and len(t.dims) == 2]
    before = [t for t in onnx.load(path).graph.initializer if t.data_type == 10]
    assert len(left) == sum(len(t.dims) == 2 for t in before) - 13  # embeddings and the head
    got = planck.build(model.SerializeToString()).run(feeds)
    want = planck.build(path).run(feeds)
    assert all(sqnr(got[name], want[name]) > 20 for name in want)


def test_calibration_leaves_constants_in_half_precision_out(model_path):
    path = model_path("bert_classifier")
    feeds = planck.models.feeds("bert_classifier", (2, 5), size="mini")
    products = planck.calibrate(path, feeds)
    assert not [name for name in products.names if "Cast" in name]
    scales = planck.calibrate(path, feeds, tensors="all").solve()
    assert [name for name in scales if "Cast" in name]  # as activations, not as weights
    assert {w.dtype for w in planck.placement(path, scales).weights} == {"s8"}


def test_smoothing_and_correction_of_weights_in_half_precision(model_path):
    path = model_path("bert_classifier")
    feeds = planck.models.feeds("bert_classifier", (2, 5), size="mini")
    smoothed = planck.smooth(path, [feeds], alpha=0.5)
    onnx.checker.check_model(smoothed)
    new = [t for t in smoothed.graph.initializer if "Cast" in t.name and "smoothed" in t.name]
    assert new and {t.data_type for t in new} == {1}
    want = planck.build(path).run(feeds)
    got = planck.build(smoothed.SerializeToString()).run(feeds)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-3, atol=1e-4)
    quantised = planck.quantize(path, scales_of(path, feeds))
    corrected = planck.correct_bias(quantised, path, [feeds])
    onnx.checker.check_model(corrected)
    nodes = [node.op_type for node in quantised.graph.node]
    gone = nodes.count("Cast") - [n.op_type for n in corrected.graph.node].count("Cast")
    assert gone == 13 and len(corrected.graph.node) == len(nodes) - gone  # biases, no node more


def test_the_given_model_stays_as_it_is(model_path):
    path = model_path("bert_encoder")
    model = onnx.load(path)
    before = model.SerializeToString()
    names = planck.build(path).tensors
    planck.quantize(model, Scales.from_ranges(dict.fromkeys(names, 4.0)))
    assert model.SerializeToString() == before


def test_dynamic(model_path, reference, tmp_path):
    path = model_path("bert_encoder")
    feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
    model = planck.quantize(path, None, recipe="dynamic")
    onnx.checker.check_model(model)
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("DynamicQuantizeLinear") == 8 and ops.count("MatMulInteger") == 12
    onnx.save(model, tmp_path / "dynamic.onnx")
    got = planck.build(tmp_path / "dynamic.onnx").run(feeds)
    want = planck.build(path).run(feeds)
    peer = reference(tmp_path / "dynamic.onnx", feeds)
    for name in want:
        assert sqnr(got[name], want[name]) > 25
        assert sqnr(got[name], peer[name]) > 40
    with pytest.raises(planck.UsageError, match="takes no scales"):
        planck.quantize(path, Scales.from_ranges({"x": 1.0}), recipe="dynamic")
    with pytest.raises(planck.UsageError, match="needs scales"):
        planck.quantize(path, None)


def old_model(opset=11):
    """x [2,3,4]: Unsqueeze, Squeeze, Split, ReduceSum, Softmax over all axes from 1, a product."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    stream = np.random.default_rng(3)
    w = numpy_helper.from_array(stream.standard_normal((32, 16)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Unsqueeze", ["x"], ["u"], "unsqueeze", axes=[1]),
        helper.make_node("Squeeze", ["u"], ["s"], "squeeze", axes=[1]),
        helper.make_node("Softmax", ["s"], ["p"], "softmax"),
        helper.make_node("MatMul", ["p", "w"], ["y"], "product"),
        helper.make_node("Split", ["y"], ["a", "b"], "split", axis=2, split=[4, 12]),
        helper.make_node("ReduceSum", ["b"], ["t"], "sum", axes=[2], keepdims=1),
        helper.make_node("Mul", ["a", "t"], ["z"], "mul"),
    ]
    x = helper.make_tensor_value_info("x", 1, [2, 3, 32])
    z = helper.make_tensor_value_info("z", 1, [2, 3, 4])
    graph = helper.make_graph(nodes, "old", [x], [z], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)


@pytest.mark.parametrize("opset", [11, 12])
def test_old_opsets_become_13(opset):
    model = old_model(opset)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 32)).astype(np.float32)}
    want = planck.build(model.SerializeToString()).run(feeds)["z"]
    scales = Scales.from_ranges({"p": 0.1})
    new = planck.quantize(model, scales)
    onnx.checker.check_model(new)
    assert new.opset_import[0].version == 13 and model.opset_import[0].version == opset
    assert sqnr(planck.build(new.SerializeToString(), precision="int8").run(feeds)["z"], want) > 15
    per_tensor = planck.quantize(model, scales, weights="per_tensor")
    assert per_tensor.opset_import[0].version == opset


def test_wrong_arguments(model_path, tmp_path):
    scales = Scales.from_ranges({"x": 1.0})
    with pytest.raises(planck.UsageError, match="model is int"):
        planck.quantize(3, scales)
    with pytest.raises(planck.FileError):
        planck.quantize(tmp_path / "none.onnx", scales)
    with pytest.raises(planck.ParseError):
        planck.quantize(b"\xff\xff", scales)


# --- smoothing ---------------------------------------------------------------------------------


def with_outliers(shared, seed=4):
    """Layer normalisation with two loud channels, then two products; `shared`: it is also added."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    stream = np.random.default_rng(seed)
    gain = np.ones(32, np.float32)
    gain[[3, 17]] = 60
    arrays = {
        "gain": gain,
        "bias": stream.standard_normal(32).astype(np.float32),
        "w1": stream.standard_normal((32, 48)).astype(np.float32),
        "w2": stream.standard_normal((48, 32)).astype(np.float32),
    }
    arrays["w1"][[3, 17]] *= 0.05
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain", "bias"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["m"], "second"),
        helper.make_node("Mul", ["m", "n" if shared else "m"], ["y"], "last"),
    ]
    x = helper.make_tensor_value_info("x", 1, ["N", 32])
    y = helper.make_tensor_value_info("y", 1, ["N", 32])
    weights = [numpy_helper.from_array(v, k) for k, v in arrays.items()]
    graph = helper.make_graph(nodes, "outliers", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def samples(count, seed=0):
    stream = np.random.default_rng(seed)
    return [{"x": stream.standard_normal((16, 32)).astype(np.float32)} for _ in range(count)]


def error_of(model, feeds):
    """SQNR in dB of the second product in int8 by ranges of the same feeds."""
    data = model.SerializeToString()
    want = planck.build(data).taps(feeds)
    ranges = {n: float(np.abs(v).max()) for n, v in (want | feeds).items()}
    plan = planck.build(data, precision="int8", scales=Scales.from_ranges(ranges))
    return sqnr(plan.taps(feeds, ["m"])["m"], want["m"])


@pytest.mark.parametrize("shared", [False, True])
def test_smoothing_moves_outliers_into_weights(shared):
    model = with_outliers(shared)
    smoothed = planck.smooth(model, samples(3))
    onnx.checker.check_model(smoothed)
    (feeds,) = samples(1, seed=9)
    want = planck.build(model.SerializeToString()).run(feeds)["y"]
    got = planck.build(smoothed.SerializeToString()).run(feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4 * np.abs(want).max())
    # Folded into the normalisation where nobody else reads it, else a factor before the product.
    added = [node.op_type for node in smoothed.graph.node][: 2 + shared]
    assert added == ["LayerNormalization", *["Mul"] * shared, "MatMul"]
    assert error_of(smoothed, feeds) > error_of(model, feeds) + 6


def test_smoothing_takes_alpha_and_leaves_out():
    model = with_outliers(True)
    none = planck.smooth(model, samples(1), exclude=["first"])
    assert none.graph == model.graph
    half = planck.smooth(with_outliers(False), samples(1), alpha=0.5)
    assert half.graph.node[0].input[1] == "gain_smoothed"
    with pytest.raises(planck.UsageError, match="no weighted op is named 'third'"):
        planck.smooth(model, samples(1), exclude=["third"])
    with pytest.raises(planck.UsageError, match="alpha is 2"):
        planck.smooth(model, samples(1), alpha=2)
    with pytest.raises(planck.CalibrationError, match="no samples"):
        planck.smooth(model, [])


# --- correction of biases ------------------------------------------------------------------------


def test_corrected_layers_err_by_nothing_on_average():
    model = with_outliers(True)
    data = samples(2)
    plan = planck.build(model.SerializeToString())
    names = ("h", "m")
    want = {n: np.concatenate([plan.taps(f, [n])[n] for f in data]) for n in names}
    ranges = {n: 3.0 for n in ("n", "r")}  # saturates: the mean moves
    quantised = planck.quantize(model, Scales.from_ranges(ranges))
    corrected = planck.correct_bias(quantised, model, data)
    onnx.checker.check_model(corrected)

    def bias(proto):
        plan = planck.build(proto.SerializeToString(), precision="int8")
        got = {n: np.concatenate([plan.taps(f, [n])[n] for f in data]) for n in names}
        return {n: np.abs((got[n] - want[n]).mean(axis=0)).max() for n in names}

    before, after = bias(quantised), bias(corrected)
    for name in names:
        assert before[name] > 0.01
        assert after[name] < 1e-3 * before[name]


def test_biases_of_convolutions_and_products_are_replaced(model_path):
    for name, options, shape in (MODELS[0], MODELS[3]):
        path = model_path(name, **options)
        feeds = planck.models.feeds(name, shape, size="mini")
        quantised = planck.quantize(path, scales_of(path, feeds))
        corrected = planck.correct_bias(quantised, path, [feeds])
        onnx.checker.check_model(corrected)
        nodes = [node.op_type for node in quantised.graph.node]
        assert [node.op_type for node in corrected.graph.node] == nodes  # no node more
        planck.build(corrected.SerializeToString(), precision="int8").run(feeds)
    with pytest.raises(planck.CalibrationError, match="no samples"):
        planck.correct_bias(quantised, path, [])
    with pytest.raises(planck.UsageError, match="no quantised"):
        planck.correct_bias(path, path, [feeds])


def test_a_calibration_stands_for_its_scales(model_path):
    path = model_path("bert_encoder")
    calibration = planck.calibrate(
        path, [planck.models.feeds("bert_encoder", (4, 16), size="mini")]
    )
    want = planck.quantize(path, calibration.solve())
    assert planck.quantize(path, calibration) == want
    scales = planck.build(path, precision="int8", scales=calibration)
    assert scales.sha256 == planck.build(path, precision="int8", calibration=calibration).sha256
