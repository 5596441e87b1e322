"""Small models in the spelling of each tool that writes quantised ONNX.

One function for a row of the table of producers: what their exporters emit, with `onnx.helper` and
random numbers. Every model reads "x" and gives "y".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.python.halves import in_half

Array = NDArray[Any]
MICROSOFT = "com.microsoft"
F = np.float32
FLOAT = TensorProto.FLOAT


@dataclass(frozen=True)
class Fixture:
    """A model, its input, and what should become of it.

    products: weighted ops that read a DequantizeLinear and a constant on a grid of bytes.
    floats: weighted ops that do not, since their types have no integer kernel.
    step: what one flipped rounding may change in an element of "y".
    oracle: computes "y" from "x" where ONNX Runtime cannot run the model.
    """

    name: str
    model: ModelProto
    x: Array
    products: int
    floats: int = 0
    step: float = 0.0
    oracle: Callable[[Array], Array] | None = None


@dataclass
class Builder:
    """Nodes and initializers of one graph; values are known by name."""

    seed: int = 1
    nodes_: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def constant(self, values: Array) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def nodes(
        self, op: str, *inputs: str, outputs: int, domain: str = "", **attrs: Any
    ) -> list[str]:
        """The results' names."""
        names = [f"v{len(self.nodes_)}_{i}" for i in range(outputs)]
        name = f"{op}_{len(self.nodes_)}"
        self.nodes_.append(helper.make_node(op, inputs, names, name, domain=domain, **attrs))
        return names

    def node(self, op: str, *inputs: str, domain: str = "", **attrs: Any) -> str:
        """The one result's name."""
        return self.nodes(op, *inputs, outputs=1, domain=domain, **attrs)[0]

    def fused(self, op: str, *inputs: str, **attrs: Any) -> str:
        """A node of ONNX Runtime's own domain."""
        return self.node(op, *inputs, domain=MICROSOFT, **attrs)

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        return (scale * self.random.standard_normal(shape)).astype(F)

    def integers(self, shape: tuple[int, ...], dtype: Any, most: int = 127) -> Array:
        """Of the whole range of the type, or in [-most, most] around its middle."""
        middle = 128 if np.dtype(dtype) == np.uint8 else 0
        return (middle + self.random.integers(-most, most + 1, shape)).astype(dtype)

    def model(
        self,
        y: str,
        shape: tuple[Any, ...],
        *,
        opset: int = 17,
        kind: int = FLOAT,
        out: int = FLOAT,
        domains: tuple[str, ...] = (),
    ) -> ModelProto:
        """shape: of "x"; kind and out: element types of "x" and "y"."""
        self.nodes_.append(helper.make_node("Identity", [y], ["y"], "result"))
        x = helper.make_tensor_value_info("x", kind, shape)
        result = helper.make_tensor_value_info("y", out, None)
        graph = helper.make_graph(self.nodes_, "dialect", [x], [result], self.weights)
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10 if opset > 18 else 8)


def scalar(value: float, dtype: Any = F) -> Array:
    return np.array(value, dtype)


def channel_scales(w: Array, axis: int, most: int = 127) -> Array:
    """max |w| / most along all other axes: [channels], float32."""
    others = tuple(i for i in range(w.ndim) if i != axis)
    return np.asarray(np.abs(w).max(axis=others) / most, F)


# --- Q/DQ ------------------------------------------------------------------------------------


def pytorch_quantization(opset: int = 13) -> Fixture:
    """int8 around zero, float weights through Q and DQ on axis 0, opset 13; activations too."""
    b = Builder()
    zero, step = b.constant(scalar(0, np.int8)), b.constant(scalar(0.03))

    def fake(v: str) -> str:
        return b.node("DequantizeLinear", b.node("QuantizeLinear", v, step, zero), step, zero)

    def weight(w: Array) -> str:
        scale = b.constant(channel_scales(w, 0))
        zeros = b.constant(np.zeros(w.shape[0], np.int8))
        q = b.node("QuantizeLinear", b.constant(w), scale, zeros, axis=0)
        return b.node("DequantizeLinear", q, scale, zeros, axis=0)

    conv = b.node("Conv", fake("x"), weight(b.normal(8, 3, 3, 3)), pads=[1, 1, 1, 1])
    y = b.node("Relu", b.node("Add", conv, b.constant(b.normal(1, 8, 1, 1))))
    rows = b.node("Flatten", b.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))
    turned = b.node("Transpose", weight(b.normal(5, 72)), perm=[1, 0])
    y = b.node("MatMul", fake(rows), turned)
    x = b.normal(2, 3, 6, 6)
    return Fixture("pytorch_quantization", b.model(y, ("N", 3, 6, 6), opset=opset), x, 2, step=0.1)


def pytorch_quantization_half(scales: bool) -> Fixture:
    """The same exported by `model.half()`, Q and DQ between Casts; or with scales of float16."""
    wide = pytorch_quantization(19 if scales else 13)
    name = "pytorch_quantization_half_scales" if scales else "pytorch_quantization_half"
    model = in_half(wide.model, scales=scales)
    return Fixture(name, model, wide.x.astype(np.float16), 2, step=0.1)


def modelopt_weights() -> Fixture:
    """int8 weights with DQ alone; a transposed convolution with its channels on axis 1."""
    b = Builder()
    zero, step = b.constant(scalar(0, np.int8)), b.constant(scalar(0.03))

    def stored(shape: tuple[int, ...], axis: int) -> str:
        scales = b.constant((0.001 + 0.01 * b.random.random(shape[axis])).astype(F))
        zeros = b.constant(np.zeros(shape[axis], np.int8))
        return b.node(
            "DequantizeLinear", b.constant(b.integers(shape, np.int8)), scales, zeros, axis=axis
        )

    def fake(v: str) -> str:
        return b.node("DequantizeLinear", b.node("QuantizeLinear", v, step, zero), step, zero)

    y = b.node("Conv", fake("x"), stored((4, 3, 1, 1), 0))
    y = b.node("ConvTranspose", fake(y), stored((4, 2, 2, 2), 1), strides=[2, 2])
    x = b.normal(2, 3, 5, 5)
    return Fixture("modelopt_weights", b.model(y, ("N", 3, 5, 5)), x, 2, step=0.06)


def modelopt_half() -> Fixture:
    """A float16 model whose Q and DQ have scales of float32 between Casts."""
    b = Builder()
    zero, step = b.constant(scalar(0, np.int8)), b.constant(scalar(0.03))
    wide = b.node("Cast", "x", to=FLOAT)
    d = b.node("DequantizeLinear", b.node("QuantizeLinear", wide, step, zero), step, zero)
    d = b.node("Cast", d, to=TensorProto.FLOAT16)
    scale = b.constant((0.001 + 0.01 * b.random.random(5)).astype(F))
    zeros = b.constant(np.zeros(5, np.int8))
    w = b.node("DequantizeLinear", b.constant(b.integers((5, 16), np.int8)), scale, zeros, axis=0)
    w = b.node("Cast", w, to=TensorProto.FLOAT16)
    y = b.node("Gemm", d, w, transB=1)
    half = TensorProto.FLOAT16
    model = b.model(y, ("N", 16), kind=half, out=half)
    return Fixture("modelopt_half", model, b.normal(4, 16).astype(np.float16), 1, step=0.02)


def half_scales() -> Fixture:
    """Scales of float16, as opset 19 has them: Q, DQ and the product are in half precision."""
    b = Builder()
    zero, step = b.constant(scalar(0, np.int8)), b.constant(scalar(0.03, np.float16))
    d = b.node("DequantizeLinear", b.node("QuantizeLinear", "x", step, zero), step, zero)
    scale = b.constant((0.001 + 0.01 * b.random.random(5)).astype(np.float16))
    zeros = b.constant(np.zeros(5, np.int8))
    w = b.node("DequantizeLinear", b.constant(b.integers((5, 16), np.int8)), scale, zeros, axis=0)
    half = TensorProto.FLOAT16
    model = b.model(b.node("Gemm", d, w, transB=1), ("N", 16), opset=19, kind=half, out=half)
    return Fixture("half_scales", model, b.normal(4, 16).astype(np.float16), 1, step=0.02)


def torch_quantized(dtype: Any, high: int) -> Fixture:
    """TorchScript: reduced range by a Clip between Q and DQ; parameters come through Cast."""
    b = Builder()
    low = 0 if dtype == np.uint8 else -64
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    zero = b.node("Cast", b.constant(scalar(40 if low == 0 else 3, np.int64)), to=number)
    step = b.node("Cast", b.constant(scalar(0.05, np.float64)), to=FLOAT)
    q = b.node("QuantizeLinear", "x", step, zero)
    q = b.node("Clip", q, b.constant(scalar(low, dtype)), b.constant(scalar(high, dtype)))
    d = b.node("DequantizeLinear", q, step, zero)
    w = b.normal(6, 16)
    scale, zeros = b.constant(channel_scales(w, 0)), b.constant(np.zeros(6, np.int8))
    qw = b.node("QuantizeLinear", b.constant(w), scale, zeros, axis=0)
    dw = b.node("DequantizeLinear", qw, scale, zeros, axis=0)
    y = b.node("Gemm", d, dw, b.constant(b.normal(6)), transB=1)
    name = f"torch_quantized_{np.dtype(dtype).name}"
    return Fixture(name, b.model(y, ("N", 16)), b.normal(4, 16, scale=2), 1, step=0.2)


def torch_dynamo(dtype: Any) -> Fixture:
    """Fake quantisation taken apart: Mul, Round, Add, Clip, Sub, Mul; weights on axis 0."""
    b = Builder()
    signed = dtype == np.int8
    ends, zero = ((-128, 127), 0) if signed else ((0, 255), 114)

    def fake(v: str, scale: Array, zero: int, ends: tuple[int, int], through: int = 0) -> str:
        y = b.node("Round", b.node("Mul", v, b.constant((F(1) / scale).astype(F))))
        if zero != 0:
            y = b.node("Add", y, b.constant(scalar(zero)))
        y = b.node("Clip", y, b.constant(scalar(ends[0])), b.constant(scalar(ends[1])))
        if through != 0:  # stored between as what it is
            y = b.node("Cast", b.node("Cast", y, to=through), to=FLOAT)
        if zero != 0:
            y = b.node("Sub", y, b.constant(scalar(zero)))
        return b.node("Mul", y, b.constant(scale))

    w = b.normal(6, 16)
    weight = fake(b.constant(w), channel_scales(w, 0).reshape(6, 1), 0, (-127, 127))
    through = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    y = b.node("Gemm", fake("x", scalar(0.04), zero, ends, through), weight, transB=1)
    model = b.model(y, ("N", 16), opset=18)
    return Fixture(f"torch_dynamo_{np.dtype(dtype).name}", model, b.normal(4, 16), 1, step=0.2)


def brevitas(bits: int) -> Fixture:
    """QCDQ: narrow ranges and fewer bits than eight by a Clip of int8."""
    b = Builder()
    most = 2 ** (bits - 1) - 1
    zero = b.constant(scalar(0, np.int8))
    ends = b.constant(scalar(-most, np.int8)), b.constant(scalar(most, np.int8))
    step = b.constant(scalar(3.0 / most))
    q = b.node("Clip", b.node("QuantizeLinear", "x", step, zero), *ends)
    d = b.node("DequantizeLinear", q, step, zero)
    w = b.normal(6, 16)
    scale, zeros = b.constant(channel_scales(w, 0, most)), b.constant(np.zeros(6, np.int8))
    qw = b.node("Clip", b.node("QuantizeLinear", b.constant(w), scale, zeros, axis=0), *ends)
    dw = b.node("DequantizeLinear", qw, scale, zeros, axis=0)
    y = b.node("Gemm", d, dw, transB=1)
    return Fixture(f"brevitas_{bits}", b.model(y, ("N", 16)), b.normal(4, 16), 1, step=9.0 / most)


def runtime_qdq(dtype: Any, opset: int) -> Fixture:
    """ONNX Runtime's static quantizer: zero points, DQ alone on weights and int32 biases, Q behind.

    MobileNet-like: convolution, Clip to 6, depthwise convolution, residual sum.
    """
    b = Builder()
    signed = dtype == np.int8
    near_zero, low = (
        (scalar(-3, dtype), scalar(-128, dtype))
        if signed
        else (scalar(131, dtype), scalar(0, dtype))
    )

    def requantized(v: str, scale: float, zero: Array) -> str:
        s, z = b.constant(scalar(scale)), b.constant(zero)
        return b.node("DequantizeLinear", b.node("QuantizeLinear", v, s, z), s, z)

    def conv(v: str, scale: float, shape: tuple[int, ...], **attrs: Any) -> str:
        along: dict[str, Any] = {"axis": 0} if opset >= 13 else {}  # one scale before
        several = shape[:1] if opset >= 13 else ()
        ws = np.asarray(0.002 + 0.002 * b.random.random(several), F)
        zeros = b.constant(np.zeros(several, np.int8))
        integers = b.constant(b.integers(shape, np.int8))
        w = b.node("DequantizeLinear", integers, b.constant(ws), zeros, **along)
        wide = b.random.integers(-2000, 2000, shape[0]).astype(np.int32)
        bs = b.constant(np.asarray(ws * F(scale)))
        bias = b.node("DequantizeLinear", b.constant(wide), bs, **along)
        return b.node("Conv", v, w, bias, **attrs)

    def clip(v: str) -> str:
        if opset < 11:
            return b.node("Clip", v, min=0.0, max=6.0)
        return b.node("Clip", v, b.constant(scalar(0)), b.constant(scalar(6)))

    x = requantized("x", 0.04, near_zero)
    y = requantized(clip(conv(x, 0.04, (8, 4, 1, 1))), 6 / 255, low)
    y = conv(y, 6 / 255, (8, 1, 3, 3), pads=[1, 1, 1, 1], group=8)
    y = requantized(b.node("Relu", y), 0.02, low)
    y = requantized(conv(y, 0.02, (4, 8, 1, 1)), 0.03, near_zero)
    y = requantized(b.node("Add", y, x), 0.05, near_zero)
    model = b.model(y, ("N", 4, 6, 6), opset=opset)
    name = f"runtime_qdq_{np.dtype(dtype).name}_{opset}"
    return Fixture(name, model, b.normal(2, 4, 6, 6), 3, step=0.05)


def tf2onnx() -> Fixture:
    """FakeQuantWithMinMaxVars: uint8 with a nudged zero point, channels last, opset 11."""
    b = Builder()

    def fake(v: str, low: float, high: float) -> str:
        step = (high - low) / 255
        zero = b.constant(scalar(round(-low / step), np.uint8))
        s = b.constant(scalar(step))
        return b.node("DequantizeLinear", b.node("QuantizeLinear", v, s, zero), s, zero)

    x = b.node("Transpose", fake("x", -2.7, 3.1), perm=[0, 3, 1, 2])
    w = b.normal(8, 3, 3, 3, scale=0.2)
    y = b.node("Conv", x, fake(b.constant(w), -0.508, 0.512), strides=[2, 2])
    y = b.node("Relu", y)
    y = b.node("Transpose", y, perm=[0, 2, 3, 1])
    y = fake(y, 0.0, 6.0)
    model = b.model(y, ("N", 9, 9, 3), opset=11)
    return Fixture("tf2onnx", model, b.normal(2, 9, 9, 3), 1, step=6 / 255)


def mobile_zoo() -> Fixture:
    """Identity and Cast between Q, DQ and their parameters; scales of shape (1,)."""
    b = Builder()

    def same(v: str) -> str:
        return b.node("Identity", b.node("Identity", v))

    def fake(v: str, scale: float, zero: int) -> str:
        s = same(b.constant(np.array([scale], F)))
        z = same(b.node("Cast", b.constant(np.array([zero], np.int32)), to=TensorProto.UINT8))
        q = same(b.node("QuantizeLinear", same(v), s, z))
        return same(b.node("DequantizeLinear", q, s, z))

    w = b.normal(8, 3, 1, 1)
    y = b.node("Conv", fake("x", 0.03, 114), fake(b.constant(w), 0.02, 128))
    y = b.node("Clip", y, b.constant(scalar(0)), b.constant(scalar(6)))
    y = fake(y, 6 / 255, 0)
    y = b.node("Conv", y, fake(b.constant(b.normal(4, 8, 1, 1)), 0.02, 128))
    model = b.model(y, ("N", 3, 5, 5), opset=13)
    return Fixture("mobile_zoo", model, b.normal(2, 3, 5, 5), 2, step=0.1)


# --- operators on integers ---------------------------------------------------------------------


def operators(dtype: Any) -> Fixture:
    """ONNX Runtime's QOperator form. Weights of seven bits: nothing saturates on any machine."""
    b = Builder()
    signed = dtype == np.int8
    zero, low = (
        b.constant(scalar(-5 if signed else 123, dtype)),
        b.constant(scalar(-128 if signed else 0, dtype)),
    )

    def number(value: float) -> str:
        return b.constant(scalar(value))

    def conv(v: str, scale: str, at: str, shape: tuple[int, ...], **attrs: Any) -> str:
        w = b.constant(b.integers(shape, np.int8, 63))
        ws = b.constant((0.002 + 0.002 * b.random.random(shape[0])).astype(F))
        wz = b.constant(np.zeros(shape[0], np.int8))
        bias = b.constant(b.random.integers(-900, 900, shape[0]).astype(np.int32))
        return b.node("QLinearConv", v, scale, at, w, ws, wz, number(0.02), low, bias, **attrs)

    s = number(0.03)
    x = b.node("QuantizeLinear", "x", s, zero)
    y = conv(x, s, zero, (6, 4, 3, 3), pads=[1, 1, 1, 1])
    mine = number(0.02)
    y = b.fused("QLinearLeakyRelu", y, mine, low, mine, low, alpha=0.1)
    y = b.fused("QLinearSigmoid", y, mine, low, number(1 / 256), low)
    half = number(1 / 256)
    y = b.fused("QLinearMul", y, half, low, y, half, low, half, low)
    y = b.fused("QLinearConcat", half, low, y, half, low, y, half, low, axis=1)
    y = b.fused("QLinearAveragePool", y, half, low, half, low, kernel_shape=[2, 2], strides=[2, 2])
    y = conv(y, half, low, (5, 12, 1, 1))
    y = b.fused("QLinearAdd", y, mine, low, y, mine, low, mine, low)
    y = b.fused("QLinearGlobalAveragePool", y, mine, low, mine, low)
    y = b.node("Flatten", y)
    bs, bz = number(0.004), b.constant(scalar(0, np.int8))
    w = b.constant(b.integers((5, 7), np.int8, 63))
    y = b.node("QLinearMatMul", y, mine, low, w, bs, bz, number(0.02), zero)
    w = b.constant(b.integers((3, 7), np.int8, 63))
    ws = b.constant((0.002 + 0.002 * b.random.random(3)).astype(F))
    wz = b.constant(np.zeros(3, np.int8))
    bias = b.constant(b.random.integers(-900, 900, 3).astype(np.int32))
    gemm = (w, ws, wz, bias, number(0.01), zero)
    y = b.fused("QGemm", y, mine, zero, *gemm, transB=1)
    y = b.node("DequantizeLinear", y, number(0.01), zero)
    model = b.model(y, ("N", 4, 6, 6), domains=(MICROSOFT,))
    return Fixture(f"operators_{np.dtype(dtype).name}", model, b.normal(2, 4, 6, 6), 4, step=0.02)


def dynamic(columns: bool) -> Fixture:
    """Dynamic quantisation: DynamicQuantizeLinear, MatMulInteger, Cast, Mul; one scale or several.

    Two products share one input, as query and key do.
    """
    b = Builder()
    q, scale, zero = b.nodes("DynamicQuantizeLinear", "x", outputs=3)

    def product(width: int) -> str:
        w = b.constant(b.integers((16, width), np.int8, 63))
        ws = (0.002 + 0.002 * b.random.random(width if columns else ())).astype(F)
        wz = b.constant(np.zeros(width if columns else (), np.int8))
        wide = b.node("Cast", b.node("MatMulInteger", q, w, zero, wz), to=FLOAT)
        y = b.node("Mul", wide, b.node("Mul", scale, b.constant(np.asarray(ws))))
        return b.node("Add", y, b.constant(b.normal(width)))

    y = b.node("Concat", product(6), product(3), axis=-1)
    name = "dynamic_columns" if columns else "dynamic"
    # Both products become one.
    return Fixture(name, b.model(y, ("N", "L", 16)), b.normal(2, 5, 16), 1, step=0.05)


def dynamic_fused() -> Fixture:
    """The same after ONNX Runtime's optimizer: DynamicQuantizeMatMul and MatMulIntegerToFloat."""
    b = Builder()
    scale, zero = b.constant(scalar(0.003)), b.constant(scalar(0, np.int8))
    w = b.constant(b.integers((16, 6), np.int8, 63))
    y = b.fused("DynamicQuantizeMatMul", "x", w, scale, zero, b.constant(b.normal(6)))
    q, step, at = b.nodes("DynamicQuantizeLinear", y, outputs=3)
    w = b.constant(b.integers((6, 4), np.int8, 63))
    more = (step, scale, at, zero, b.constant(b.normal(4)))
    y = b.fused("MatMulIntegerToFloat", q, w, *more)
    model = b.model(y, ("N", 16), domains=(MICROSOFT,))
    return Fixture("dynamic_fused", model, b.normal(4, 16), 2, step=0.05)


def dynamic_conv() -> Fixture:
    """ConvInteger behind DynamicQuantizeLinear."""
    b = Builder()
    q, scale, zero = b.nodes("DynamicQuantizeLinear", "x", outputs=3)
    w = b.constant(b.integers((4, 3, 3, 3), np.int8, 63))
    sums = b.node("ConvInteger", q, w, zero, b.constant(scalar(0, np.int8)), pads=[1, 1, 1, 1])
    y = b.node("Cast", sums, to=FLOAT)
    y = b.node("Mul", y, b.node("Mul", scale, b.constant(scalar(0.003))))
    return Fixture("dynamic_conv", b.model(y, ("N", 3, 6, 6)), b.normal(2, 3, 6, 6), 1, step=0.02)


# --- other widths ------------------------------------------------------------------------------


def sixteen_bits() -> Fixture:
    """int16 activations (opset 21): float Q/DQ around a product with int8 weights."""
    b = Builder()
    step, zero = b.constant(scalar(0.0002)), b.constant(scalar(0, np.int16))
    d = b.node("DequantizeLinear", b.node("QuantizeLinear", "x", step, zero), step, zero)
    w = b.constant(b.integers((16, 6), np.int8))
    dw = b.node("DequantizeLinear", w, b.constant(scalar(0.01)), b.constant(scalar(0, np.int8)))
    model = b.model(b.node("MatMul", d, dw), ("N", 16), opset=21)
    return Fixture("sixteen_bits", model, b.normal(4, 16), 1, step=0.001)


def blocks(dtype: Any) -> Fixture:
    """Weights with a scale for each block of 8 rows (opset 21), of eight or four bits."""
    b = Builder()
    narrow = dtype == ml_dtypes.int4
    w = b.integers((16, 6), np.int8, 7 if narrow else 127).astype(dtype)
    scale = b.constant((0.01 + 0.1 * b.random.random((2, 6))).astype(F))
    dw = b.node("DequantizeLinear", b.constant(w), scale, axis=0, block_size=8)
    model = b.model(b.node("MatMul", "x", dw), ("N", 16), opset=21)
    name = f"blocks_{np.dtype(dtype).name}"
    return Fixture(name, model, b.normal(4, 16), 0, 1)


def four_bits(dtype: Any) -> Fixture:
    """Weights of four bits with a scale for each column, and activations of four bits."""
    b = Builder()
    signed = dtype == ml_dtypes.int4
    w = b.integers((16, 6), np.int8, 7) + (0 if signed else 8)
    zero = 0 if signed else 8
    scale = b.constant((0.1 + 0.1 * b.random.random(6)).astype(F))
    zeros = b.constant(np.full(6, zero).astype(dtype))
    dw = b.node("DequantizeLinear", b.constant(w.astype(dtype)), scale, zeros, axis=1)
    step, at = b.constant(scalar(0.4)), b.constant(np.array(zero).astype(dtype))
    d = b.node("DequantizeLinear", b.node("QuantizeLinear", "x", step, at), step, at)
    model = b.model(b.node("MatMul", d, dw), ("N", 16), opset=21)
    return Fixture(f"four_bits_{np.dtype(dtype).name}", model, b.normal(4, 16), 0, 1, step=0.6)


def float8(dtype: Any) -> Fixture:
    """Activations and weights in eight-bit floats (opset 19)."""
    b = Builder()
    zero = b.constant(np.array(0).astype(dtype))
    step = b.constant(scalar(0.01))
    d = b.node("DequantizeLinear", b.node("QuantizeLinear", "x", step, zero), step, zero)
    w = b.normal(16, 6, scale=50).astype(dtype)
    dw = b.node("DequantizeLinear", b.constant(w), b.constant(scalar(0.02)), zero)
    model = b.model(b.node("MatMul", d, dw), ("N", 16), opset=19)
    return Fixture(np.dtype(dtype).name, model, b.normal(4, 16), 0, 1, step=0.5)


def tensorrt_custom() -> Fixture:
    """Ops of domain trt: eight-bit floats around a product, four-bit weights in blocks."""
    b = Builder()
    step = scalar(0.02)
    q = b.node("TRT_FP8QuantizeLinear", "x", b.constant(step), domain="trt")
    d = b.node("TRT_FP8DequantizeLinear", q, b.constant(step), domain="trt")
    w = b.integers((16, 6), np.int8, 7).astype(ml_dtypes.int4)
    scale = (0.01 + 0.1 * b.random.random((2, 6))).astype(F)
    weights = (b.constant(w), b.constant(scale))
    dw = b.node("TRT_INT4DequantizeLinear", *weights, domain="trt", axis=0, block_size=8)
    model = b.model(b.node("MatMul", d, dw), ("N", 16), opset=21, domains=("trt",))

    def oracle(x: Array) -> Array:
        stored = np.clip(x / step, -448, 448).astype(ml_dtypes.float8_e4m3fn)
        wide = w.astype(np.float64) * np.repeat(scale, 8, axis=0)
        return np.asarray(stored.astype(np.float64) * float(step) @ wide)

    return Fixture("tensorrt_custom", model, b.normal(4, 16), 0, 1, step=0.2, oracle=oracle)


def fixtures() -> Iterator[Fixture]:
    """All of them, by name."""
    yield pytorch_quantization()
    yield pytorch_quantization_half(scales=False)
    yield pytorch_quantization_half(scales=True)
    yield modelopt_weights()
    yield modelopt_half()
    yield half_scales()
    yield torch_quantized(np.uint8, 127)
    yield torch_quantized(np.int8, 63)
    yield torch_dynamo(np.int8)
    yield torch_dynamo(np.uint8)
    yield brevitas(8)
    yield brevitas(4)
    for dtype in (np.int8, np.uint8):
        for opset in (10, 13, 19, 21, 25):
            yield runtime_qdq(dtype, opset)
    yield tf2onnx()
    yield mobile_zoo()
    yield operators(np.int8)
    yield operators(np.uint8)
    yield dynamic(columns=False)
    yield dynamic(columns=True)
    yield dynamic_fused()
    yield dynamic_conv()
    yield sixteen_bits()
    yield blocks(np.int8)
    yield blocks(ml_dtypes.int4)
    yield four_bits(ml_dtypes.int4)
    yield four_bits(ml_dtypes.uint4)
    yield float8(ml_dtypes.float8_e4m3fn)
    yield float8(ml_dtypes.float8_e5m2)
    yield tensorrt_custom()
