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


PAST = normal(2, B, HEADS, 3, H // HEADS)
REFUSED = {
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
