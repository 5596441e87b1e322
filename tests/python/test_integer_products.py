"""Whole integer regions: exact against NumPy, the same bits on every instruction set and thread."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import planck

Maker = Callable[..., tuple[bytes, np.ndarray, object]]


class Writer:
    """Nodes and initializers of a small Q/DQ model."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def grid(self, name: str, scale: float, zero: int, dtype: type) -> tuple[str, str]:
        return (
            self.constant(f"{name}_scale", np.float32(scale)),
            self.constant(f"{name}_zero", np.array(zero, dtype)),
        )

    def through(self, x: str, scale: float, zero: int, dtype: type) -> str:
        """x -> Q -> DQ."""
        s, z = self.grid(x, scale, zero, dtype)
        q = self.node("QuantizeLinear", [x, s, z], f"{x}_q")
        return self.node("DequantizeLinear", [q, s, z], f"{x}_dq")

    def weights(self, name: str, codes: np.ndarray, scale: np.ndarray, axis: int) -> str:
        w = self.constant(name, codes)
        s = self.constant(f"{name}_scale", scale.astype(np.float32))
        z = self.constant(f"{name}_zero", np.zeros(scale.shape, codes.dtype))
        extra = {"axis": axis} if scale.ndim else {}
        return self.node("DequantizeLinear", [w, s, z], f"{name}_dq", **extra)

    def model(
        self, inputs: dict[str, tuple[int, list[object]]], outputs: dict[str, int], opset: int = 17
    ) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "quantised",
            [helper.make_tensor_value_info(n, t, d) for n, (t, d) in inputs.items()],
            [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        return model.SerializeToString()


def families(plan: planck.Plan) -> list[str]:
    return [step.family for step in plan.steps]


def requantised(acc: np.ndarray, m: np.ndarray, zero: int, low: int, high: int) -> np.ndarray:
    """The rule of integer regions: one product in fp32, ties to even, then saturation."""
    y = np.rint(acc.astype(np.float32) * m.astype(np.float32))
    return np.clip(y + np.float32(zero), low, high)


def quantised(x: np.ndarray, scale: float, zero: int, dtype: type) -> np.ndarray:
    info = np.iinfo(dtype)
    ratio = x.astype(np.float32) / np.float32(scale)
    return np.clip(np.rint(ratio) + zero, info.min, info.max).astype(np.int64)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(("m", "k", "n"), [(5, 7, 3), (33, 64, 48), (128, 130, 50)])
def test_linear_is_exact(dtype: type, m: int, k: int, n: int) -> None:
    w = Writer(m + k + n)
    codes = w.rng.integers(-127, 128, (k, n)).astype(np.int8)
    scales = w.rng.uniform(0.001, 0.02, n)
    zero = 117 if dtype is np.uint8 else -11
    x = w.rng.normal(0, 1, (m, k)).astype(np.float32)
    bias = w.rng.integers(-(10**5), 10**5, n).astype(np.int32)
    b_scale = (np.float32(0.03) * scales.astype(np.float32)).astype(np.float32)
    matrix = w.weights("w", codes, scales, 1)
    b = w.weights("b", bias, b_scale, 0)
    product = w.node("MatMul", [w.through("x", 0.03, zero, dtype), matrix], "xw")
    y = w.node("Add", [product, b], "y")
    model = w.model({"x": (TensorProto.FLOAT, ["M", k])}, {y: TensorProto.FLOAT})

    plan = planck.build(model)
    assert families(plan) == ["eltwise", "qproduct"]
    acc = (quantised(x, 0.03, zero, dtype) - zero) @ codes.astype(np.int64) + bias
    unit = (np.float64(np.float32(0.03)) * scales.astype(np.float32)).astype(np.float32)
    np.testing.assert_array_equal(plan.run({"x": x})["y"], acc.astype(np.float32) * unit)


def conv_exact(
    x: np.ndarray, w: np.ndarray, zero: int, stride: int, pad: int, group: int
) -> np.ndarray:
    """int64 convolution of integers; the padding holds the zero point, which counts as 0."""
    x = np.pad(x - zero, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    batch, _, height, width = x.shape
    out, inner, kh, kw = w.shape
    rows, columns = (height - kh) // stride + 1, (width - kw) // stride + 1
    y = np.zeros((batch, out, rows, columns), np.int64)
    each = out // group
    for o in range(out):
        first = o // each * inner
        for i in range(kh):
            for j in range(kw):
                window = x[
                    :,
                    first : first + inner,
                    i : i + stride * rows : stride,
                    j : j + stride * columns : stride,
                ]
                y[:, o] += np.einsum("bchw,c->bhw", window, w[o, :, i, j].astype(np.int64))
    return y


def chain(
    dtype: type, seed: int, group: int = 1
) -> tuple[bytes, np.ndarray, tuple[list[np.ndarray], list[np.ndarray], list[int], list[float]]]:
    """conv 3x3 -> ReLU -> Q/DQ -> conv 1x1 -> Q/DQ -> conv 3x3, stride 2 -> Q."""
    w = Writer(seed)
    channels = [8, 16, 24, 20]
    kernels = [3, 1, 3]
    codes, scales = [], []
    grids = [(0.02, 128), (0.05, 3), (0.11, 140), (0.2, 119)]
    if dtype is np.int8:
        grids = [(s, z - 128) for s, z in grids]
    value = w.through("x", *grids[0], dtype)
    for i, kernel in enumerate(kernels):
        groups = group if i == 0 else 1
        shape = (channels[i + 1], channels[i] // groups, kernel, kernel)
        codes.append(w.rng.integers(-127, 128, shape).astype(np.int8))
        scales.append(w.rng.uniform(0.0005, 0.002, channels[i + 1]).astype(np.float32))
        inputs = [value, w.weights(f"w{i}", codes[i], scales[i], 0)]
        value = w.node(
            "Conv",
            inputs,
            f"c{i}",
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            strides=[2, 2] if i == 2 else [1, 1],
            group=groups,
        )
        if i == 0:
            value = w.node("Relu", [value], "r0")
        if i < 2:
            value = w.through(value, *grids[i + 1], dtype)
    s, z = w.grid("y", *grids[3], dtype)
    y = w.node("QuantizeLinear", [value, s, z], "y")
    kind = TensorProto.UINT8 if dtype is np.uint8 else TensorProto.INT8
    model = w.model({"x": (TensorProto.FLOAT, ["B", 8, "H", "W"])}, {y: kind})
    x = w.rng.normal(0, 1, (2, 8, 13, 17)).astype(np.float32)
    return model, x, (codes, scales, [g[1] for g in grids], [g[0] for g in grids])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("group", [1, 2])
def test_convolutions_are_exact(dtype: type, group: int) -> None:
    model, x, (codes, scales, zeros, steps) = chain(dtype, 7, group)
    plan = planck.build(model)
    assert families(plan).count("qproduct") == 2 + group
    info = np.iinfo(dtype)
    q = quantised(x, steps[0], zeros[0], dtype)
    for i, w in enumerate(codes):
        acc = conv_exact(
            q, w, zeros[i], 2 if i == 2 else 1, w.shape[2] // 2, group if i == 0 else 1
        )
        unit = np.float64(np.float32(steps[i])) * scales[i] / np.float64(np.float32(steps[i + 1]))
        low = zeros[1] if i == 0 else info.min
        m = unit.astype(np.float32).reshape(-1, 1, 1)
        q = requantised(acc, m, zeros[i + 1], low, info.max).astype(np.int64)
    np.testing.assert_array_equal(plan.run({"x": x})["y"].astype(np.int64), q)


def colours(
    dtype: type, seed: int, channels: int = 3, kernel: int = 7
) -> tuple[bytes, np.ndarray, tuple[np.ndarray, np.ndarray, int]]:
    """Q/DQ -> conv over few channels, stride 2, float: lines of taps that are no whole fours."""
    w = Writer(seed)
    zero = 77 if dtype is np.uint8 else -51
    codes = w.rng.integers(-127, 128, (24, channels, kernel, kernel)).astype(np.int8)
    scales = w.rng.uniform(0.0005, 0.002, 24).astype(np.float32)
    inputs = [w.through("x", 0.03, zero, dtype), w.weights("w", codes, scales, 0)]
    pads = [kernel // 2] * 4
    y = w.node("Conv", inputs, "y", kernel_shape=[kernel] * 2, pads=pads, strides=[2, 2])
    model = w.model({"x": (TensorProto.FLOAT, ["B", channels, "H", "W"])}, {y: TensorProto.FLOAT})
    x = w.rng.normal(0, 2, (2, channels, 29, 38)).astype(np.float32)
    return model, x, (codes, scales, zero)


@pytest.mark.parametrize(("channels", "kernel"), [(3, 7), (3, 3), (6, 5), (1, 4), (3, 2)])
def test_convolutions_over_few_channels_are_exact(channels: int, kernel: int) -> None:
    model, x, (codes, scales, zero) = colours(np.uint8, 3, channels, kernel)
    acc = conv_exact(quantised(x, 0.03, zero, np.uint8), codes, zero, 2, kernel // 2, 1)
    unit = (np.float64(np.float32(0.03)) * scales).astype(np.float32).reshape(-1, 1, 1)
    np.testing.assert_array_equal(
        planck.build(model).run({"x": x})["y"], acc.astype(np.float32) * unit
    )


def mobile(dtype: type, seed: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Depthwise 3x3 with ReLU6 -> 1x1 -> depthwise 5x5, stride 2 -> depthwise 1x7 with dilation.

    The model, its input, and what NumPy makes of it; 37 channels are whole vectors and a rest.
    """
    w = Writer(seed)
    grids = [(0.02, 128), (0.04, 0), (0.09, 140), (0.2, 119), (0.3, 121)]
    if dtype is np.int8:
        grids = [(s, z - 128) for s, z in grids]
    info = np.iinfo(dtype)
    c = 37
    shapes = [(c, 1, 3, 3), (c, c, 1, 1), (c, 1, 5, 5), (c, 1, 1, 7)]
    x = w.rng.normal(0, 1, (2, c, 13, 23)).astype(np.float32)
    value, q = w.through("x", *grids[0], dtype), quantised(x, *grids[0], dtype)
    for i, shape in enumerate(shapes):
        codes = w.rng.integers(-127, 128, shape).astype(np.int8)
        scale = w.rng.uniform(0.002, 0.01, c).astype(np.float32)
        unit = np.float64(np.float32(grids[i][0])) * scale
        bias = w.rng.integers(-2000, 2000, c).astype(np.int32)
        inputs = [value, w.weights(f"w{i}", codes, scale, 0)]
        inputs.append(w.weights(f"b{i}", bias, unit.astype(np.float32), 0))
        value = w.node(
            "Conv",
            inputs,
            f"c{i}",
            kernel_shape=list(shape[2:]),
            pads=[0, 3, 0, 3] if i == 3 else [shape[2] // 2] * 4,
            strides=[2, 2] if i == 2 else [1, 1],
            dilations=[1, 2] if i == 3 else [1, 1],
            group=c if shape[1] == 1 else 1,
        )
        low, high = info.min, info.max
        step, zero = grids[i + 1]
        if i == 0:
            bounds = [w.constant("six_low", np.float32(0)), w.constant("six", np.float32(6))]
            value = w.node("Clip", [value, *bounds], "relu6")
            low, high = zero, min(info.max, zero + round(6 / np.float32(step)))
        if i == 3:
            spread = np.zeros((c, 1, 1, 13), np.int8)
            spread[..., ::2] = codes
            acc = conv_exact(
                np.pad(q, ((0, 0), (0, 0), (0, 0), (3, 3)), constant_values=grids[3][1]),
                spread,
                grids[3][1],
                1,
                0,
                c,
            )
        else:
            acc = conv_exact(
                q, codes, grids[i][1], 2 if i == 2 else 1, shape[2] // 2, c if shape[1] == 1 else 1
            )
        acc += bias.reshape(-1, 1, 1)
        m = (unit / np.float64(np.float32(step))).astype(np.float32).reshape(-1, 1, 1)
        q = requantised(acc, m, zero, low, high).astype(np.int64)
        if i < 3:
            value = w.through(value, step, zero, dtype)
    s, z = w.grid("y", *grids[4], dtype)
    y = w.node("QuantizeLinear", [value, s, z], "y")
    kind = TensorProto.UINT8 if dtype is np.uint8 else TensorProto.INT8
    model = w.model({"x": (TensorProto.FLOAT, ["B", c, "H", "W"])}, {y: kind})
    return model, x, q


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_depthwise_convolutions_are_exact(dtype: type) -> None:
    model, x, expected = mobile(dtype, 41)
    plan = planck.build(model)
    assert families(plan).count("qdepthwise") == 3
    assert families(plan).count("qproduct") == 1
    np.testing.assert_array_equal(plan.run({"x": x})["y"].astype(np.int64), expected)


@pytest.mark.parametrize("outputs", [2, 3])
def test_several_outputs_for_each_channel_are_exact(outputs: int) -> None:
    w = Writer(53 + outputs)
    codes = w.rng.integers(-127, 128, (20 * outputs, 1, 3, 3)).astype(np.int8)
    scale = w.rng.uniform(0.0005, 0.002, 20 * outputs).astype(np.float32)
    inputs = [w.through("x", 0.02, 119, np.uint8), w.weights("w", codes, scale, 0)]
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "group": 20}
    y = w.node("Conv", inputs, "y", **attributes)
    model = w.model({"x": (TensorProto.FLOAT, [1, 20, 9, 9])}, {y: TensorProto.FLOAT})
    plan = planck.build(model)
    assert families(plan).count("qdepthwise") == 1
    assert set(families(plan)) == {"eltwise", "copy", "qdepthwise"}
    data = w.rng.normal(0, 1, (1, 20, 9, 9)).astype(np.float32)
    acc = conv_exact(quantised(data, 0.02, 119, np.uint8), codes, 119, 2, 1, 20)
    unit = (np.float64(np.float32(0.02)) * scale).astype(np.float32).reshape(-1, 1, 1)
    np.testing.assert_array_equal(plan.run({"x": data})["y"], acc.astype(np.float32) * unit)


def test_depthwise_ends_in_floats_programs_and_residuals() -> None:
    w = Writer(43)
    codes = [w.rng.integers(-127, 128, (20, 1, 3, 3)).astype(np.int8) for _ in range(2)]
    scale = w.rng.uniform(0.0005, 0.002, 20).astype(np.float32)
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": 20}
    x = w.through("x", 0.02, 128, np.uint8)
    c = w.node("Conv", [x, w.weights("w0", codes[0], scale, 0)], "c0", **attributes)
    y = w.through(w.node("Relu", [w.node("Add", [c, x], "sum")], "r1"), 0.03, 0, np.uint8)
    last = w.node("Conv", [y, w.weights("w1", codes[1], scale, 0)], "c1", **attributes)
    swish = w.node("HardSwish", [last], "swish")
    model = w.model({"x": (TensorProto.FLOAT, [1, 20, 9, 9])}, {swish: TensorProto.FLOAT})
    plan = planck.build(model)
    assert families(plan).count("qdepthwise") == 2
    assert "channelwise" not in families(plan)
    data = w.rng.normal(0, 1, (1, 20, 9, 9)).astype(np.float32)
    qx = quantised(data, 0.02, 128, np.uint8)

    def product(q: np.ndarray, i: int, step: float, zero: int) -> np.ndarray:
        unit = (np.float64(np.float32(step)) * scale).astype(np.float32).reshape(-1, 1, 1)
        return conv_exact(q, codes[i], zero, 1, 1, 20).astype(np.float32) * unit

    v = product(qx, 0, 0.02, 128) + (qx - 128).astype(np.float32) * np.float32(0.02)
    v = product(quantised(np.maximum(v, np.float32(0)), 0.03, 0, np.uint8), 1, 0.03, 0)
    expected = v * np.clip(v / np.float32(6) + np.float32(0.5), 0, 1)
    np.testing.assert_allclose(plan.run({"x": data})["swish"], expected, rtol=1e-6, atol=1e-7)


def test_residual_of_bytes_joins_the_epilogue() -> None:
    w = Writer(3)
    codes = [w.rng.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8) for _ in range(2)]
    scale = w.rng.uniform(0.0005, 0.002, 16)
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    x = w.through("x", 0.02, 128, np.uint8)
    c = w.node("Conv", [x, w.weights("w0", codes[0], scale, 0)], "c0", **attributes)
    c = w.through(w.node("Relu", [c], "r0"), 0.04, 0, np.uint8)
    c = w.node("Conv", [c, w.weights("w1", codes[1], scale, 0)], "c1", **attributes)
    y = w.node("Relu", [w.node("Add", [c, x], "sum")], "r1")
    s, z = w.grid("y", 0.03, 0, np.uint8)
    y = w.node("QuantizeLinear", [y, s, z], "y")
    model = w.model({"x": (TensorProto.FLOAT, [1, 16, 9, 9])}, {y: TensorProto.UINT8})
    plan = planck.build(model)
    assert families(plan) == ["eltwise", "copy", "qproduct", "qproduct", "copy"]
    data = w.rng.normal(0, 1, (1, 16, 9, 9)).astype(np.float32)
    ours = plan.run({"x": data})["y"].astype(int)
    qx = quantised(data, 0.02, 128, np.uint8)
    unit = (np.float64(np.float32(0.02)) * scale.astype(np.float32)).reshape(-1, 1, 1)
    m = (unit / np.float64(np.float32(0.04))).astype(np.float32)
    q = requantised(conv_exact(qx, codes[0], 128, 1, 1, 1), m, 0, 0, 255).astype(np.int64)
    unit = np.float64(np.float32(0.04)) * scale.astype(np.float32)
    acc = conv_exact(q, codes[1], 0, 1, 1, 1).astype(np.float32)
    v = acc * unit.astype(np.float32).reshape(-1, 1, 1)
    v = np.maximum(v + (qx - 128).astype(np.float32) * np.float32(0.02), np.float32(0))
    np.testing.assert_array_equal(ours, quantised(v, 0.03, 0, np.uint8))


def test_a_product_may_end_in_signed_bytes() -> None:
    """Where no pass makes activations unsigned, the program itself ends in int8."""
    w = Writer(47)
    codes = w.rng.integers(-127, 128, (24, 20)).astype(np.int8)
    scale = w.rng.uniform(0.001, 0.02, 20).astype(np.float32)
    product = w.node(
        "MatMul", [w.through("x", 0.03, 117, np.uint8), w.weights("w", codes, scale, 1)], "xw"
    )
    y = w.node("QuantizeLinear", [product, *w.grid("y", 0.09, -7, np.int8)], "y")
    model = w.model({"x": (TensorProto.FLOAT, ["M", 24])}, {y: TensorProto.INT8})
    plan = planck.build(model, disabled_passes=["unsigned_bytes"])
    assert families(plan) == ["eltwise", "qproduct"]
    data = w.rng.normal(0, 1, (11, 24)).astype(np.float32)
    acc = (quantised(data, 0.03, 117, np.uint8) - 117) @ codes.astype(np.int64)
    unit = (np.float64(np.float32(0.03)) * scale).astype(np.float32)
    expected = quantised(acc.astype(np.float32) * unit, 0.09, -7, np.int8)
    np.testing.assert_array_equal(plan.run({"x": data})["y"], expected)


def test_dynamic_scales() -> None:
    w = Writer(5)
    codes = w.rng.integers(-127, 128, (48, 40)).astype(np.int8)
    scale = w.rng.uniform(0.001, 0.02, 40).astype(np.float32)
    w.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dql"))
    x = w.node("DequantizeLinear", ["q", "s", "z"], "xd")
    y = w.node("MatMul", [x, w.weights("w", codes, scale, 1)], "y")
    model = w.model({"x": (TensorProto.FLOAT, ["M", 48])}, {y: TensorProto.FLOAT})
    plan = planck.build(model)
    assert families(plan).count("qproduct") == 1
    data = w.rng.normal(0.3, 1, (9, 48)).astype(np.float32)
    step = np.float32(np.float32(data.max() - min(data.min(), 0)) / np.float32(255))
    zero = int(np.clip(np.rint(np.float32(-data.min()) / step), 0, 255))
    acc = (quantised(data, float(step), zero, np.uint8) - zero) @ codes.astype(np.int64)
    expected = acc.astype(np.float32) * (step * scale)
    np.testing.assert_array_equal(plan.run({"x": data})["y"], expected)


def dynamic_grid(x: np.ndarray) -> tuple[np.float32, int]:
    """Scale and zero point of DynamicQuantizeLinear."""
    low, high = np.float32(min(x.min(), 0)), np.float32(max(x.max(), 0))
    step = np.float32((high - low) / np.float32(255))
    return step, int(np.clip(np.rint(np.float32(-low) / step), 0, 255))


@pytest.mark.parametrize("group", [1, 2, 16])
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("spelling", ["ConvInteger", "DequantizeLinear"])
def test_padding_reads_the_zero_point_of_the_run(spelling: str, axes: int, group: int) -> None:
    """Group 16 is depthwise. Pictures of the run differ in their zero points."""
    w = Writer(59 + axes + group)
    shape = (16, 16 // group, *(3,) * axes)
    codes = w.rng.integers(-127, 128, shape).astype(np.int8)
    attributes = {"kernel_shape": [3] * axes, "pads": [1] * axes * 2, "group": group}
    w.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dql"))
    if spelling == "ConvInteger":
        scale = np.full(16, 0.003, np.float32)
        inputs = ["q", w.constant("w", codes), "z", w.constant("wz", np.int8(0))]
        wide = w.node("Cast", [w.node("ConvInteger", inputs, "sums", **attributes)], "wide", to=1)
        y = w.node("Mul", [wide, w.node("Mul", ["s", w.constant("ws", scale[0])], "sw")], "y")
    else:
        scale = w.rng.uniform(0.001, 0.02, 16).astype(np.float32)
        x = w.node("DequantizeLinear", ["q", "s", "z"], "xd")
        y = w.node("Conv", [x, w.weights("w", codes, scale, 0)], "y", **attributes)
    dims: list[object] = ["B", 16, *("H", "W")[:axes]]
    plan = planck.build(w.model({"x": (TensorProto.FLOAT, dims)}, {y: TensorProto.FLOAT}))
    assert families(plan).count("qdepthwise" if group == 16 else "qproduct") == max(1, group % 16)
    assert not [r for r in plan.report["refusals"] if r[0] in ("quantized", "integer_ops")]
    for shift in (0.3, -2.0, 9.0):
        data = w.rng.normal(shift, 1, (2, 16, *(9, 11)[:axes])).astype(np.float32)
        step, zero = dynamic_grid(data)
        q = quantised(data, float(step), zero, np.uint8)
        q = np.pad(q, [(0, 0), (0, 0), *[(1, 1)] * axes], constant_values=zero)
        rows = (q, codes) if axes == 2 else (q[:, :, None], codes[:, :, None])
        acc = conv_exact(*rows, zero, 1, 0, group).astype(np.float32)
        ours = plan.run({"x": data})["y"]
        expected = acc.reshape(ours.shape) * (step * scale).reshape(-1, *(1,) * axes)
        np.testing.assert_array_equal(ours, expected)


def transposed_exact(
    q: np.ndarray, w: np.ndarray, zero: int, strides: tuple[int, ...], pad: int = 0
) -> np.ndarray:
    """Each place of q is spread over a window of the result; int64, w is [C, M, taps..]."""
    tiles = np.tensordot(np.moveaxis(q - zero, 1, -1), w.astype(np.int64), 1)
    places, taps = q.shape[2:], w.shape[2:]
    extents = [(p - 1) * s + t for p, s, t in zip(places, strides, taps, strict=True)]
    y = np.zeros((q.shape[0], w.shape[1], *extents), np.int64)
    for tap in np.ndindex(*taps):
        at = tuple(
            slice(t, t + (p - 1) * s + 1, s) for t, p, s in zip(tap, places, strides, strict=True)
        )
        tile = tiles[(..., *tap)]  # [B, places.., M]
        y[(slice(None), slice(None), *at)] += np.moveaxis(tile, -1, 1)
    return y[(slice(None), slice(None), *(slice(pad, e - pad) for e in extents))]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("taps", "strides", "pad"),
    [
        ((2, 2), (2, 2), 0),  # side by side
        ((3, 1), (3, 1), 0),
        ((4,), (4,), 0),
        ((4, 4), (2, 2), 1),
        ((3, 3), (2, 1), 1),
        ((5,), (3,), 1),
    ],
)
def test_transposed_convolutions_are_exact(
    dtype: type, taps: tuple[int, ...], strides: tuple[int, ...], pad: int
) -> None:
    """Weights with a scale for each output channel, on axis 1; bytes between two of them."""
    w = Writer(61 + len(taps))
    attributes = {
        "kernel_shape": list(taps),
        "strides": list(strides),
        "pads": [pad] * 2 * len(taps),
    }
    grids = [(0.02, 128), (0.3, 7)]
    if dtype is np.int8:
        grids = [(s, z - 128) for s, z in grids]
    codes = [w.rng.integers(-127, 128, (*s, *taps)).astype(np.int8) for s in ((24, 20), (20, 12))]
    scales = [w.rng.uniform(0.001, 0.02, c.shape[1]).astype(np.float32) for c in codes]
    column = (-1, *(1,) * len(taps))

    unit = np.float64(np.float32(grids[0][0])) * scales[0]
    bias = w.rng.integers(-5000, 5000, 20).astype(np.int32)
    inputs = [w.through("x", *grids[0], dtype), w.weights("w0", codes[0], scales[0], 1)]
    inputs.append(w.weights("b0", bias, unit.astype(np.float32), 0))
    value = w.node("Relu", [w.node("ConvTranspose", inputs, "c0", **attributes)], "r0")
    inputs = [w.through(value, *grids[1], dtype), w.weights("w1", codes[1], scales[1], 1)]
    floats = w.rng.normal(0, 1, 12).astype(np.float32)
    inputs.append(w.constant("b1", floats))
    y = w.node("ConvTranspose", inputs, "y", **attributes)
    dims: list[object] = ["B", 24, *("H", "W")[: len(taps)]]
    plan = planck.build(w.model({"x": (TensorProto.FLOAT, dims)}, {y: TensorProto.FLOAT}))
    assert families(plan).count("qproduct") == 2
    assert set(families(plan)) <= {"eltwise", "copy", "qproduct"}
    assert not [r for r in plan.report["refusals"] if r[0] == "quantized"]

    x = w.rng.normal(0, 1, (2, 24, *(7, 5)[: len(taps)])).astype(np.float32)
    acc = transposed_exact(quantised(x, *grids[0], dtype), codes[0], grids[0][1], strides, pad)
    m = (unit / np.float64(np.float32(grids[1][0]))).astype(np.float32).reshape(column)
    zero, high = grids[1][1], np.iinfo(dtype).max
    q = requantised(acc + bias.reshape(column), m, zero, zero, high).astype(np.int64)
    unit = (np.float64(np.float32(grids[1][0])) * scales[1]).astype(np.float32)
    acc = transposed_exact(q, codes[1], zero, strides, pad).astype(np.float32)
    expected = acc * unit.reshape(column) + floats.reshape(column)
    np.testing.assert_array_equal(plan.run({"x": x})["y"], expected)


def test_a_transposed_convolution_ends_in_bytes_of_the_graph() -> None:
    w = Writer(67)
    codes = w.rng.integers(-127, 128, (16, 8, 2, 2)).astype(np.int8)
    inputs = [w.through("x", 0.02, 128, np.uint8), w.weights("w", codes, np.float32(0.01), 1)]
    c = w.node("ConvTranspose", inputs, "c", kernel_shape=[2, 2], strides=[2, 2])
    y = w.node("QuantizeLinear", [c, *w.grid("y", 0.4, 120, np.uint8)], "y")
    model = w.model({"x": (TensorProto.FLOAT, [1, 16, 5, 6])}, {y: TensorProto.UINT8})
    plan = planck.build(model)
    assert families(plan).count("qproduct") == 1
    x = w.rng.normal(0, 1, (1, 16, 5, 6)).astype(np.float32)
    acc = transposed_exact(quantised(x, 0.02, 128, np.uint8), codes, 128, (2, 2))
    unit = np.float64(np.float32(0.02)) * np.float64(np.float32(0.01))
    m = np.float32(unit / np.float64(np.float32(0.4)))
    np.testing.assert_array_equal(plan.run({"x": x})["y"], requantised(acc, m, 120, 0, 255))


def test_threads_and_batches_keep_every_bit() -> None:
    model, x, _ = chain(np.uint8, 11)
    bits = {planck.build(model, threads=t).run({"x": x})["y"].tobytes() for t in (1, 2, 3, 8)}
    assert len(bits) == 1
    plan = planck.build(model)
    whole = plan.run({"x": x})["y"]
    np.testing.assert_array_equal(plan.run({"x": x[1:]})["y"], whole[1:])


def grown(dtype: type, seed: int) -> tuple[bytes, np.ndarray, None]:
    """A transposed convolution whose windows overlap, then padding on grids of the run, twice."""
    w = Writer(seed)
    scale = w.rng.uniform(0.001, 0.01, 24).astype(np.float32)

    def codes(*shape: int) -> np.ndarray:
        return w.rng.integers(-127, 128, shape).astype(np.int8)

    inputs = [w.through("x", 0.02, 100 if dtype is np.uint8 else -28, dtype)]
    inputs.append(w.weights("w0", codes(16, 24, 4, 4), scale, 1))
    attributes = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    y = w.node("ConvTranspose", inputs, "c0", **attributes)
    for i, group in enumerate((1, 24), 1):
        names = [f"q{i}", f"s{i}", f"z{i}"]
        w.nodes.append(helper.make_node("DynamicQuantizeLinear", [y], names, name=f"dql{i}"))
        inputs = [w.node("DequantizeLinear", names, f"d{i}")]
        inputs.append(w.weights(f"w{i}", codes(24, 24 // group, 3, 3), scale, 0))
        attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": group}
        y = w.node("Conv", inputs, "y" if i == 2 else f"c{i}", **attributes)
    model = w.model({"x": (TensorProto.FLOAT, ["B", 16, "H", "W"])}, {y: TensorProto.FLOAT})
    x = w.rng.normal(0, 1, (2, 16, 7, 9)).astype(np.float32)
    return model, x, None


def patches(dtype: type, seed: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """3x3 over pictures of a known size, with ReLU, then once more: what Winograd takes.

    The model, its input, and what NumPy makes of it; neither extent is a multiple of a patch.
    """
    w = Writer(seed)
    channels = [36, 64, 48]
    grids = [(0.02, 101), (0.4, 7), (2.5, 122)]
    if dtype is np.int8:
        grids = [(s, z - 128) for s, z in grids]
    info = np.iinfo(dtype)
    x = w.rng.normal(0, 1, (2, channels[0], 19, 23)).astype(np.float32)
    value, q = w.through("x", *grids[0], dtype), quantised(x, *grids[0], dtype)
    for i in range(2):
        codes = w.rng.integers(-127, 128, (channels[i + 1], channels[i], 3, 3)).astype(np.int8)
        scale = w.rng.uniform(0.002, 0.01, channels[i + 1]).astype(np.float32)
        inputs = [value, w.weights(f"w{i}", codes, scale, 0)]
        value = w.node("Conv", inputs, f"c{i}", kernel_shape=[3, 3], pads=[1] * 4)
        (step, zero), low = grids[i + 1], info.min
        if i == 0:
            value, low = w.node("Relu", [value], "r0"), zero
        unit = np.float64(np.float32(grids[i][0])) * scale / np.float64(np.float32(step))
        m = unit.astype(np.float32).reshape(-1, 1, 1)
        acc = conv_exact(q, codes, grids[i][1], 1, 1, 1)
        q = requantised(acc, m, zero, low, info.max).astype(np.int64)
        if i == 0:
            value = w.through(value, step, zero, dtype)
    s, z = w.grid("y", *grids[2], dtype)
    y = w.node("QuantizeLinear", [value, s, z], "y")
    kind = TensorProto.UINT8 if dtype is np.uint8 else TensorProto.INT8
    model = w.model({"x": (TensorProto.FLOAT, ["B", channels[0], 19, 23])}, {y: kind})
    return model, x, q


SAVE = """
import sys, planck
plan = planck.build(open(sys.argv[1], "rb").read())
plan.save(sys.argv[2])
print(*[step.kernel for step in plan.steps if step.family == "qproduct"])
"""


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("env", "kernel"),
    [
        ({"PLANCK_FORCE_KERNEL": "qmatmul_u8s8s32_6x16x2_avx2winograd4"}, ""),
        ({"PLANCK_FORCE_KERNEL": "qmatmul_u8s8s32_6x16x2_avx2winograd2"}, ""),
        ({"PLANCK_FORCE_KERNEL": "qmatmul_u8s8s32_1x16x2_portablewinograd4"}, ""),
    ],
)
def test_winograd_is_exact(dtype: type, env: dict[str, str], kernel: str, tmp_path: Path) -> None:
    model, x, want = patches(dtype, 19)
    (tmp_path / "m.onnx").write_bytes(model)
    done = subprocess.run(
        [sys.executable, "-c", SAVE, str(tmp_path / "m.onnx"), str(tmp_path / "m.plan")],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    kernel = kernel or env["PLANCK_FORCE_KERNEL"]
    assert done.stdout.split() == [kernel, kernel]
    for threads in (1, 2, 8):
        plan = planck.load(tmp_path / "m.plan", threads=threads)
        np.testing.assert_array_equal(plan.run({"x": x})["y"].astype(np.int64), want)
        assert [s.kernel for s in plan.steps if s.family == "qproduct"] == [kernel, kernel]
    # Weights come back from their transform: the plan as this machine would have built it.
    best = planck.load(tmp_path / "m.plan", repack="best")
    np.testing.assert_array_equal(best.run({"x": x})["y"].astype(np.int64), want)
    if "PLANCK_MAX_ISA" not in os.environ and env.get("PLANCK_MAX_ISA"):
        here = [s.kernel for s in planck.build(model).steps if s.family == "qproduct"]
        assert [s.kernel for s in best.steps if s.family == "qproduct"] == here


DIGEST = """
import hashlib, sys, numpy as np, planck
data = np.load(sys.argv[2])["x"]
plan = planck.build(open(sys.argv[1], "rb").read())
print(hashlib.sha256(plan.run({"x": data})["y"].tobytes()).hexdigest())
"""


@pytest.mark.parametrize("make", [chain, colours, mobile, grown, patches])
def test_every_instruction_set_gives_the_same_bits(make: Maker, tmp_path: Path) -> None:
    model, x, _ = make(np.int8, 13)
    (tmp_path / "m.onnx").write_bytes(model)
    np.savez(tmp_path / "x.npz", x=x)
    digests = set()
    for isa in ("portable", "avx2", "avx512", "amx"):
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, str(tmp_path / "m.onnx"), str(tmp_path / "x.npz")],
            env={**os.environ, "PLANCK_MAX_ISA": isa},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    here = hashlib.sha256(planck.build(model).run({"x": x})["y"].tobytes()).hexdigest()
    assert digests == {here}


@pytest.mark.parametrize("make", [chain, colours, mobile, grown, patches])
def test_a_saved_plan_is_the_same(make: Maker, tmp_path: Path) -> None:
    model, x, _ = make(np.uint8, 17)
    plan = planck.build(model)
    plan.save(tmp_path / "m.plan")
    loaded = planck.load(tmp_path / "m.plan")
    np.testing.assert_array_equal(loaded.run({"x": x})["y"], plan.run({"x": x})["y"])


def test_a_comparison_reads_bytes_as_what_they_stand_for() -> None:
    model, x, _ = chain(np.uint8, 19)
    report = planck.compare(planck.build(model), reference="double", data=[{"x": x}])
    rows = {row.name: row for row in report.rows}
    assert rows["c1_dq"].cumulative.sqnr_db > 40
    assert rows["c1_dq"].held


def test_why_a_product_stays_in_floats() -> None:
    w = Writer(23)
    codes = w.rng.integers(-127, 128, (16, 8)).astype(np.int16)
    y = w.node(
        "MatMul",
        [w.through("x", 0.03, 0, np.int8), w.weights("w", codes, np.float32(0.01), 1)],
        "y",
    )
    model = w.model({"x": (TensorProto.FLOAT, ["M", 16])}, {y: TensorProto.FLOAT}, opset=21)
    plan = planck.build(model)
    assert "qproduct" not in families(plan)
    assert any(r[0] == "quantized" for r in plan.report["refusals"])


def operators(
    seed: int, unsigned_weights: bool
) -> tuple[bytes, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Three QLinearConv in a row, with biases; the model, its input, what NumPy makes of it."""
    w = Writer(seed)
    grids = [(0.02, 128), (0.05, 3), (0.11, 140), (0.2, 119)]
    channels, kernels = [8, 16, 24, 20], [3, 1, 3]
    names = [w.grid(f"g{i}", *grid, np.uint8) for i, grid in enumerate(grids)]
    x = w.rng.integers(0, 256, (2, 8, 13, 17)).astype(np.uint8)
    value, q = "x", x.astype(np.int64)
    stages = []
    for i, kernel in enumerate(kernels):
        shape = (channels[i + 1], channels[i], kernel, kernel)
        codes = w.rng.integers(-127, 128, shape).astype(np.int8)
        scale = w.rng.uniform(0.0005, 0.002, channels[i + 1]).astype(np.float32)
        bias = w.rng.integers(-3000, 3000, channels[i + 1]).astype(np.int32)
        stored = (codes.astype(np.int16) + 128).astype(np.uint8) if unsigned_weights else codes
        zeros = np.full(scale.shape, 128 if unsigned_weights else 0, stored.dtype)
        value = w.node(
            "QLinearConv",
            [
                value,
                *names[i],
                w.constant(f"w{i}", stored),
                w.constant(f"ws{i}", scale),
                w.constant(f"wz{i}", zeros),
                *names[i + 1],
                w.constant(f"b{i}", bias),
            ],
            f"y{i}",
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            strides=[2, 2] if i == 2 else [1, 1],
        )
        acc = conv_exact(q, codes, grids[i][1], 2 if i == 2 else 1, kernel // 2, 1)
        acc += bias.reshape(-1, 1, 1)
        step = np.float64(np.float32(grids[i + 1][0]))
        m = (np.float64(np.float32(grids[i][0])) * scale / step).astype(np.float32)
        q = requantised(acc, m.reshape(-1, 1, 1), grids[i + 1][1], 0, 255).astype(np.int64)
        stages.append(q)
    model = w.model({"x": (TensorProto.UINT8, ["B", 8, "H", "W"])}, {value: TensorProto.UINT8})
    return model, x, q, stages


@pytest.mark.parametrize("unsigned_weights", [False, True])
def test_qlinearconv_is_exact(unsigned_weights: bool) -> None:
    model, x, expected, _ = operators(29, unsigned_weights)
    plan = planck.build(model)
    assert families(plan).count("qproduct") == 3
    np.testing.assert_array_equal(plan.run({"x": x})["y2"], expected)


def test_weights_one_beyond_a_byte() -> None:
    """Unsigned weights with the zero point 127 reach 128: their column is multiplied negated."""
    w = Writer(37)
    codes = w.rng.integers(0, 256, (40, 24)).astype(np.uint8)
    codes[3, ::2], codes[5, 1] = 255, 0
    zeros = np.full(24, 127, np.uint8)
    scales = w.rng.uniform(0.001, 0.02, 24).astype(np.float32)
    inputs = [w.constant("w", codes), w.constant("ws", scales), w.constant("wz", zeros)]
    matrix = w.node("DequantizeLinear", inputs, "wd", axis=1)
    y = w.node("MatMul", [w.through("x", 0.03, 7, np.uint8), matrix], "y")
    model = w.model({"x": (TensorProto.FLOAT, ["M", 40])}, {y: TensorProto.FLOAT})
    plan = planck.build(model)
    assert families(plan) == ["eltwise", "qproduct"]
    x = w.rng.normal(0, 2, (11, 40)).astype(np.float32)
    acc = (quantised(x, 0.03, 7, np.uint8) - 7) @ (codes.astype(np.int64) - 127)
    unit = (np.float64(np.float32(0.03)) * scales).astype(np.float32)
    np.testing.assert_array_equal(plan.run({"x": x})["y"], acc.astype(np.float32) * unit)


def test_qlinearconv_beside_onnxruntime(record_property) -> None:
    """Unsigned weights: the form in which no kernel of ONNX Runtime saturates pairs of products."""
    ort = pytest.importorskip("onnxruntime")
    model, x, _, _ = operators(31, True)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": x})
    ours = planck.build(model).run({"x": x})["y2"]
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    record_property("elements that differ by one", int((apart == 1).sum()))
    assert apart.max() <= 1
    assert (apart == 1).mean() < 0.01  # a chain of three: flips at borders of bins, few of them
