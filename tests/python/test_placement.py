"""What int8 quantises, what stays float and why, and the calls that fail early."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import planck
import planck.models
from planck import Scales, TensorScale

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def bert(model_path):
    return model_path("bert_encoder")


@pytest.fixture(scope="module")
def resnet(model_path):
    return model_path("resnet50")


def ranges_of(path, absmax=4.0):
    """A scale for every tensor of the model."""
    plan = planck.build(path)
    names = [port.name for port in plan.inputs] + list(plan.tensors)
    return Scales.from_ranges(dict.fromkeys(names, absmax))


def test_a_transformer_quantises_inputs_of_products_alone(bert):
    placed = planck.placement(bert, ranges_of(bert))
    assert placed.recipe == "transformer"
    # Of each layer: what q, k and v read, the context, and what either product of the FFN reads.
    assert len(placed.activations) == 2 * 4 and len(placed.weights) == 2 * 6
    assert all(w.axis == 1 and w.scale.size in (64, 256) for w in placed.weights)
    reasons = {kept.node: kept.reason for kept in placed.kept}
    assert reasons["/pooler/dense/Gemm"] == "its result is an output: logits or a head"
    assert reasons["/encoder/layer.0/attention/self/MatMul"] == (
        "both operands are computed in the run"
    )
    assert len(reasons) == 1 + 2 * 2


def test_a_convolutional_network_quantises_skips_too(resnet):
    scales = ranges_of(resnet)
    placed = planck.placement(resnet, scales)
    flat = planck.placement(resnet, scales, recipe="transformer")
    assert placed.recipe == "cnn"
    assert {a.name for a in flat.activations} < {a.name for a in placed.activations}
    reasons = {kept.node: kept.reason for kept in placed.kept}
    assert "/fc/Gemm" in reasons and "/conv1/Conv" not in reasons  # sums of 147 terms
    everything = planck.placement(resnet, scales, recipe="all")
    assert not everything.kept


def test_a_plan_without_its_source_is_smaller_and_runs_alike(bert, tmp_path):
    scales = ranges_of(bert)
    whole = planck.build(bert, precision="int8", scales=scales)
    lean = planck.build(bert, precision="int8", scales=scales, inspectable=False)
    assert lean.constant_bytes < 0.6 * whole.constant_bytes
    lean.save(tmp_path / "lean.plan")
    loaded = planck.load(tmp_path / "lean.plan")
    feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
    for name, value in whole.run(feeds).items():
        assert np.array_equal(loaded.run(feeds)[name], value)
    with pytest.raises(planck.UsageError, match="does not carry its source graph") as caught:
        planck.compare(loaded, data=[feeds])
    assert "inspectable=True" in caught.value.hint
    with pytest.raises(planck.UsageError, match="does not carry its source graph"):
        loaded.taps(feeds)


def test_names_and_patterns(bert):
    scales = ranges_of(bert)
    placed = planck.placement(bert, scales, exclude=["*/layer.1/*"], include=["/pooler/*"])
    nodes = {kept.node: kept.reason for kept in placed.kept}
    assert nodes["/encoder/layer.1/intermediate/dense/MatMul"] == "excluded by name"
    assert "/pooler/dense/Gemm" not in nodes
    with pytest.raises(planck.UsageError, match=r"exclude: .*'/pooler/dense/Gem'.*/pooler/dense/G"):
        planck.placement(bert, scales, exclude=["/pooler/dense/Gem"])
    with pytest.raises(planck.UsageError, match="expected a list of names"):
        planck.placement(bert, scales, exclude="/pooler/*")


def test_kept_ops_are_refusals_of_the_build(bert):
    plan = planck.build(bert, precision="int8", scales=ranges_of(bert))
    kept = {tuple(row) for row in plan.report["refusals"] if row[0] == "place"}
    assert ("place", "/pooler/dense/Gemm", "its result is an output: logits or a head") in kept
    assert "logits or a head" in plan.explain()
    covered = {name for step in plan.steps for name in step.nodes}
    assert covered | set(plan.unused) == set(plan.nodes)


def test_grids_of_weights_are_taken(bert):
    scales = dict(ranges_of(bert))
    weight = planck.placement(bert, scales).weights[0].name
    scales[weight] = TensorScale(weight, np.full(64, 0.01), np.zeros(64, int), "s8", 1)
    taken = {w.name: w for w in planck.placement(bert, scales).weights}
    assert np.all(taken[weight].scale == np.float32(0.01))
    scales[weight] = TensorScale(weight, np.full(63, 0.01), np.zeros(63, int), "s8", 1)
    with pytest.raises(planck.CalibrationError, match="63 scales"):
        planck.placement(bert, scales)


def test_only_bound_layers(bert):
    full = ranges_of(bert)
    weight = planck.placement(bert, full).weights[-1].name
    bound = Scales(full.values(), kind="qat_amax", layers={weight: ()})
    placed = planck.placement(bert, bound)
    assert [w.name for w in placed.weights] == [weight]
    assert any(k.reason == "the scales are not for its layer" for k in placed.kept)


def trained_ranges(name):
    """The committed ranges of a training that simulated int8."""
    return Path(__file__).parents[2] / "bench" / "train" / "ranges" / f"{name}_qat.npz"


def products_of(plan):
    """Names of the products and convolutions, and of those that run on integers."""
    ops = ("MatMul", "Gemm", "Conv")
    every = {node for node in plan.nodes if node.endswith(ops)}
    steps = [step for step in plan.steps if step.family == "qproduct"]
    # After its own product a step names the one for which it quantises its result.
    return every, {next(n for n in step.nodes if n.endswith(ops)) for step in steps}


def both_ways(path, scales):
    """The plan of the scales, and that of the file that `planck.quantize` writes with them."""
    written = planck.quantize(path, scales).SerializeToString()
    return (
        planck.build(path, precision="int8", scales=scales),
        planck.build(written, precision="int8"),
    )


def test_every_bound_product_of_digits_runs_on_integers(model_path):
    """Its first convolution, its products with one row and its logits too: they are bound."""
    path = model_path("digits", trained="qat")
    scales = planck.import_scales(trained_ranges("digits"), model=path)
    direct, written = both_ways(path, scales)
    for plan in (direct, written):
        every, on_integers = products_of(plan)
        assert len(every) == 6 and every == on_integers
    feeds = planck.models.feeds("digits", (4,), size="mini")
    one, two = direct.run(feeds), written.run(feeds)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    without = planck.placement(path, scales, exclude=["/fc2/*"])
    assert [(k.node, k.reason) for k in without.kept] == [("/fc2/Gemm", "excluded by name")]


def test_of_wenet_the_feed_forward_parts_alone_are_bound(model_path):
    path = model_path("wenet_encoder", trained="qat")
    scales = planck.import_scales(trained_ranges("wenet_encoder"), model=path)
    direct, written = both_ways(path, scales)
    for plan in (direct, written):
        every, on_integers = products_of(plan)
        bound = {node for node in every if "/feed_forward" in node}
        assert len(bound) == 8 and bound == on_integers
    kept = planck.placement(path, scales).kept
    assert {k.reason for k in kept} == {
        "the scales are not for its layer",
        "both operands are computed in the run",
    }


def test_bad_calls(bert, tmp_path):
    scales = ranges_of(bert)
    with pytest.raises(planck.PrecisionError, match="needs scales"):
        planck.build(bert, precision="int8")
    with pytest.raises(planck.UsageError, match="for precision 'int8', not 'fp32'"):
        planck.build(bert, precision="fp32", scales=scales)
    with pytest.raises(planck.UsageError, match="both scales and calibration"):
        planck.build(bert, precision="int8", scales=scales, calibration=object())
    with pytest.raises(planck.CalibrationError, match="empty"):
        planck.build(bert, precision="int8", scales={})
    with pytest.raises(planck.UsageError, match=r"scales\['x'\] is float"):
        planck.build(bert, precision="int8", scales={"x": 1.0})
    with pytest.raises(planck.UsageError, match="no option 'recip'"):
        planck.build(bert, precision="int8", scales=scales, placement={"recip": "cnn"})
    with pytest.raises(planck.UsageError, match="expected one of auto, transformer, cnn"):
        planck.build(bert, precision="int8", scales=scales, placement={"recipe": "rnn"})
    with pytest.raises(planck.CalibrationError, match="cover no input"):
        planck.build(bert, precision="int8", scales=Scales.from_ranges({"nothing": 1.0}))
    with pytest.raises(planck.UsageError, match="quantised already"):
        model = planck.quantize(bert, scales).SerializeToString()
        planck.build(model, precision="int8", scales=scales)


def test_what_a_calibration_gives(bert):
    class Solved:
        def solve(self):
            return ranges_of(bert)

    feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
    one = planck.build(bert, precision="int8", calibration=Solved()).run(feeds)
    two = planck.build(bert, precision="int8", scales=ranges_of(bert)).run(feeds)
    assert all(np.array_equal(one[name], two[name]) for name in one)
