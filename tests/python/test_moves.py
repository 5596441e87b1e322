"""Ops that move, choose, sort and count: kernels, the same through a plan file, indices judged."""

from __future__ import annotations

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
helper = onnx.helper
DTYPES = {np.dtype(np.float32): 1, np.dtype(np.int32): 6, np.dtype(np.int64): 7}
DTYPES[np.dtype(np.bool_)] = 9


def built(nodes, feeds, constants=(), symbolic=True, outputs=None, **options):
    """A plan whose inputs have the types and ranks of the feeds, every extent a symbol."""
    ports = [
        helper.make_tensor_value_info(
            n,
            DTYPES[v.dtype],
            [f"{n}{i}" if symbolic else d for i, d in enumerate(v.shape)],
        )
        for n, v in feeds.items()
    ]
    outs = [helper.make_tensor_value_info(o, 0, None) for o in outputs or nodes[-1].output]
    tensors = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in dict(constants).items()]
    graph = helper.make_graph(nodes, "g", ports, outs, tensors)
    for out in graph.output:
        out.ClearField("type")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return planck.build(model.SerializeToString(), **options)


RNG = np.random.default_rng(3)
X = RNG.normal(size=(3, 5, 4)).astype(np.float32)
L = RNG.integers(-9, 9, (3, 5, 4))
I = np.array([[4, -1], [0, 2]])  # noqa: E741
E = RNG.integers(-5, 5, (3, 2, 4))
MASK = X > 0
node = helper.make_node
CASES = {
    "gather": ([node("Gather", ["x", "i"], ["y"], axis=1)], {"x": X, "i": I}, {}, X[:, I]),
    "gather of integers": ([node("Gather", ["x", "i"], ["y"])], {"x": L, "i": I % 3}, {}, L[I % 3]),
    "gather of bools": (
        [node("Gather", ["x", "i"], ["y"], axis=2)],
        {"x": MASK, "i": (I % 4).astype(np.int32)},
        {},
        MASK[:, :, I % 4],
    ),
    "one hot": (
        [node("OneHot", ["i", "depth", "values"], ["y"], axis=1)],
        {"i": I},
        {"depth": np.array(5), "values": np.array([2, 3], np.float32)},
        2 + np.eye(5, dtype=np.float32)[I].transpose(0, 2, 1),
    ),
    "where of integers": (
        [node("Where", ["c", "x", "z"], ["y"])],
        {"c": MASK, "x": L},
        {"z": np.array(7)},
        np.where(MASK, L, 7),
    ),
    "masks in a chain": (
        [
            node("Greater", ["x", "zero"], ["a"]),
            node("Not", ["a"], ["b"]),
            node("Xor", ["b", "c"], ["d"]),
            node("Where", ["d", "x", "zero"], ["y"]),
        ],
        {"x": X, "c": MASK},
        {"zero": np.array(0, np.float32)},
        X,
    ),
    "lengths to a mask": (
        [node("Less", ["steps", "n"], ["m"]), node("Cast", ["m"], ["y"], to=1)],
        {"n": np.array([[2], [0], [5]])},
        {"steps": np.arange(5)[None]},
        (np.arange(5)[None] < np.array([[2], [0], [5]])).astype(np.float32),
    ),
    "sum over two axes apart": (
        [node("ReduceMax", ["x"], ["y"], axes=[0, 2], keepdims=0)],
        {"x": X},
        {},
        X.max((0, 2)),
    ),
    "softmax over a middle axis": (
        [node("Softmax", ["x"], ["y"], axis=1)],
        {"x": X},
        {},
        np.exp(X) / np.exp(X).sum(1, keepdims=True),
    ),
    "integers added up": (
        [node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        {"x": L},
        {"axes": np.array([1])},
        L.sum(1),
    ),
    "running sums": (
        [node("CumSum", ["x", "a"], ["y"])],
        {"x": L},
        {"a": np.array(1)},
        L.cumsum(1),
    ),
    "padded": (
        [node("Pad", ["x", "pads", "v"], ["y"])],
        {"x": X},
        {"pads": np.array([0, 1, -1, 2, 0, 0]), "v": np.array(9, np.float32)},
        np.pad(X[:, :, 1:], [(0, 2), (1, 0), (0, 0)], constant_values=9),
    ),
    "tiled": (
        [node("Tile", ["x", "r"], ["y"])],
        {"x": L},
        {"r": np.array([2, 1, 3])},
        np.tile(L, (2, 1, 3)),
    ),
    "triangle": (
        [node("Trilu", ["x", "k"], ["y"], upper=0)],
        {"x": X},
        {"k": np.array(-1)},
        np.tril(X, -1),
    ),
    "the greatest": (
        [node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)],
        {"x": X},
        {},
        X.argmax(1),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_kernels(case):
    nodes, feeds, constants, want = case
    plan = built(nodes, feeds, constants, fallback="error")
    got = plan.run(feeds)["y"]
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-6)
    again = planck.load(plan.to_bytes())
    assert np.array_equal(again.run(feeds)["y"], got)


def test_top_k():
    feeds = {"x": np.array([[3, 1, 3, 2], [0, 5, -1, 5]], np.float32)}
    plan = built(
        [node("TopK", ["x", "k"], ["v", "i"], axis=1)],
        feeds,
        {"k": np.array([3])},
        fallback="error",
    )
    out = plan.run(feeds)
    assert out["v"].tolist() == [[3, 3, 2], [5, 5, 0]]
    assert out["i"].tolist() == [[0, 2, 3], [1, 3, 0]]


@pytest.mark.parametrize("op", ["GatherElements", "GatherND", "ScatterElements", "ScatterND"])
def test_indices(op):
    x = {"x": X}
    if op == "GatherElements":
        feeds, want = x | {"i": E}, np.take_along_axis(X, E % 5, 1)
    elif op == "GatherND":
        feeds, want = x | {"i": I % 3}, X[I[:, 0] % 3, I[:, 1] % 3]
    elif op == "ScatterElements":
        want = X.copy()
        np.put_along_axis(want, E[:, :1] % 5, 7, 1)
        feeds = x | {"i": E[:, :1], "u": np.full((3, 1, 4), 7, np.float32)}
    else:
        want = X.copy()
        want[I[:, 0] % 3, I[:, 1] % 3] = 7
        feeds = x | {"i": I % 3, "u": np.full((2, 4), 7, np.float32)}
    attributes = {"axis": 1} if op.endswith("Elements") else {}
    plan = built([node(op, list(feeds), ["y"], "moved", **attributes)], feeds, symbolic=False)
    assert plan.steps[0].kernel.startswith("index_")
    assert np.array_equal(plan.run(feeds)["y"], want)
    bad = feeds["i"].copy()
    bad.flat[-1] = 77
    with pytest.raises(planck.RunError, match=r"index 77 .*outside") as caught:
        plan.run(feeds | {"i": bad})
    assert "moved" in str(caught.value) and op in str(caught.value)
    assert np.array_equal(plan.run(feeds)["y"], want)  # the plan stays usable


def test_extents_that_differ():
    """Symbols that the graph takes as equal: a run in which they are not is refused."""
    feeds = {"x": X, "c": MASK}
    nodes = [node("Where", ["c", "x", "x"], ["y"])]
    plan = built(nodes, feeds)
    assert np.array_equal(plan.run(feeds)["y"], X)
    with pytest.raises(planck.RunError, match="broadcast"):
        plan.run({"x": X, "c": MASK[:, :3]})


def test_an_output_that_is_a_view_is_computed_in_its_place():
    nodes = [
        node("Relu", ["x"], ["a"], name="positive"),
        node("Unsqueeze", ["a", "axis"], ["b"], name="apart"),
        node("Squeeze", ["b", "last"], ["y"], name="together"),
    ]
    feeds = {"x": X[:, :, :1]}
    plan = built(nodes, feeds, {"axis": np.array([0]), "last": np.array([3])}, symbolic=False)
    (step,) = plan.steps
    assert step.op == "Relu" and set(step.nodes) == {"positive", "apart", "together"}
    np.testing.assert_array_equal(plan.run(feeds)["y"], np.maximum(feeds["x"], 0)[None, :, :, 0])


@pytest.mark.parametrize("outputs", [["y"], ["a", "y"], ["y", "a"], ["y", "z"], ["y", "s", "a"]])
def test_views_at_outputs_with_other_readers(outputs, tmp_path):
    nodes = [
        node("Softmax", ["x"], ["a"]),
        node("Reshape", ["a", "pairs"], ["y"]),
        node("Reshape", ["a", "flat"], ["z"]),
        node("ReduceSum", ["y", "axis"], ["s"]),
    ]
    constants = {"pairs": np.array([15, 4]), "flat": np.array([-1]), "axis": np.array([0])}
    plan = built(nodes, {"x": X}, constants, symbolic=False, outputs=outputs)
    e = np.exp(X - X.max(-1, keepdims=True))
    a = e / e.sum(-1, keepdims=True)
    want = {"a": a, "y": a.reshape(15, 4), "z": a.ravel(), "s": a.reshape(15, 4).sum(0)[None]}
    got = plan.run({"x": X})
    assert list(got) == outputs
    for name, array in got.items():
        np.testing.assert_allclose(array, want[name], rtol=1e-6, atol=1e-7)
    own = {memory for memory in ("a", "y", "z") if memory in outputs}
    assert sum(step.op == "copy" for step in plan.steps) == len(own) - 1, (
        "one is the others' source"
    )
    plan.save(tmp_path / "views.plan")
    np.testing.assert_array_equal(planck.load(tmp_path / "views.plan").run({"x": X})["y"], got["y"])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("width", [5, 16, 17, 37, 100, 256])
def test_rows_that_a_softmax_alone_reads(op, width):
    w = np.random.default_rng(width).normal(size=(4, width)).astype(np.float32)
    nodes = [node("MatMul", ["x", "w"], ["h"]), node(op, ["h"], ["y"], axis=-1)]
    plan = built(nodes, {"x": X}, {"w": w}, fallback="error")
    h = X.astype(np.float64) @ w
    want = h - h.max(-1, keepdims=True)
    want -= np.log(np.exp(want).sum(-1, keepdims=True))
    want = np.exp(want) if op == "Softmax" else want
    np.testing.assert_allclose(plan.run({"x": X})["y"], want, rtol=1e-5, atol=1e-6)
    assert planck.compare(plan, data=[{"x": X}]).ok  # its rows are read through their gaps
