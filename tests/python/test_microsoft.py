"""Fused ops of ONNX Runtime's optimizers: the same numbers, and the same steps as plain graphs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import planck
import planck.models
from tests.conftest import relative_gap

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from tests.python.optimised import MICROSOFT, Builder, bert, save  # noqa: E402

LIMIT = 1e-5
FLOAT, INT32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
SHAPES = [(1, 1), (3, 11), (4, 32)]


def normal(*shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def agree(path, reference, feeds, limit=LIMIT, **options):
    plan = planck.build(path, **options)
    got = plan.run(feeds)
    for name, want in reference(path, feeds).items():
        if want.dtype.kind == "f":
            assert relative_gap(got[name], want) <= limit, name
        else:
            np.testing.assert_array_equal(got[name], want)
    return plan


def fused_ops(plan):
    """What the passes made of the graph, less views and the arithmetic of masks."""
    kept = {"planck.Attention", "planck.Linear", "planck.AddLayerNorm", "planck.Embedding"}
    kept |= {"LayerNormalization", "Softmax", "MatMul", "Gelu"}
    return {op: count for op, count in plan.report["ops"].items() if op in kept}


@pytest.mark.parametrize("mask", ["raw", "lengths"])
def test_bert_is_the_same_plan(mask, model_path, reference, tmp_path):
    path = save(bert(mask), tmp_path / "bert.onnx")
    plain = planck.build(model_path("bert_encoder"))
    for shape in SHAPES:
        feeds = planck.models.feeds("bert_encoder", shape, seed=shape[1], size="mini")
        plan = agree(path, reference, feeds, fallback="error")
    assert fused_ops(plan) == fused_ops(plain)
    count = Counter(step.family for step in plan.steps)
    assert count["reference"] == 0
    named = {node for step in plan.steps for node in step.nodes} | set(plan.unused)
    assert named == set(plan.nodes)


def test_what_the_runtime_itself_optimises(model_path, reference, tmp_path):
    source, path = model_path("bert_encoder"), tmp_path / "extended.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    ops = Counter((n.domain, n.op_type) for n in onnx.load(path).graph.node)
    assert sum(count for (domain, _), count in ops.items() if domain == MICROSOFT) >= 5
    feeds = planck.models.feeds("bert_encoder", (3, 11), seed=2, size="mini")
    plan = agree(path, reference, feeds, fallback="error")
    assert fused_ops(plan) == fused_ops(planck.build(source))


@pytest.mark.parametrize(
    "name, shape", [("resnet50", (2, 64, 64)), ("dab_detr", (1, 128, 160)), ("digits", (3,))]
)
def test_fused_convolutions_are_the_same_steps(name, shape, model_path, tmp_path):
    source, path = model_path(name), tmp_path / "extended.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    assert any(node.op_type == "FusedConv" for node in onnx.load(path).graph.node)
    feeds = planck.models.feeds(name, shape, size="mini")
    ours, plain = planck.build(path), planck.build(source)
    want = plain.run(feeds)
    for key, got in ours.run(feeds).items():
        assert relative_gap(got, want[key]) <= LIMIT, key
    convolutions = [Counter(s.kernel for s in p.steps if "onv" in s.op) for p in (ours, plain)]
    assert convolutions[0] == convolutions[1]


def test_a_layout_of_one_machine_says_what_to_do():
    model = single("Conv", {"x": normal(1, 8, 4, 4), "w": normal(8, 8, 1, 1)})
    model.graph.node[0].domain = MICROSOFT + ".nchwc"
    with pytest.raises(planck.UnsupportedError, match="ORT_ENABLE_EXTENDED"):
        planck.build(model.SerializeToString())


# --- one op at a time -----------------------------------------------------------------------

B, L, H, HEADS = 2, 5, 8, 2
MASKS = {
    "none": None,
    "raw": np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0]], np.int32),
    "raw_empty_row": np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.int32),
    "lengths": np.array([5, 2], np.int32),
    "ends_and_starts": np.array([5, 4, 0, 1], np.int32),
    "matrix": (normal(B, L, L) > 0).astype(np.int32),
}
ATTENTIONS = {
    "plain": {},
    "scale": {"scale": 0.3},
    "filter": {"mask_filter_value": -3.0},
    "lowest": {"mask_filter_value": float(np.finfo(np.float32).min)},
    "unidirectional": {"unidirectional": 1},
    "widths": {"qkv_hidden_sizes": [4, 4, 6]},
}


def attention(mask, attrs, bias=True, more=()):
    """Attention over x [B,L,H]; `more`: names and values of the inputs after the mask."""
    b = Builder()
    widths = attrs.get("qkv_hidden_sizes", [H, H, H])
    feeds = {"x": normal(B, L, H)}
    fixed = bool(more) or (mask is not None and (len(mask) != B or mask.ndim == 4))
    batch, length = (B, L) if fixed else ("batch", "length")
    b.input("x", feeds["x"], [batch, length, H])
    given = [b.weight(H, sum(widths)), b.weight(sum(widths)) if bias else "", ""]
    if mask is not None:
        dims = list(mask.shape) if fixed else [batch, length, length][: mask.ndim]
        feeds["mask"] = mask
        given[2] = b.input("mask", mask, dims)
    for name, value in more:
        given.append(b.input(name, value, list(value.shape)) if name else "")
        feeds |= {name: value} if name else {}
    b.fused("Attention", "x", *given, outputs=("y",), num_heads=HEADS, **attrs)
    return b.model({"y": FLOAT}), feeds


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("case", ATTENTIONS)
def test_attention(mask, case, reference, tmp_path):
    model, feeds = attention(MASKS[mask], ATTENTIONS[case])
    plan = agree(save(model, tmp_path / "m.onnx"), reference, feeds)
    assert plan.report["ops"]["planck.Attention"] == 1


@pytest.mark.parametrize("mask", ["none", "raw"])
def test_attention_bias(mask, reference, tmp_path):
    more = [("", None), ("scores", normal(1, HEADS, L, L))]
    model, feeds = attention(MASKS[mask], {}, bias=mask == "raw", more=more)
    plan = agree(save(model, tmp_path / "m.onnx"), reference, feeds)
    assert plan.report["ops"]["planck.Attention"] == 1


def single(op, arrays, outputs=("y",), kinds=None, **attrs):
    """A model of one fused node; arrays: name -> value, "" and None for absent inputs."""
    b = Builder()
    for name, value in arrays.items():
        if value is not None:
            b.input(name, value, list(value.shape))
    names = [name if value is not None else "" for name, value in arrays.items()]
    b.fused(op, *names, outputs=outputs, **attrs)
    kinds = kinds or [FLOAT] * len(outputs)
    return b.model({n: k for n, k in zip(outputs, kinds, strict=True) if n})


X, ROW, MORE = normal(3, 4, 6), normal(6, seed=4), normal(3, 4, 6, seed=5)
GAIN = 1 + 0.1 * normal(6, seed=6)
SKIP = {"x": X, "skip": MORE, "gain": GAIN}
IDS, TYPES = np.array([[3, 1, 4], [1, 5, 9]], np.int32), np.array([[0, 0, 1], [0, 1, 1]], np.int32)
EMBED = {
    "ids": IDS,
    "types": TYPES,
    "words": normal(10, 6),
    "places": normal(7, 6, seed=8),
    "segments": normal(2, 6, seed=9),
    "gain": GAIN,
    "bias": ROW,
}
EMBED_MASK = np.array([[1, 1, 1], [1, 1, 0]], np.int32)
PLACES = np.array([[2, 1, 0], [0, 6, 6]], np.int32)
OPS = {
    "gelu": single("Gelu", {"x": X}),
    "bias_gelu": single("BiasGelu", {"x": X, "bias": ROW}),
    "fast_gelu": single("FastGelu", {"x": X}),
    "fast_gelu_bias": single("FastGelu", {"x": X, "bias": ROW}),
    "quick_gelu": single("QuickGelu", {"x": X}),
    "quick_gelu_alpha": single("QuickGelu", {"x": X}, alpha=1.0),
    "skip": single("SkipLayerNormalization", SKIP | {"bias": ROW}),
    "skip_no_bias": single("SkipLayerNormalization", SKIP, epsilon=1e-3),
    "skip_bias_of_product": single(
        "SkipLayerNormalization", SKIP | {"bias": ROW, "product": 2 * ROW}
    ),
    "skip_sum": single(
        "SkipLayerNormalization", SKIP | {"bias": ROW, "product": ROW}, ("y", "", "", "sum")
    ),
    "skip_broadcast": single("SkipLayerNormalization", SKIP | {"skip": MORE[:1]}),
    "skip_simplified": single("SkipSimplifiedLayerNormalization", SKIP | {"product": ROW}),
    "skip_simplified_sum": single("SkipSimplifiedLayerNormalization", SKIP, ("y", "", "", "sum")),
    "matmul": single("FusedMatMul", {"a": X, "b": normal(6, 2)}, alpha=0.5),
    "matmul_swapped": single("FusedMatMul", {"a": X, "b": MORE}, transA=1),
    "matmul_swapped_b": single("FusedMatMul", {"a": X, "b": MORE}, transB=1),
    "matmul_batch": single(
        "FusedMatMul", {"a": normal(4, 3, 2, 6), "b": normal(5, 3, 2, 6)},
        transBatchA=1, transBatchB=1, transB=1,
    ),
    "matmul_one_batch": single(
        "FusedMatMul", {"a": normal(4, 3, 6), "b": normal(3, 6, 5)}, transBatchA=1
    ),
    "gemm": single("FusedGemm", {"a": X[0], "b": normal(6, 2), "c": normal(2)}, activation="Relu"),
    "gemm_leaky": single(
        "FusedGemm", {"a": X[0], "b": normal(2, 6)}, transB=1, alpha=0.5,
        activation="LeakyRelu", activation_alpha=0.2,
    ),
    **{
        f"conv_{name}": single(
            "FusedConv", {"x": normal(2, 3, 6, 5), "w": normal(4, 3, 3, 3), "bias4": normal(4)},
            activation=name, pads=[1, 1, 1, 1],
            **({"activation_params": params} if params else {}),
        )
        for name, params in [
            ("Relu", []), ("Sigmoid", []), ("Tanh", []), ("LeakyRelu", [0.2]),
            ("HardSigmoid", [0.3, 0.4]), ("Clip", [-0.5, 0.5]),
        ]
    },
    "conv_sum": single(
        "FusedConv",
        {"x": normal(2, 3, 6, 5), "w": normal(4, 3, 3, 3), "": None, "z": normal(2, 4, 4, 3)},
        activation="Relu",
    ),
    "conv_alone": single("FusedConv", {"x": normal(2, 4, 6), "w": normal(4, 2, 3)}, group=2),
    "swapped": single("TransposeMatMul", {"a": X, "b": MORE}, transB=1, alpha=0.5),
    "embed": single("EmbedLayerNormalization", EMBED, ("y", "n"), [FLOAT, INT32], epsilon=1e-5),
    "embed_mask": single(
        "EmbedLayerNormalization", EMBED | {"mask": EMBED_MASK}, ("y", "n"), [FLOAT, INT32]
    ),
    "embed_sum": single(
        "EmbedLayerNormalization", EMBED, ("y", "n", "sum"), [FLOAT, INT32, FLOAT]
    ),
    "embed_no_segments": single(
        "EmbedLayerNormalization", EMBED | {"types": None, "segments": None}, ("y", "n"),
        [FLOAT, INT32],
    ),
    "embed_positions": single(
        "EmbedLayerNormalization", EMBED | {"mask": None, "position": PLACES}, ("y", "n"),
        [FLOAT, INT32],
    ),
}  # fmt: skip
FEEDS = {
    **EMBED, **SKIP, "mask": EMBED_MASK, "position": PLACES, "bias": ROW, "product": ROW,
}  # fmt: skip


@pytest.mark.parametrize("case", OPS)
def test_op(case, reference, tmp_path):
    model = OPS[case]
    feeds = {}
    for port in model.graph.input:
        shape = [d.dim_value for d in port.type.tensor_type.shape.dim]
        known = FEEDS.get(port.name)
        fits = known is not None and list(known.shape) == shape
        feeds[port.name] = known if fits else normal(*shape, seed=len(port.name) + sum(shape))
    agree(save(model, tmp_path / "m.onnx"), reference, feeds)


KEYS = 3
HEAD = H // HEADS
OPERANDS = {"q": normal(B, L, H), "k": normal(B, KEYS, H, seed=4), "v": normal(B, KEYS, H, seed=5)}
CACHES = {
    "past_key": normal(B, HEADS, 2, HEAD, seed=8),
    "past_value": normal(B, HEADS, 2, HEAD, seed=9),
}
PADDING = np.array([[1, 1, 1], [1, 0, 0]], np.int32)
MORE_INPUTS = {
    "plain": {},
    "bias": {"b": normal(3 * H, seed=6)},
    "padding": {"b": None, "mask": PADDING},
    "lengths": {"b": None, "mask": np.array([3, 1], np.int32)},
    "scores": {"b": None, "mask": None, "scores": normal(1, HEADS, L, KEYS, seed=7)},
    "both": {"b": None, "mask": PADDING, "scores": normal(B, HEADS, L, KEYS, seed=7)},
    "past": {"b": None, "mask": None, "scores": None, **CACHES},
}
PRESENT = ("y", "present_key", "present_value")


def fed(model, arrays, reference, path):
    feeds = {port.name: arrays[port.name] for port in model.graph.input}
    return agree(save(model, path), reference, feeds)


@pytest.mark.parametrize("case", MORE_INPUTS)
@pytest.mark.parametrize("attrs", [{}, {"scale": 0.3}, {"mask_filter_value": -3.0}])
def test_multi_head_attention(case, attrs, reference, tmp_path):
    arrays = OPERANDS | MORE_INPUTS[case]
    outputs = PRESENT if case == "past" else ("y",)
    model = single("MultiHeadAttention", arrays, outputs, num_heads=HEADS, **attrs)
    plan = fed(model, arrays, reference, tmp_path / "m.onnx")
    assert plan.report["ops"]["planck.Attention"] == 1


def test_multi_head_attention_that_looks_back(reference, tmp_path):
    arrays = {"q": OPERANDS["q"], "k": normal(B, L, H, seed=4), "v": normal(B, L, H, seed=5)}
    model = single("MultiHeadAttention", arrays, num_heads=HEADS, unidirectional=1)
    fed(model, arrays, reference, tmp_path / "m.onnx")


def test_queries_stand_behind_the_past():
    """With a past a query sees all of it; ONNX Runtime 1.32 masks something else there."""
    arrays = {"q": OPERANDS["q"], "k": normal(B, L, H, seed=4), "v": normal(B, L, H, seed=5)}
    arrays |= {"b": None, "mask": None, "scores": None, **CACHES}
    model = single("MultiHeadAttention", arrays, num_heads=HEADS, unidirectional=1)
    feeds = {port.name: arrays[port.name] for port in model.graph.input}
    q, k, v = (feeds[n].reshape(B, L, HEADS, HEAD).transpose(0, 2, 1, 3) for n in "qkv")
    k, v = (np.concatenate(p, 2) for p in ((CACHES["past_key"], k), (CACHES["past_value"], v)))
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(HEAD)
    weights = np.exp(np.where(np.tri(L, L + 2, 2) > 0, scores, -np.inf))
    rows = weights / weights.sum(-1, keepdims=True) @ v
    want = rows.transpose(0, 2, 1, 3).reshape(B, L, H).astype(np.float32)
    assert relative_gap(planck.build(model).run(feeds)["y"], want) <= LIMIT


def test_multi_head_attention_over_a_cache(reference, tmp_path):
    keys = {"k": normal(B, HEADS, KEYS, HEAD, seed=4), "v": normal(B, HEADS, KEYS, HEAD, seed=5)}
    arrays = {"q": OPERANDS["q"], **keys}
    model = single("MultiHeadAttention", arrays, num_heads=HEADS)
    fed(model, arrays, reference, tmp_path / "m.onnx")


ANGLES = np.linspace(0, 3, 7 * 3, dtype=np.float32).reshape(7, 3)
ROTATIONS = {
    "first": (normal(B, 4, 12), np.array([2], np.int64), {}),
    "places": (normal(B, 4, 12), np.array([[0, 1, 2, 3], [3, 4, 5, 6]], np.int64), {}),
    "interleaved": (normal(B, 4, 12), np.array([0], np.int64), {"interleaved": 1}),
    "apart": (normal(B, 2, 4, 6), np.array([1], np.int64), {}),
    "partly": (
        normal(B, 4, 16), np.array([0], np.int64), {"num_heads": 2, "rotary_embedding_dim": 6},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ROTATIONS)
def test_rotary_embedding(case, reference, tmp_path):
    x, places, attrs = ROTATIONS[case]
    arrays = {"x": x, "places": places, "cos": np.cos(ANGLES), "sin": np.sin(ANGLES)}
    model = single("RotaryEmbedding", arrays, **attrs)
    fed(model, arrays, reference, tmp_path / "m.onnx")


PAST = normal(2, B, HEADS, 3, H // HEADS)
REFUSED = {
    "packed": (
        single("MultiHeadAttention", {"q": normal(B, L, HEADS, 3, HEAD)}, num_heads=HEADS),
        "with packed keys and values",
    ),
    "shared_cache": (
        single(
            "MultiHeadAttention",
            OPERANDS | MORE_INPUTS["past"] | {"length": np.array([2], np.int32)},
            num_heads=HEADS,
        ),
        "with past_sequence_length",
    ),
    "conv_activation": (
        single("FusedConv", {"x": normal(1, 2, 4), "w": normal(2, 2, 3)}, activation="Elu6"),
        "activation Elu6",
    ),
    "past": (attention(None, {}, more=[("past", PAST)])[0], "Attention with past"),
    "rotary": (attention(None, {"do_rotary": 1})[0], "with do_rotary"),
    "mask_rank": (attention(np.ones((B, 1, L, L), np.int32), {})[0], "with mask_index"),
    "mean": (
        single("SkipLayerNormalization", SKIP | {"bias": ROW}, ("y", "mean")),
        "output 1 of SkipLayerNormalization",
    ),
    "activation": (
        single("FusedGemm", {"a": X[0], "b": normal(6, 2)}, activation="ScaledTanh"),
        "activation ScaledTanh",
    ),
}
WRONG = {
    "clip": (
        single(
            "FusedConv",
            {"x": normal(1, 2, 4), "w": normal(2, 2, 3)},
            activation="Clip",
            activation_params=[1.0],
        ),
        "1 parameters of Clip",
    ),
    "no_heads": (
        single("Attention", {"x": X, "w": normal(6, 18)}),
        "needs the attribute num_heads",
    ),
    "heads": (single("Attention", {"x": X, "w": normal(6, 18)}, num_heads=4), "of 4 heads"),
    "rank": (single("Attention", {"x": X[0], "w": normal(6, 18)}, num_heads=2), "expected rank 3"),
    "attribute": (single("Gelu", {"x": X}, alpha=1.0), "has no attribute alpha"),
    "type": (single("BiasGelu", {"x": X, "b": np.zeros(6, np.int32)}), "s32"),
    "inputs": (single("BiasGelu", {"x": X}), "takes 2 to 2 inputs"),
    "missing": (single("SkipLayerNormalization", SKIP | {"skip": None}), "input 1 of Skip"),
    "segments": (
        single("EmbedLayerNormalization", EMBED | {"segments": None}, ("y", "n"), [FLOAT, INT32]),
        "together",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_features_that_are_not_there(case):
    model, text = REFUSED[case]
    with pytest.raises(planck.UnsupportedError, match=text) as caught:
        planck.build(model.SerializeToString())
    assert caught.value.items and caught.value.domain == MICROSOFT


@pytest.mark.parametrize("case", WRONG)
def test_wrong_nodes(case):
    model, text = WRONG[case]
    with pytest.raises(planck.GraphError, match=text) as caught:
        planck.build(model.SerializeToString())
    assert caught.value.node
