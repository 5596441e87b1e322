"""Shapes that only a run knows: what does not fit is refused before a kernel reads it."""

from __future__ import annotations

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
helper = onnx.helper


def built(nodes, inputs, initializers=()):
    """A plan from {name: dims} of float32 inputs to the last node's output."""
    ports = [helper.make_tensor_value_info(n, 1, list(d)) for n, d in inputs.items()]
    out = helper.make_tensor_value_info(nodes[-1].output[0], 1, None)
    tensors = [onnx.numpy_helper.from_array(v, n) for n, v in dict(initializers).items()]
    graph = helper.make_graph(nodes, "g", ports, [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return planck.build(model.SerializeToString())


def ones(*shape):
    return np.ones(shape, np.float32)


W = np.arange(12, dtype=np.float32).reshape(3, 4)
CASES = {
    "product": (
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        {"a": ("M", "K"), "b": ("L", "N")},
        {},
        {"a": ones(2, 4096), "b": ones(1, 4)},
    ),
    "batch": (
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        {"a": ("A", "M", 4), "b": ("B", 4, "N")},
        {},
        {"a": ones(4096, 2, 4), "b": ones(2, 4, 2)},
    ),
    "linear": (
        [helper.make_node("MatMul", ["a", "w"], ["y"])],
        {"a": ("M", "K")},
        {"w": W},
        {"a": ones(2, 1)},
    ),
    "sum": (
        [helper.make_node("Add", ["a", "b"], ["y"])],
        {"a": ("M",), "b": ("N",)},
        {},
        {"a": ones(4096), "b": ones(3)},
    ),
    "chain": (
        [
            helper.make_node("MatMul", ["a", "w"], ["c"]),
            helper.make_node("Add", ["c", "b"], ["y"]),
        ],
        {"a": ("M", 3), "b": ("N", 4)},
        {"w": W},
        {"a": ones(4096, 3), "b": ones(2, 4)},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_unequal_extents_are_refused(case):
    nodes, inputs, initializers, feeds = case
    plan = built(nodes, inputs, initializers)
    with pytest.raises(planck.RunError) as caught:
        plan.run(feeds)
    assert caught.value.node and caught.value.op_type


@pytest.mark.parametrize("gain", [ones(1), ones(1, 1), 2 * ones(3, 1)], ids=str)
def test_norm_with_a_broadcast_gain(gain):
    """A kernel reads one number for each column: other gains run by the reference."""
    node = helper.make_node("LayerNormalization", ["x", "gain"], ["y"], axis=-1)
    plan = built([node], {"x": (3, 64)}, {"gain": gain})
    x = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    got = plan.run({"x": x})["y"]
    want = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * gain
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert plan.steps[0].kernel == "reference"
    assert any("gain" in reason for _, reason in plan.steps[0].rejected)


def test_flipped_twice():
    """Windows with one negative and one positive stride stay inside their buffer."""
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axes", "back"], ["turned"]),
        helper.make_node("Relu", ["turned"], ["y"]),
    ]
    tensors = {"from": [-1], "to": [-(2**31)], "axes": [0], "back": [-1]}
    plan = built(nodes, {"x": ("N", 5)}, {n: np.array(v) for n, v in tensors.items()})
    x = np.arange(15, dtype=np.float32).reshape(3, 5)
    np.testing.assert_array_equal(plan.run({"x": x})["y"], x[::-1])


@pytest.mark.parametrize(
    "shape, fits",
    [([-1, 8], [2, 4]), ([8], [2]), ([2, -1], [1, 2, 3]), ([-1, 2, 2], [1, 2, 3])],
)
def test_a_reshape_keeps_every_element_or_refuses(shape, fits, tmp_path):
    """Whether [n,4] holds whole rows of 8 is known in the run alone: no element is left out."""
    helper = pytest.importorskip("onnx").helper
    constant = helper.make_tensor("shape", 7, [len(shape)], shape)
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    ports = [helper.make_tensor_value_info(n, 1, d) for n, d in (("x", ["n", 4]), ("y", None))]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [constant])
    imports = [helper.make_opsetid("", 18)]
    plan = planck.build(helper.make_model(graph, opset_imports=imports, ir_version=8))
    plan.save(tmp_path / "m.plan")
    for made in (plan, planck.load(tmp_path / "m.plan")):
        for n in range(1, 5):
            x = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
            if n in fits:
                np.testing.assert_array_equal(made.run({"x": x})["y"], x.reshape(shape))
            elif x.size % 8 or shape == [8]:
                with pytest.raises(planck.RunError, match="differ"):
                    made.run({"x": x})
