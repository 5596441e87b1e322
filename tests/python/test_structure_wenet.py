"""WeNet after the passes: what is fused, what is gone, and the same values as ONNX Runtime."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

import planck
from planck import models

ort = pytest.importorskip("onnxruntime")

FULL = os.environ.get("PLANCK_FULL") == "1"
needs_full = pytest.mark.skipif(not FULL, reason="minutes of arithmetic: PLANCK_FULL=1 runs it")
ENCODER_LAYERS = {"mini": 2, "full": 12}
DECODER_LAYERS = {"mini": 2, "full": 6}
WIDTHS = {"mini": 64, "full": 256}
SIZES = ["mini", "full"]
GRID = [(batch, frames) for batch in (1, 4, 16) for frames in (16, 64, 256)]
NORMS = ("LayerNormalization", "planck.AddLayerNorm")
PRODUCTS = ("linear", "matmul")

_folder = TemporaryDirectory()


@cache
def path_of(name: str, size: str) -> Path:
    path = Path(_folder.name) / f"{name}-{size}.onnx"
    models.write(name, path, size=size)  # type: ignore[arg-type]
    return path


@cache
def plan_of(name: str, size: str, threads: int = 2) -> planck.Plan:
    return planck.build(path_of(name, size), threads=threads)


@cache
def reference_of(name: str, size: str) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(path_of(name, size), options, providers=["CPUExecutionProvider"])


def count(plan: planck.Plan, *ops: str) -> int:
    return sum(step.op in ops for step in plan.steps)


def holding(plan: planck.Plan, *ends: str) -> list[Any]:
    """Steps that cover a node for each of the endings, all in one scope."""
    return [
        step
        for step in plan.steps
        for scope in {n.removesuffix(ends[0]) for n in step.nodes if n.endswith(ends[0])}
        if all(scope + end in step.nodes for end in ends)
    ]


# Structure.


@pytest.mark.parametrize("size", SIZES)
def test_encoder_structure(size: str) -> None:
    plan, layers = plan_of("wenet_encoder", size), ENCODER_LAYERS[size]
    assert count(plan, *NORMS) == 5 * layers + 1
    assert count(plan, "planck.Attention") == layers
    assert count(plan, "MatMul", "Softmax", "Split", "Tile") == 0
    positions = holding(plan, "/linear_pos/MatMul")
    assert len(positions) == layers
    assert all(step.family not in PRODUCTS for step in positions)
    # One product for q, k and v, one behind the attention, two for each feed-forward; the front
    # and the head have one each.
    assert count(plan, "planck.Linear") == 6 * layers + 2
    assert count(plan, "planck.Convolution") == 3 * layers + 2


@pytest.mark.parametrize("size", SIZES)
def test_encoder_activations_are_parts_of_other_steps(size: str) -> None:
    plan, layers = plan_of("wenet_encoder", size), ENCODER_LAYERS[size]
    gated = holding(plan, "/conv_module/Sigmoid", "/conv_module/Mul")
    assert [step.family for step in gated] == ["eltwise"] * layers
    swish = holding(plan, "/activation/Sigmoid", "/activation/Mul")
    assert len(swish) == 3 * layers
    assert {step.family for step in swish} == {"linear", "channelwise"}


@pytest.mark.parametrize("size", SIZES)
def test_encoder_masks_are_made_once(size: str) -> None:
    plan, layers = plan_of("wenet_encoder", size), ENCODER_LAYERS[size]
    # Two in each convolution module, and one for the scores of all layers.
    assert count(plan, "Where") == 2 * layers + 1
    assert count(plan, "Equal") <= 1


def test_encoder_length_stays_symbolic() -> None:
    plan = plan_of("wenet_encoder", "mini")
    shape = {port.name: port.shape for port in plan.outputs}["encoder_out"]
    assert shape[0] == "B" and shape[2] == 64 and "T" in str(shape[1])
    for frames, left in [(7, 1), (16, 3), (17, 3), (18, 3), (19, 4), (64, 15), (256, 63)]:
        feeds = models.feeds("wenet_encoder", (2, frames), size="mini")
        assert plan.run(feeds)["encoder_out"].shape == (2, left, 64)
    assert plan.stats.bindings >= 7


@pytest.mark.parametrize("size", SIZES)
def test_decoder_structure(size: str) -> None:
    plan, layers = plan_of("wenet_decoder", size), DECODER_LAYERS[size]
    assert count(plan, *NORMS) == 3 * layers + 1
    assert count(plan, "planck.Attention") == 2 * layers
    assert count(plan, "MatMul", "Softmax", "Tile", "planck.Broadcast") == 0
    # One for q, k and v, one for the queries to the encoder's output, one behind each attention,
    # two for the feed-forward; the head, and one for all keys and values of the encoder's output.
    assert count(plan, "planck.Linear") == 6 * layers + 2


@pytest.mark.parametrize("size", SIZES)
def test_decoder_shares_keys_and_values_of_a_beam(size: str) -> None:
    plan, layers = plan_of("wenet_decoder", size), DECODER_LAYERS[size]
    (shared,) = holding(plan, "decoders.0/src_attn/linear_k/MatMul")
    covered = [n for n in shared.nodes if n.endswith(("_k/MatMul", "_v/MatMul"))]
    assert len(covered) == 2 * layers
    assert all("/src_attn/" in n for n in covered)
    # Frames of the utterance, not of its hypotheses.
    assert f"planck.Linear -> f32[B,T,{2 * layers * WIDTHS[size]}]" in plan.explain()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["wenet_encoder", "wenet_decoder"])
def test_every_node_is_covered(name: str, size: str) -> None:
    plan = plan_of(name, size)
    assert {node for step in plan.steps for node in step.nodes} == set(plan.nodes)
    assert not plan.unused


VARIANTS: list[dict[str, Any]] = [
    {"opset": 12},
    {"opset": 18},
    {"layernorm": "two_sub"},
    {"layernorm": "mul"},
    {"opset": 17, "layernorm": "op"},
    {"weights": "fp16"},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("name", ["wenet_encoder", "wenet_decoder"])
def test_other_spellings_give_the_same_steps(
    name: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    models.write(name, tmp_path / "model.onnx", size="mini", **variant)
    plan = planck.build(tmp_path / "model.onnx")
    expected = plan_of(name, "mini")
    assert Counter(s.op for s in plan.steps) == Counter(s.op for s in expected.steps)


# Values.


def same_values(name: str, size: str, shape: tuple[int, int], **options: Any) -> None:
    """Floats within 2e-5 of the tensor's scale, padding included; integers equal."""
    feeds = models.feeds(name, shape, seed=3, size=size, **options)  # type: ignore[arg-type]
    session = reference_of(name, size)
    got = plan_of(name, size).run(feeds)
    names = [port.name for port in session.get_outputs()]
    for output, expected in zip(names, session.run(None, feeds), strict=True):
        if expected.dtype.kind != "f":
            np.testing.assert_array_equal(got[output], expected, err_msg=output)
            continue
        bound = 2e-5 * np.abs(expected).max()
        np.testing.assert_allclose(got[output], expected, rtol=0, atol=bound, err_msg=output)


@pytest.mark.parametrize("shape", GRID, ids=str)
@pytest.mark.parametrize("name", ["wenet_encoder", "wenet_decoder"])
def test_mini_gives_what_onnx_runtime_gives(name: str, shape: tuple[int, int]) -> None:
    same_values(name, "mini", shape)


@pytest.mark.parametrize("name", ["wenet_encoder", "wenet_decoder"])
def test_fully_masked_rows(name: str) -> None:
    same_values(name, "mini", (3, 32), masked_row=True)


@pytest.mark.parametrize("tokens", [2, 3, 17])
def test_hypotheses_of_other_widths(tokens: int) -> None:
    same_values("wenet_decoder", "mini", (2, 20), tokens=tokens)


@pytest.mark.parametrize("name", ["wenet_encoder", "wenet_decoder"])
def test_one_small_shape_of_full(name: str) -> None:
    options = {"tokens": 8} if name == "wenet_decoder" else {}
    same_values(name, "full", (1, 20), **options)


@needs_full
@pytest.mark.parametrize("shape", GRID, ids=str)
@pytest.mark.parametrize("name", ["wenet_encoder", "wenet_decoder"])
def test_full_gives_what_onnx_runtime_gives(name: str, shape: tuple[int, int]) -> None:
    same_values(name, "full", shape)


@pytest.mark.parametrize("shape", [(1, 16), (3, 70)], ids=str)
@pytest.mark.parametrize("name", ["wenet_encoder", "wenet_decoder"])
def test_threads_do_not_change_a_bit(name: str, shape: tuple[int, int]) -> None:
    feeds = models.feeds(name, shape, seed=4, size="mini")
    one = plan_of(name, "mini", threads=1).run(feeds)
    two = plan_of(name, "mini", threads=2).run(feeds)
    for output, expected in one.items():
        np.testing.assert_array_equal(two[output], expected, err_msg=output)


@pytest.mark.parametrize("name", ["wenet_encoder", "wenet_decoder"])
def test_fusions_change_values_no_more_than_rounding_does(name: str) -> None:
    feeds = models.feeds(name, (2, 40), seed=5, size="mini")
    fused = plan_of(name, "mini").run(feeds)
    off = ["attention", "repeat", "hoist_crop", "qkv", "linear_activation", "add_layer_norm"]
    plain = planck.build(path_of(name, "mini"), disabled_passes=off).run(feeds)
    for output, expected in plain.items():
        if expected.dtype.kind != "f":
            np.testing.assert_array_equal(fused[output], expected, err_msg=output)
            continue
        bound = 2e-5 * np.abs(expected).max()
        np.testing.assert_allclose(fused[output], expected, rtol=0, atol=bound, err_msg=output)


def test_positions_beyond_the_table_are_refused() -> None:
    frames = 4 * 5000 + 32
    feeds = {
        "speech": np.zeros((1, frames, 80), np.float32),
        "speech_lengths": np.full(1, frames, np.int32),
    }
    with pytest.raises(planck.RunError, match="5000"):
        plan_of("wenet_encoder", "mini").run(feeds)
