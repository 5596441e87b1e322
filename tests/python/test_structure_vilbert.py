"""ViLBERT after the passes: counts of the full graph, one fused graph for every spelling."""

from __future__ import annotations

from collections import Counter

import pytest

import planck


def ops_of(plan: planck.Plan) -> Counter[str]:
    return Counter(plan.report["ops"])


@pytest.mark.parametrize("size", ["mini", "full"])
def test_structure(size, model_path):
    """58 LayerNorm, 28 GELU, 28 attentions and 171 weight products at full size; no Shape."""
    plan = planck.build(model_path("vilbert", size), fallback="error")
    blocks = 28 if size == "full" else 6  # 94 nodes each
    ops = ops_of(plan)
    norms = ops["LayerNormalization"] + ops["planck.AddLayerNorm"] + ops["planck.Embedding"]
    assert norms == 2 * blocks + 2
    assert ops["planck.Attention"] == blocks
    gelus = [s for s in plan.steps if any(n.endswith("/Erf") for n in s.nodes)]
    assert len(gelus) == blocks
    # One node for each weight product; q, k and v of one input have been joined.
    products = {
        node
        for step in plan.steps
        if step.family == "linear"
        for node in step.nodes
        if node.endswith(("MatMul", "Gemm"))
    }
    assert len(products) == 6 * blocks + 3
    assert not {"Shape", "Constant", "NonZero", "ConstantOfShape"} & set(ops)
    covered = {node for step in plan.steps for node in step.nodes}
    assert covered | set(plan.unused) == set(plan.nodes)


@pytest.mark.parametrize(
    "option",
    [{"arange": "nonzero"}, {"layernorm": "two_sub"}, {"layernorm": "op", "opset": 17}],
    ids=str,
)
def test_spellings_give_the_same_fused_graph(option, model_path):
    assert ops_of(planck.build(model_path("vilbert", **option))) == ops_of(
        planck.build(model_path("vilbert"))
    )
