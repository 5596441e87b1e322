"""Windows over extents that the run alone knows: ceil_mode, and padding by auto_pad."""

from __future__ import annotations

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def model(node, weights=(), dtype=TensorProto.FLOAT):
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "h", "w"])],
        [helper.make_tensor_value_info("y", dtype, None)],
        [numpy_helper.from_array(w, "w") for w in weights],
    )
    imports = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def windows(extent, kernel, stride, pad):
    """Where each window begins and ends; those that begin behind the data are left out."""
    count = -(-(extent + 2 * pad - kernel) // stride) + 1
    begins = [i * stride - pad for i in range(count) if i * stride < extent + pad]
    return [slice(max(b, 0), min(b + kernel, extent)) for b in begins]


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 3, 1)])
def test_pools_that_round_up(kernel, stride, pad):
    node = helper.make_node(
        "MaxPool",
        ["x"],
        ["y"],
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[pad] * 4,
        ceil_mode=1,
    )
    plan = planck.build(model(node))
    for h in range(3, 10):
        x = np.random.default_rng(h).standard_normal((1, 2, h, 13 - h)).astype(np.float32)
        rows, columns = windows(h, kernel, stride, pad), windows(13 - h, kernel, stride, pad)
        want = [[x[:, :, r, c].max(axis=(2, 3)) for c in columns] for r in rows]
        want = np.asarray(want).transpose(2, 3, 0, 1)
        np.testing.assert_array_equal(plan.run({"x": x})["y"], want)


def test_means_that_round_up_have_a_kernel_where_nothing_is_padded():
    sizes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    node = helper.make_node("AveragePool", ["x"], ["y"], ceil_mode=1, count_include_pad=1, **sizes)
    plan = planck.build(model(node))
    assert all(step.kernel != "reference" for step in plan.steps)
    for h in (4, 5):
        x = np.random.default_rng(h).standard_normal((1, 2, h, 7)).astype(np.float32)
        rows, columns = windows(h, 2, 2, 0), windows(7, 2, 2, 0)
        want = [[x[:, :, r, c].mean(axis=(2, 3)) for c in columns] for r in rows]
        want = np.asarray(want).transpose(2, 3, 0, 1)
        np.testing.assert_allclose(plan.run({"x": x})["y"], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER"])
def test_padding_to_the_same_size(pad):
    w = np.random.default_rng(1).standard_normal((3, 2, 2, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=pad)
    plan = planck.build(model(node, [w]))
    assert all(step.kernel != "reference" for step in plan.steps)
    for h in (1, 2, 7):
        x = np.random.default_rng(h).standard_normal((2, 2, h, 5)).astype(np.float32)
        above = int(pad == "SAME_LOWER")
        padded = np.pad(x, ((0, 0), (0, 0), (above, 1 - above), (1, 1)))
        views = np.lib.stride_tricks.sliding_window_view(padded, (2, 3), axis=(2, 3))
        want = np.einsum("nchwij,mcij->nmhw", views, w)
        np.testing.assert_allclose(plan.run({"x": x})["y"], want, rtol=1e-4, atol=1e-5)


def test_shapes_are_written_without_a_look_at_the_data():
    plan = planck.build(model(helper.make_node("Shape", ["x"], ["y"]), dtype=TensorProto.INT64))
    assert [step.kernel.split("_")[0] for step in plan.steps] == ["range", "range"]
    for shape in [(1, 2, 3, 4), (0, 2, 9, 1)]:
        np.testing.assert_array_equal(plan.run({"x": np.zeros(shape, np.float32)})["y"], shape)
    node = helper.make_node("Shape", ["x"], ["y"], start=1)
    odd = planck.build(model(node, dtype=TensorProto.INT64))
    x = np.zeros((1, 2, 3, 4), np.float32)
    np.testing.assert_array_equal(odd.run({"x": x})["y"], [2, 3, 4])
