"""Small models that the fuzzer damages: python seeds.py FOLDER writes them.

Each is a few KB and reaches other code: a transformer block, old opsets, functions and sub-graphs,
weights beside the model, shapes computed from shapes or found out by a run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Node = onnx.NodeProto
F32, I64 = TensorProto.FLOAT, TensorProto.INT64


def port(name: str, dtype: int, dims: Sequence[int | str] | None) -> onnx.ValueInfoProto:
    """An input or output."""
    return helper.make_tensor_value_info(name, dtype, dims)


class Model:
    """Collects nodes and weights; weights have fixed seeds, so that files are always the same."""

    def __init__(self, opset: int = 17) -> None:
        self.opset = opset
        self.nodes: list[Node] = []
        self.weights: list[TensorProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.domains: list[str] = []
        self._random = np.random.default_rng(7)

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Adds a node and returns the name of its first output."""
        name = f"{op.lower()}{len(self.nodes)}"
        names = [name] + [f"{name}_{i}" for i in range(1, outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """Adds random float32 numbers."""
        return self.tensor(self._random.normal(scale=0.1, size=shape).astype(np.float32))

    def tensor(self, values: object, dtype: type | None = None) -> str:
        """Adds given numbers."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def proto(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The whole model."""
        graph = helper.make_graph(self.nodes, "seed", inputs, outputs, self.weights)
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(domain, 1) for domain in self.domains]
        return helper.make_model(
            graph, opset_imports=imports, functions=self.functions, ir_version=9
        )


def norm(m: Model, x: str, width: int) -> str:
    """LayerNorm as exporters spell it."""
    centred = m.node("Sub", x, m.node("ReduceMean", x, axes=[-1]))
    square = m.node("Pow", centred, m.tensor(2, np.float32))
    variance = m.node("ReduceMean", square, axes=[-1])
    root = m.node("Sqrt", m.node("Add", variance, m.tensor(1e-5, np.float32)))
    scaled = m.node("Mul", m.node("Div", centred, root), m.weight(width))
    return m.node("Add", scaled, m.weight(width))


def linear(m: Model, x: str, rows: int, columns: int) -> str:
    """Product and bias."""
    return m.node("Add", m.node("MatMul", x, m.weight(rows, columns)), m.weight(columns))


def heads(m: Model, x: str, perm: list[int]) -> str:
    """[batch, length, 8] to two heads."""
    return m.node("Transpose", m.node("Reshape", x, m.tensor([0, 0, 2, 4])), perm=perm)


def block() -> onnx.ModelProto:
    """Embeddings, attention with a mask, GELU, norms: what the fusions look for."""
    m = Model()
    x = norm(m, m.node("Add", m.node("Gather", m.weight(16, 8), "ids"), m.weight(4, 8)), 8)
    mask = m.node("Unsqueeze", m.node("Cast", "mask", to=F32), m.tensor([1, 2]))
    bias = m.node("Mul", m.node("Sub", m.tensor(1, np.float32), mask), m.tensor(-1e9, np.float32))
    q = heads(m, linear(m, x, 8, 8), [0, 2, 1, 3])
    k = heads(m, linear(m, x, 8, 8), [0, 2, 3, 1])
    v = heads(m, linear(m, x, 8, 8), [0, 2, 1, 3])
    scores = m.node("Div", m.node("MatMul", q, k), m.tensor(2, np.float32))
    weights = m.node("Softmax", m.node("Add", scores, bias), axis=-1)
    mixed = m.node("Transpose", m.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    merged = m.node("Reshape", mixed, m.tensor([0, 0, 8]))
    x = norm(m, m.node("Add", linear(m, merged, 8, 8), x), 8)
    h = linear(m, x, 8, 16)
    gate = m.node("Erf", m.node("Div", h, m.tensor(1.4142135, np.float32)))
    gate = m.node("Add", gate, m.tensor(1, np.float32))
    gelu = m.node("Mul", m.node("Mul", h, gate), m.tensor(0.5, np.float32))
    y = norm(m, m.node("Add", linear(m, gelu, 16, 8), x), 8)
    ids = [port("ids", I64, ["batch", 4]), port("mask", I64, ["batch", 4])]
    return m.proto(ids, [port(y, F32, ["batch", 4, 8])])


def shapes() -> onnx.ModelProto:
    """Shape arithmetic, slices, splits, and ops without a kernel."""
    m = Model()
    rows = m.node("Gather", m.node("Shape", "x"), m.tensor(0))
    wish = m.node("Concat", m.node("Unsqueeze", rows, m.tensor([0])), m.tensor([2, -1]), axis=0)
    y = m.node("Reshape", "x", wish)
    y = m.node("Slice", y, m.tensor([0]), m.tensor([-1]), m.tensor([2]), m.tensor([1]))
    m.node("Split", y, outputs=2, axis=1)
    first, second = m.nodes[-1].output
    y = m.node("Concat", second, first, axis=-1)
    y = m.node("Pad", y, m.tensor([0, 0, 1, 0, 0, 1]))
    y = m.node("CumSum", m.node("Squeeze", y, m.tensor([1])), m.tensor(1))
    ones = m.node(
        "ConstantOfShape", m.node("Shape", y), value=helper.make_tensor("v", F32, [1], [1])
    )
    clipped = m.node("Clip", y, "", m.tensor(3, np.float32))
    y = m.node("Where", m.node("Less", y, ones), m.node("Trilu", y), clipped)
    y = m.node("Expand", m.node("ReduceMax", y, keepdims=1, axes=[1]), m.tensor([1, 5]))
    m.node("TopK", y, m.tensor([2]), outputs=2)
    y = m.node("OneHot", m.nodes[-1].output[1], m.tensor(4), m.tensor([0, 1], np.float32))
    y = m.node("Tile", y, m.tensor([1, 2, 1]))
    ramp = m.node(
        "Range", m.tensor(0), m.node("Gather", m.node("Shape", y), m.tensor(2)), m.tensor(1)
    )
    y = m.node("Mul", y, m.node("Cast", ramp, to=F32))
    return m.proto([port("x", F32, ["N", 8])], [port(y, F32, None)])


def windows() -> onnx.ModelProto:
    """Convolutions, pools, rearranged pixels, samples."""
    m = Model()
    y = m.node("Conv", "x", m.weight(4, 2, 3, 3), m.weight(4), pads=[1, 1, 1, 1], strides=[2, 1])
    y = m.node("MaxPool", m.node("Relu", y), kernel_shape=[2, 2], ceil_mode=1)
    y = m.node("Conv", y, m.weight(4, 2, 1, 1), group=2, auto_pad="SAME_UPPER")
    y = m.node("ConvTranspose", y, m.weight(4, 2, 2, 2), strides=[2, 2], output_padding=[1, 0])
    y = m.node("AveragePool", y, kernel_shape=[2, 2], count_include_pad=1, pads=[1, 0, 1, 0])
    y = m.node("LRN", y, size=3)
    deep = m.node("DepthToSpace", m.node("Concat", y, y, axis=1), blocksize=2)
    y = m.node("SpaceToDepth", deep, blocksize=1)
    y = m.node("LpPool", y, kernel_shape=[1, 2], p=1)
    grid = m.node("Transpose", "x", perm=[0, 2, 3, 1])
    y = m.node("GridSample", y, grid, padding_mode="reflection")
    regions = m.tensor([[0, 0, 3, 3], [1, 1, 2, 4]], np.float32)
    y = m.node("RoiAlign", y, regions, m.tensor([0, 0]), output_height=2, output_width=3)
    return m.proto([port("x", F32, ["N", 2, 6, 7])], [port(y, F32, None)])


def quantized() -> onnx.ModelProto:
    """Quantised products and convolutions, scatters, sequences, bits."""
    m = Model()
    scale, zero = m.tensor([0.1, 0.2, 0.3, 0.4], np.float32), m.tensor([1, 2, 3, 4], np.uint8)
    q = m.node("QuantizeLinear", "x", scale, zero, axis=1)
    y = m.node("DequantizeLinear", q, scale, zero, axis=1)
    one, byte = m.tensor(0.5, np.float32), m.tensor(3, np.uint8)
    weight = m.tensor(np.arange(24).reshape(4, 6), np.uint8)
    p = m.node("QLinearMatMul", q, one, byte, weight, one, byte, one, byte)
    i = m.node("MatMulInteger", q, weight, byte, byte)
    s = m.node("Add", m.node("Cast", i, to=F32), m.node("DequantizeLinear", p, one, byte))
    rows = m.tensor([[0, 1, 2, 3, 0, 1]])
    s = m.node("ScatterElements", s, rows, m.weight(1, 6), axis=1)
    s = m.node("ScatterND", s, m.tensor([[0, 1]]), m.tensor([7], np.float32))
    turned = m.node("Transpose", s, perm=[1, 0])
    lengths = m.tensor([1, 0, 2, 1, 0, 2])
    turned = m.node("ReverseSequence", turned, lengths, time_axis=1, batch_axis=0)
    s = m.node("Transpose", turned, perm=[1, 0])
    c = m.node("Unsqueeze", q, m.tensor([1]))
    k = m.tensor(np.ones((2, 1, 2)), np.uint8)
    c = m.node("QLinearConv", c, one, byte, k, one, byte, one, byte)
    c = m.node("ReduceMax", m.node("DequantizeLinear", c, one, byte), axes=[1, 2], keepdims=0)
    y = m.node("Add", m.node("ReduceSum", y, m.tensor([1]), keepdims=0), c)
    y = m.node("Add", y, m.node("ReduceMax", s, axes=[1], keepdims=0))
    return m.proto([port("x", F32, ["N", 4])], [port(y, F32, None)])


def pixels() -> onnx.ModelProto:
    """Bytes in memory: a table, a pool, sums of dequantised values, a scale of the data."""
    m = Model(21)
    one, byte = m.tensor(0.05, np.float32), m.tensor(128, np.uint8)
    gate = m.node("Sigmoid", m.node("DequantizeLinear", "x", one, byte))
    table = m.node("QuantizeLinear", gate, one, byte)
    turned = m.node("Transpose", table, perm=[0, 2, 3, 1])
    turned = m.node("Concat", turned, turned, axis=3)
    back = m.node("Transpose", turned, perm=[0, 3, 1, 2])
    pooled = m.node("MaxPool", back, kernel_shape=[2, 2], pads=[1, 0, 0, 1])
    y = m.node("DequantizeLinear", pooled, one, byte)
    y = m.node("Add", m.node("Add", y, m.node("Cast", pooled, to=F32)), y)
    m.node("DynamicQuantizeLinear", y, outputs=3)
    y = m.node("DequantizeLinear", *m.nodes[-1].output)
    return m.proto([port("x", TensorProto.UINT8, ["N", 2, 3, 5])], [port(y, F32, None)])


def integers() -> onnx.ModelProto:
    """Products of integers: convolutions in a row, a residual of bytes, rows, a dynamic scale."""
    m = Model(21)
    numbers = np.random.default_rng(5)
    one, byte, signed = m.tensor(0.05, np.float32), m.tensor(9, np.uint8), m.tensor(-3, np.int8)

    def through(x: str, zero: str) -> str:
        q = m.node("QuantizeLinear", x, one, zero)
        return m.node("DequantizeLinear", q, one, zero)

    def weights(*shape: int, axis: int = 0) -> str:
        codes = m.tensor(numbers.integers(-127, 128, shape), np.int8)
        scales = m.tensor(numbers.uniform(0.01, 0.02, shape[axis]), np.float32)
        zeros = m.tensor(np.zeros(shape[axis]), np.int8)
        return m.node("DequantizeLinear", codes, scales, zeros, axis=axis)

    x = through("x", signed)
    y = m.node("Conv", x, weights(4, 4, 3, 3), pads=[1, 1, 1, 1])
    y = through(m.node("Relu", y), byte)
    y = m.node("Conv", y, weights(4, 2, 1, 3), group=2, pads=[0, 1, 0, 1])
    y = through(m.node("Relu", m.node("Add", y, x)), byte)
    y = m.node("MaxPool", y, kernel_shape=[2, 2])
    y = m.node("Flatten", m.node("ReduceMax", y, m.tensor([2, 3]), keepdims=1))
    y = m.node("MatMul", through(y, byte), weights(4, 9, axis=1))
    y = m.node("Gelu", m.node("Add", y, m.weight(9)))
    m.node("DynamicQuantizeLinear", y, outputs=3)
    y = m.node("MatMul", m.node("DequantizeLinear", *m.nodes[-1].output), weights(9, 5, axis=1))
    return m.proto([port("x", F32, ["N", 4, 5, 6])], [port(y, F32, None)])


def old() -> onnx.ModelProto:
    """Opset 9: attributes that are inputs today."""
    m = Model(9)
    y = m.node("Unsqueeze", "x", axes=[1])
    y = m.node("Clip", y, min=-0.5, max=1.0)
    y = m.node("Softmax", y, axis=1)
    y = m.node("Slice", y, starts=[1], ends=[4], axes=[2])
    y = m.node("Pad", y, pads=[0, 0, 1, 0, 0, 1], value=0.5)
    y = m.node("Gemm", m.node("Flatten", y), m.weight(5, 5), m.weight(5), transB=0, alpha=0.5)
    y = m.node("ReduceSum", y, axes=[1], keepdims=0)
    return m.proto([port("x", F32, ["N", 5])], [port(y, F32, None)])


def calls() -> onnx.ModelProto:
    """Functions that call each other, with attributes and defaults."""
    m = Model()
    m.domains = ["f"]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    scaled = helper.make_node("LeakyRelu", ["a"], ["b"])
    scaled.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    inner = helper.make_function("f", "Slope", ["a"], ["b"], [scaled], imports, ["slope"])
    body = [
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0]),
        helper.make_node("Slope", ["a"], ["s"], domain="f", slope=0.25),
        helper.make_node("Mul", ["s", "c"], ["m"]),
        helper.make_node("Slope", ["m"], ["b"], domain="f", slope=0.5),
    ]
    m.functions = [inner, helper.make_function("f", "Twice", ["a"], ["b"], body, imports)]
    y = "x"
    for i in range(3):
        m.nodes.append(helper.make_node("Twice", [y], [f"y{i}"], name=f"call{i}", domain="f"))
        y = f"y{i}"
    return m.proto([port("x", F32, ["N", 3])], [port(y, F32, ["N", 3])])


def control() -> onnx.ModelProto:
    """If and Loop with captured values, one inside the other."""
    m = Model()
    step = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "x"], ["more"]),
            helper.make_node("Identity", ["going"], ["on"]),
        ],
        "body",
        [
            port("i", I64, []),
            port("going", TensorProto.BOOL, []),
            port("carried", F32, ["N", 3]),
        ],
        [port("on", TensorProto.BOOL, []), port("more", F32, ["N", 3])],
    )
    loop = helper.make_node("Loop", [m.tensor(3), m.tensor(True), "x"], ["looped"], body=step)
    yes = helper.make_graph([loop], "yes", [], [port("looped", F32, ["N", 3])])
    double = helper.make_node("Mul", ["x", m.weight(3)], ["doubled"])
    no = helper.make_graph([double], "no", [], [port("doubled", F32, ["N", 3])])
    y = m.node("If", m.tensor(True), then_branch=yes, else_branch=no)
    return m.proto([port("x", F32, ["N", 3])], [port(y, F32, ["N", 3])])


def late() -> onnx.ModelProto:
    """Shapes that only a run finds out: places of what is not zero, a slice up to their count."""
    m = Model()
    places = m.node("Squeeze", m.node("NonZero", "x"), m.tensor([0]))
    picked = m.node("Relu", m.node("Gather", "x", places))
    count = m.node("Shape", picked)
    y = m.node("Add", m.node("Slice", "x", m.tensor([0]), count), picked)
    return m.proto([port("x", F32, ["N"])], [port(y, F32, None)])


def scales() -> onnx.ModelProto:
    """A gate made of means, a coarser scale added in place, and scales joined before a window."""
    m = Model()
    window = {"kernel_shape": [3, 3], "pads": [1] * 4}
    fine = m.node("Relu", m.node("Conv", "x", m.weight(6, 3, 3, 3), **window))
    coarse = m.node("Conv", fine, m.weight(10, 6, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
    wide = m.node("Conv", fine, m.weight(10, 6, 1, 1))
    mean = m.node("GlobalAveragePool", wide)
    gate = m.node("Sigmoid", m.node("Conv", mean, m.weight(10, 10, 1, 1)))
    gated = m.node("Add", m.node("Mul", wide, gate), wide)
    nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    factors = m.tensor([1, 1, 2, 2], np.float32)
    summed = m.node("Add", gated, m.node("Resize", coarse, "", factors, **nearest))
    joined = m.node("Concat", summed, m.node("Resize", coarse, "", factors, **nearest), axis=1)
    narrow = m.node("Conv", joined, m.weight(24, 20, 3, 3), **window)
    y = m.node("ConvTranspose", narrow, m.weight(24, 1, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
    return m.proto([port("x", F32, ["N", 3, 8, 8])], [port(y, F32, None)])


def recurrent() -> onnx.ModelProto:
    """Layers that walk through time: both directions, peepholes, lengths, states given and read."""
    m = Model()
    bias, peepholes = m.weight(2, 24), m.weight(2, 9)
    y = m.node(
        "LSTM", "x", m.weight(2, 12, 4), m.weight(2, 12, 3), bias, "lengths", "h", "h", peepholes,
        outputs=3, hidden_size=3, direction="bidirectional",
    )  # fmt: skip
    cells = m.nodes[-1].output[2]
    wide = m.node("Reshape", m.node("Transpose", y, perm=[0, 2, 1, 3]), m.tensor([0, 0, 6]))
    y = m.node("GRU", wide, m.weight(1, 9, 6), m.weight(1, 9, 3), m.weight(1, 18), hidden_size=3)
    y = m.node("Squeeze", y, m.tensor([1]))
    linear = {"linear_before_reset": 1, "direction": "reverse"}
    m.node("GRU", y, m.weight(1, 9, 3), m.weight(1, 9, 3), outputs=2, hidden_size=3, **linear)
    state = m.nodes[-1].output[1]
    m.node("RNN", y, m.weight(1, 3, 3), m.weight(1, 3, 3), "", "lengths", outputs=2, hidden_size=3)
    y = m.node("Concat", state, m.nodes[-1].output[1], cells, axis=0)
    inputs = [
        port("x", F32, ["T", "N", 4]),
        port("lengths", TensorProto.INT32, ["N"]),
        port("h", F32, [2, "N", 3]),
    ]
    return m.proto(inputs, [port(y, F32, None)])


def external(folder: Path) -> onnx.ModelProto:
    """Two weights in a file beside the model, with ranges and a checksum."""
    m = Model()
    y = m.node("Add", m.node("MatMul", "x", m.weight(8, 6)), m.weight(6))
    data = b"".join(w.raw_data for w in m.weights)
    (folder / "external.data").write_bytes(data)
    offset = 0
    for w in m.weights:
        size = len(w.raw_data)
        w.ClearField("raw_data")
        w.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "external.data"), ("offset", offset), ("length", size)):
            w.external_data.add(key=key, value=str(value))
        offset += size
    return m.proto([port("x", F32, ["N", 8])], [port(y, F32, ["N", 6])])


def main() -> None:
    """Writes all of them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    models = (
        block,
        shapes,
        windows,
        quantized,
        pixels,
        integers,
        old,
        calls,
        control,
        late,
        recurrent,
        scales,
    )
    for make in models:
        (folder / f"{make.__name__}.onnx").write_bytes(make().SerializeToString())
    (folder / "external.onnx").write_bytes(external(folder).SerializeToString())


if __name__ == "__main__":
    main()
