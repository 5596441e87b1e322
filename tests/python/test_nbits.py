"""MatMulNBits: weights of 2, 4 and 8 bits in blocks, as ONNX Runtime packs them."""

from __future__ import annotations

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

ROWS, SEED = 24, 7


def unpacked(packed, bits, columns):
    """Rows of numbers out of rows of bytes, low bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = packed[..., None] >> shifts & (2**bits - 1)
    return numbers.reshape(len(packed), -1)[:, :columns]


def weights(bits, k, block, zero_points):
    """B, scales and perhaps zero points, and the matrix [k, ROWS] that they stand for."""
    rng = np.random.default_rng(SEED)
    blocks = -(-k // block)
    b = rng.integers(0, 256, (ROWS, blocks, block * bits // 8), np.uint8)
    scales = rng.random((ROWS, blocks), np.float32)
    z = rng.integers(0, 256, (ROWS, -(-blocks * bits // 8)), np.uint8)
    zeros = unpacked(z, bits, blocks) if zero_points else np.full((ROWS, blocks), 2 ** (bits - 1))
    q = unpacked(b.reshape(ROWS, -1), bits, k).astype(np.float32)
    per_place = [np.repeat(v, block, axis=1)[:, :k] for v in (scales, zeros)]
    made = {"b": b, "scales": scales.ravel()} | ({"zeros": z.ravel()} if zero_points else {})
    return made, ((q - per_place[1]) * per_place[0]).T


def model(initializers, inputs, k, block, **attributes):
    node = helper.make_node(
        "MatMulNBits", inputs, ["y"], domain="com.microsoft", N=ROWS, K=k, block_size=block,
        **attributes
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", "t", k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, name) for name, v in initializers.items()],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("k", "block"), [(64, 16), (80, 32), (144, 128)])
@pytest.mark.parametrize("zero_points", [False, True])
def test_products(bits, k, block, zero_points):
    made, w = weights(bits, k, block, zero_points)
    a = np.random.default_rng(1).standard_normal((2, 3, k)).astype(np.float32)
    plan = planck.build(model(made, ["a", *made], k, block, bits=bits))
    np.testing.assert_allclose(plan.run({"a": a})["y"], a @ w, rtol=1e-4, atol=1e-3)
    assert all(step.kernel != "reference" for step in plan.steps)


def test_a_bias_is_added():
    made, w = weights(4, 64, 32, False)
    bias = np.arange(ROWS, dtype=np.float32)
    source = model(made | {"bias": bias}, ["a", *made, "", "", "bias"], 64, 32)
    a = np.ones((1, 2, 64), np.float32)
    y = planck.build(source).run({"a": a})["y"]
    np.testing.assert_allclose(y, a @ w + bias, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "attributes", "error", "match"),
    [
        ({}, {"bits": 3}, planck.UnsupportedError, "3 bits"),
        ({"b": np.zeros((ROWS, 2, 15), np.uint8)}, {}, planck.GraphError, "expected 768"),
        ({"scales": np.ones(7, np.float32)}, {}, planck.GraphError, "expected 48"),
        ({"zeros": np.ones(48, np.float32)}, {}, planck.UnsupportedError, "zero points are f32"),
        ({"zeros": np.ones(5, np.uint8)}, {}, planck.GraphError, "expected 24"),
    ],
)
def test_what_does_not_fit_is_refused(change, attributes, error, match):
    made, _ = weights(4, 64, 32, True)
    made |= change
    with pytest.raises(error, match=match):
        planck.build(model(made, ["a", *made], 64, 32, **attributes))
