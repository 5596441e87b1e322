"""QuantizeLinear and DequantizeLinear as element-wise arithmetic: where they become part of other
steps, which bytes come out, and that plans say the same after a trip through a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import planck

onnx = pytest.importorskip("onnx")
helper = onnx.helper

Array = NDArray[Any]
RNG = np.random.default_rng(11)
X = (4 * RNG.standard_normal((2, 5, 9, 17))).astype(np.float32)
X[0, 0, 0, :6] = [np.nan, np.inf, -np.inf, 1e30, -1e30, -0.0]
U = RNG.integers(0, 256, X.shape, dtype=np.uint8)
S = U.view(np.int8)
PARAMETERS = {
    "s": np.array(0.05, np.float32),
    "z": np.array(128, np.uint8),
    "s2": np.array(0.031, np.float32),
    "z2": np.array(10, np.uint8),
    "zs": np.array(-3, np.int8),
    "columns": np.linspace(0.01, 0.2, 17, dtype=np.float32),
    "zeros": np.arange(17, dtype=np.uint8),
    "gain": np.array(1.5, np.float32),
}
node = helper.make_node


def quantize(x: Array, scale: Array, zero: Array) -> Array:
    """As the standard says it, with one division in fp32 and NaN as the lowest byte."""
    low, high = np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max
    with np.errstate(all="ignore"):
        shifted = np.rint(x.astype(np.float32) / scale) + zero.astype(np.float32)
    return np.where(np.isnan(shifted), low, np.clip(shifted, low, high)).astype(zero.dtype)


def dequantize(q: Array, scale: Array, zero: Array) -> Array:
    return (q.astype(np.float32) - zero.astype(np.float32)) * scale


P = PARAMETERS
QX = quantize(X, P["s"], P["z"])
FU = dequantize(U, P["s"], P["z"])
FX = dequantize(QX, P["s"], P["z"])


def q(x: str, y: str, scale: str = "s", zero: str = "z", **attrs: int) -> Any:
    return node("QuantizeLinear", [x, scale, zero], [y], y, **attrs)


def dq(x: str, y: str, scale: str = "s", zero: str = "z", **attrs: int) -> Any:
    return node("DequantizeLinear", [x, scale, zero], [y], y, **attrs)


@dataclass(frozen=True)
class Chain:
    """Nodes, what they are fed, the families of the steps they become, and the results."""

    nodes: Sequence[Any]
    feeds: Mapping[str, Array]
    families: Sequence[str]
    results: Mapping[str, Array]
    exact: bool = True
    weights: Mapping[str, Array] = field(default_factory=dict)


def sum_chain(x: Array, y: Array) -> Array:
    return quantize(np.maximum(x + y, 0), P["s2"], P["z2"])


W = RNG.standard_normal((17, 6)).astype(np.float32)
CLEAN = np.nan_to_num(X, posinf=3, neginf=-3, nan=1).clip(-9, 9)
CHAINS = {
    "quantized": Chain([q("x", "y")], {"x": X}, ["eltwise"], {"y": QX}),
    "signed": Chain(
        [q("x", "y", "s", "zs")],
        {"x": X},
        ["eltwise"],
        {"y": quantize(X, P["s"], P["zs"])},
    ),
    "columns": Chain(
        [q("x", "y", "columns", "zeros", axis=3)],
        {"x": X},
        ["eltwise"],
        {"y": quantize(X, P["columns"], P["zeros"])},
    ),
    "floats": Chain([dq("u", "y")], {"u": U}, ["eltwise"], {"y": FU}),
    "signed floats": Chain(
        [dq("u", "y", "columns", "", axis=-1)],
        {"u": S},
        ["eltwise"],
        {"y": S.astype(np.float32) * P["columns"]},
    ),
    "requantized": Chain(
        [dq("u", "a"), q("a", "y", "s2", "z2")],
        {"u": U},
        ["lut"],
        {"y": quantize(FU, P["s2"], P["z2"])},
    ),
    "another sign": Chain(
        [dq("u", "a"), q("a", "y", "s2", "zs")],
        {"u": U},
        ["lut"],
        {"y": quantize(FU, P["s2"], P["zs"])},
    ),
    "one table": Chain(
        [
            dq("u", "a"),
            node("HardSwish", ["a"], ["b"], "b"),
            node("Mul", ["b", "gain"], ["c"], "c"),
            q("c", "y", "s2", "z2"),
        ],
        {"u": U},
        ["lut"],
        {
            "y": quantize(
                FU * np.clip(FU * np.float32(1 / 6) + np.float32(0.5), 0, 1) * P["gain"],
                P["s2"],
                P["z2"],
            )
        },
        exact=False,
    ),
    "rounded to bytes": Chain(
        [q("x", "a"), dq("a", "b"), node("Relu", ["b"], ["y"], "y")],
        {"x": X},
        ["eltwise"],
        {"y": np.maximum(FX, 0)},
    ),
    "a residual": Chain(
        [
            dq("u", "a"),
            q("x", "b"),
            dq("b", "c"),
            node("Add", ["a", "c"], ["d"], "d"),
            node("Relu", ["d"], ["e"], "e"),
            q("e", "y", "s2", "z2"),
        ],
        {"x": X, "u": U},
        ["eltwise"],
        {"y": sum_chain(FU, FX)},
    ),
    "two readers copy": Chain(
        [
            dq("u", "a"),
            node("Add", ["a", "x"], ["b"], "b"),
            node("Relu", ["b"], ["c"], "c"),
            q("c", "y", "s2", "z2"),
            node("Abs", ["a"], ["w"], "w"),
        ],
        {"x": CLEAN, "u": U},
        ["eltwise", "eltwise"],
        {"y": sum_chain(FU, CLEAN), "w": np.abs(FU)},
    ),
    "one reader wants floats": Chain(
        [
            q("x", "b"),
            dq("b", "a"),
            node("ReduceMax", ["a"], ["w"], "w", keepdims=0),
            node("Add", ["a", "a"], ["y"], "y"),
        ],
        {"x": X},
        ["eltwise", "eltwise", "reduce", "eltwise"],
        {"y": FX + FX, "w": FX.max()},
    ),
    "bytes are an output": Chain(
        [q("x", "b"), dq("b", "a"), node("Neg", ["a"], ["y"], "y")],
        {"x": X},
        ["eltwise", "eltwise"],
        {"y": -FX, "b": QX},
    ),
    "behind a product": Chain(
        [node("MatMul", ["x", "w"], ["a"], "a"), node("Relu", ["a"], ["b"], "b"), q("b", "y")],
        {"x": CLEAN},
        ["linear"],
        {"y": quantize(np.maximum(CLEAN @ W, 0), P["s"], P["z"])},
        exact=False,
        weights={"w": W},
    ),
    "rounded behind a product": Chain(
        [node("MatMul", ["x", "w"], ["a"], "a"), q("a", "b"), dq("b", "y")],
        {"x": CLEAN},
        ["linear"],
        {"y": dequantize(quantize(CLEAN @ W, P["s"], P["z"]), P["s"], P["z"])},
        exact=False,
        weights={"w": W},
    ),
    "moved": Chain(
        [
            node("Transpose", ["x"], ["a"], "a", perm=[0, 2, 3, 1]),
            q("a", "b"),
            node("Concat", ["b", "b"], ["c"], "c", axis=3),
            node("Transpose", ["c"], ["y"], "y", perm=[0, 3, 1, 2]),
        ],
        {"x": X},
        ["eltwise", "copy", "copy", "copy"],
        {"y": np.concatenate([QX, QX], 1)},
    ),
    "a pool": Chain(
        [
            q("x", "a"),
            node("MaxPool", ["a"], ["b"], "b", kernel_shape=[3, 3], strides=[2, 2]),
            dq("b", "y"),
        ],
        {"x": X[:, :, :, :]},
        ["eltwise", "copy", "byte_pool", "eltwise", "copy"],  # channels last and back
        {
            "y": dequantize(
                np.lib.stride_tricks.sliding_window_view(QX, (3, 3), (2, 3))[:, :, ::2, ::2].max(
                    (4, 5)
                ),
                P["s"],
                P["z"],
            )
        },
    ),
    "pixels": Chain(
        [node("Cast", ["u"], ["a"], "a", to=1), node("Mul", ["a", "gain"], ["y"], "y")],
        {"u": U},
        ["eltwise"],
        {"y": U.astype(np.float32) * np.float32(1.5)},
    ),
}


def built(chain: Chain, **options: Any) -> planck.Plan:
    ports = [
        helper.make_tensor_value_info(
            n, helper.np_dtype_to_tensor_dtype(v.dtype), ["N", *v.shape[1:]]
        )
        for n, v in chain.feeds.items()
    ]
    outputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), None)
        for n, v in chain.results.items()
    ]
    constants = PARAMETERS | dict(chain.weights)
    used = {name for n in chain.nodes for name in n.input}
    tensors = [onnx.numpy_helper.from_array(v, n) for n, v in constants.items() if n in used]
    graph = helper.make_graph(list(chain.nodes), "chain", ports, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return planck.build(model.SerializeToString(), **options)


def check(chain: Chain, got: Mapping[str, Array]) -> None:
    for name, want in chain.results.items():
        assert got[name].dtype == want.dtype
        if chain.exact:
            np.testing.assert_array_equal(got[name], want)
            continue
        # Other roundings before the last one: a byte may differ by one.
        step = 1 if want.dtype == np.uint8 else PARAMETERS["s"]
        far = np.abs(got[name].astype(np.float64) - want.astype(np.float64)) / step
        assert far.max() < 1.001 and (far > 0.5).mean() < 0.01


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())
def test_chains(chain: Chain) -> None:
    plan = built(chain, fallback="error")
    assert [step.family for step in plan.steps] == list(chain.families)
    names = {name for step in plan.steps for name in step.nodes}
    assert names >= {n.name for n in chain.nodes if n.op_type != "Transpose"}
    got = plan.run(chain.feeds)
    check(chain, got)
    again = planck.load(plan.to_bytes())
    for name, value in again.run(chain.feeds).items():
        np.testing.assert_array_equal(value, got[name])


PRODUCTS = {
    "linear": ([node("MatMul", ["x", "w"], ["a"], "a")], W, (2, 5, 9, 6)),
    "gelu": (
        [node("MatMul", ["x", "w"], ["g"], "g"), node("Gelu", ["g"], ["a"], "a")],
        W,
        (2, 5, 9, 6),
    ),
    "conv": (
        [node("Conv", ["x", "w"], ["a"], "a", pads=[1, 1, 1, 1])],
        RNG.standard_normal((8, 5, 3, 3)).astype(np.float32),
        (2, 8, 9, 17),
    ),
    "groups": (
        [node("Conv", ["x", "w"], ["a"], "a", strides=[2, 3], group=5)],
        RNG.standard_normal((10, 1, 2, 2)).astype(np.float32),
        (2, 10, 4, 6),
    ),
    "channelwise": (
        [node("Conv", ["x", "w"], ["a"], "a", pads=[1, 1, 1, 1], group=5)],
        RNG.standard_normal((5, 1, 3, 3)).astype(np.float32),
        (2, 5, 9, 17),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_bytes_behind_products(name: str) -> None:
    """What a product ends in is the quantised form of what it gives as floats, bit for bit."""
    nodes, weight, shape = PRODUCTS[name]
    floats = Chain(
        nodes, {"x": CLEAN}, [], {"a": np.zeros(shape, np.float32)}, weights={"w": weight}
    )
    plain = built(floats, fallback="error")
    want = quantize(plain.run(floats.feeds)["a"], P["s"], P["zs"])
    assert len(np.unique(want)) > 50
    chain = Chain(
        [*nodes, q("a", "y", "s", "zs")], {"x": CLEAN}, [], {"y": want}, True, {"w": weight}
    )
    plan = built(chain, fallback="error")
    assert "eltwise" not in {step.family for step in plan.steps}
    check(chain, plan.run(chain.feeds))
    check(chain, planck.load(plan.to_bytes()).run(chain.feeds))


NORM = node("LayerNormalization", ["x", "norm_gain", "norm_bias"], ["a"], "a", axis=-1)
NORM_WEIGHTS = {
    "norm_gain": np.linspace(-2, 2, 17, dtype=np.float32),
    "norm_bias": np.linspace(1, -1, 17, dtype=np.float32),
}


@pytest.mark.parametrize("threads", [1, 2])
def test_bytes_beside_a_norm(threads: int) -> None:
    """A norm whose result is read as floats and as bytes writes both, in one step."""
    feeds = {"x": np.tile(CLEAN, (7, 1, 1, 1))}
    floats = Chain([NORM], feeds, [], {"a": feeds["x"]}, weights=NORM_WEIGHTS)
    a = built(floats, fallback="error").run(feeds)["a"]
    results = {"a": a, "y": quantize(a, P["s"], P["z"])}
    assert len(np.unique(results["y"])) > 50
    chain = Chain([NORM, q("a", "y")], feeds, ["norm"], results, True, NORM_WEIGHTS)
    plan = built(chain, fallback="error", threads=threads)
    assert [step.family for step in plan.steps] == ["norm"]
    check(chain, plan.run(feeds))
    check(chain, planck.load(plan.to_bytes()).run(feeds))


@pytest.mark.parametrize("threads", [1, 2])
def test_bytes_behind_attention(threads: int) -> None:
    """What attention ends in is the quantised form of what it gives as floats, bit for bit."""
    feeds = {name: (2 * RNG.standard_normal((2, 3, 37, 8))).astype(np.float32) for name in "xkv"}
    nodes = [
        node("Transpose", ["k"], ["t"], "t", perm=[0, 1, 3, 2]),
        node("MatMul", ["x", "t"], ["scores"], "scores"),
        node("Softmax", ["scores"], ["p"], "p", axis=-1),
        node("MatMul", ["p", "v"], ["a"], "a"),
    ]
    floats = Chain(nodes, feeds, [], {"a": feeds["x"]})
    want = quantize(built(floats, fallback="error").run(feeds)["a"], P["s"], P["z"])
    assert len(np.unique(want)) > 50
    chain = Chain([*nodes, q("a", "y")], feeds, ["attention"], {"y": want})
    plan = built(chain, fallback="error", threads=threads)
    assert [step.family for step in plan.steps] == ["attention"]
    check(chain, plan.run(feeds))
    check(chain, planck.load(plan.to_bytes()).run(feeds))


@pytest.mark.parametrize("threads", [1, 2])
def test_dynamic_quantization(threads: int) -> None:
    """Bytes, scale and zero point of the whole tensor, and floats out of them again."""
    x = (RNG.standard_normal((3, 40000)) * 5).astype(np.float32)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["b", "scale", "zero"], "b"),
        node("DequantizeLinear", ["b", "scale", "zero"], ["y"], "y"),
    ]
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = np.float32(high - low) / np.float32(255)
    zero = quantize(-low, scale, np.array(0, np.uint8))
    results = {"b": quantize(x, scale, zero), "scale": scale, "zero": zero}
    results["y"] = dequantize(results["b"], scale, zero)
    families = ["dynamic_quantize", "eltwise"]
    chain = Chain(nodes, {"x": x}, families, {k: np.asarray(v) for k, v in results.items()})
    plan = built(chain, fallback="error", threads=threads)
    assert [step.family for step in plan.steps] == families
    check(chain, plan.run(chain.feeds))
