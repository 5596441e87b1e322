"""Limits by name: what is refused, what the error says, and that documents agree with the code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import planck
from planck import _core
from planck.limits import table

onnx = pytest.importorskip("onnx")
helper = onnx.helper

DOCS = Path(__file__).parents[2] / "docs" / "limits.md"


def model(nodes, dims=("N", 4), initializers=(), functions=(), domains=()):
    x = helper.make_tensor_value_info("x", 1, list(dims))
    y = helper.make_tensor_value_info(nodes[-1].output[0], 1, None)
    graph = helper.make_graph(list(nodes), "g", [x], [y], list(initializers))
    imports = [helper.make_opsetid("", 17)] + [helper.make_opsetid(d, 1) for d in domains]
    return helper.make_model(graph, opset_imports=imports, functions=functions).SerializeToString()


def chain(length):
    return [helper.make_node("Relu", [f"v{i}" if i else "x"], [f"v{i + 1}"]) for i in range(length)]


def function(name, *calls):
    """A function that applies Relu and then each of `calls` to its argument."""
    nodes = [helper.make_node("Relu", ["a"], ["t0"])]
    for i, call in enumerate(calls):
        nodes.append(helper.make_node(call, [f"t{i}"], [f"t{i + 1}"], domain="f"))
    nodes.append(helper.make_node("Relu", [f"t{len(calls)}"], ["b"]))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["a"], ["b"], nodes, imports)


def calls(depth):
    """A chain of functions that deep."""
    functions = [function(f"f{i}", *([f"f{i + 1}"] if i + 1 < depth else [])) for i in range(depth)]
    node = helper.make_node("f0", ["x"], ["y"], domain="f")
    return model([node], functions=functions, domains=["f"])


def sized(field, content):
    """A length-delimited field of protobuf, whose own library stops at 100 levels."""
    size, head = len(content), bytes([field << 3 | 2])
    while size > 0x7F:
        head += bytes([size & 0x7F | 0x80])
        size >>= 7
    return head + bytes([size]) + content


def nested(depth):
    """If inside If, that deep."""
    graph = node = b""
    for i in range(depth):
        branch = sized(1, b"then_branch") + b"\xa0\x01\x05" + sized(6, graph)  # name, type, g
        node = sized(1, b"x") + sized(2, b"y%d" % i) + sized(4, b"If") + sized(5, branch)
        graph = sized(1, node) + sized(2, b"g") + sized(12, sized(1, b"y%d" % i))
    return merged(model([helper.make_node("Relu", ["x"], ["y"])]), sized(1, node))


def merged(main, node):
    """The model with a node more in its graph."""
    proto = onnx.ModelProto.FromString(main)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    return proto.SerializeToString() + sized(7, graph + node)


def zeros(name, *shape):
    return onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)


ADD = helper.make_node("Add", ["x", "w"], ["y"])
CASES = {
    "model_bytes": (100, lambda: model(chain(5))),
    "parse_bytes": (1000, lambda: model(chain(5))),
    "nesting": (3, lambda: model(chain(5))),
    "name_bytes": (3, lambda: model([helper.make_node("Relu", ["x"], ["y"], name="long")])),
    "rank": (3, lambda: model(chain(1), dims=[1, 1, 1, 1])),
    "nodes": (4, lambda: model(chain(5))),
    "functions": (1, lambda: calls(2)),
    "call_depth": (2, lambda: calls(3)),
    "subgraph_depth": (3, lambda: nested(4)),
    "constants_bytes": (100, lambda: model([ADD], initializers=[zeros("w", 9, 4)])),
    "initializer_bytes": (100, lambda: model([ADD], initializers=[zeros("w", 9, 4)])),
}


@pytest.mark.parametrize("name", CASES)
def test_import_limits(name):
    limit, make = CASES[name]
    with pytest.raises(planck.LimitError) as caught:
        planck.build(make(), limits={name: limit})
    error = caught.value
    assert (error.option, error.limit) == (name, limit) and error.need > limit
    assert name in str(error) and name in error.hint


def test_sub_graphs_may_be_as_deep_as_the_limit():
    """They end at the op that is missing, not at the nesting of messages."""
    with pytest.raises(planck.UnsupportedError, match="If"):
        planck.build(nested(64))
    with pytest.raises(planck.LimitError, match="subgraph_depth"):
        planck.build(nested(65))


def test_depths_of_calls_and_sub_graphs_add_up():
    """A call inside a sub-graph begins at that sub-graph's depth."""
    body = helper.make_graph(
        [helper.make_node("f1", ["a"], ["in"], domain="f")],
        "body",
        [],
        [helper.make_tensor_value_info("in", 1, None)],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    node = helper.make_node("If", ["a"], ["b"], then_branch=body, else_branch=body)
    functions = [
        helper.make_function("f", "f0", ["a"], ["b"], [node], imports),
        helper.make_function(
            "f",
            "f1",
            ["a"],
            ["b"],
            [
                helper.make_node(
                    "If",
                    ["a"],
                    ["b"],
                    then_branch=helper.make_graph(
                        [helper.make_node("Relu", ["a"], ["r"])],
                        "r",
                        [],
                        [helper.make_tensor_value_info("r", 1, None)],
                    ),
                )
            ],
            imports,
        ),
    ]
    data = model(
        [helper.make_node("f0", ["x"], ["y"], domain="f")], functions=functions, domains=["f"]
    )
    with pytest.raises(planck.LimitError, match="subgraph_depth"):
        planck.build(data, limits={"subgraph_depth": 1})
    with pytest.raises(planck.UnsupportedError):
        planck.build(data, limits={"subgraph_depth": 2})


def test_folding_is_refused_not_the_model():
    shape = onnx.numpy_helper.from_array(np.array([64, 4]), "shape")
    nodes = [
        helper.make_node("Expand", ["w", "shape"], ["big"]),
        helper.make_node("Add", ["x", "big"], ["y"]),
    ]
    data = model(nodes, dims=(64, 4), initializers=[shape, zeros("w", 1)])
    for name in ("fold_node_bytes", "fold_model_bytes"):
        plan = planck.build(data, limits={name: 100})
        reasons = [reason for _, _, reason in plan.report["refusals"]]
        assert any(name in reason for reason in reasons)
        assert np.array_equal(plan.run({"x": np.ones((64, 4), np.float32)})["y"], np.ones((64, 4)))
    assert len(planck.build(data).report["refusals"]) < len(plan.report["refusals"])


@pytest.mark.parametrize("name", ["max_tensor_bytes", "max_arena_bytes"])
def test_run_limits(name):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"]),
        helper.make_node("Softmax", ["b"], ["y"]),
    ]
    plan = planck.build(model(nodes, dims=("N", "M")), limits={name: 4000})
    feeds = {"x": np.ones((10, 10), np.float32)}
    want = plan.run(feeds)["y"]
    with pytest.raises(planck.LimitError) as caught:
        plan.run({"x": np.ones((100, 100), np.float32)})
    error = caught.value
    assert (error.option, error.limit) == (name, 4000) and error.need >= 40000
    assert np.array_equal(plan.run(feeds)["y"], want)  # the plan stays usable


def test_reference_memory_is_limited():
    """A step that runs by its reference takes eight bytes for each element."""
    data = model([helper.make_node("Hardmax", ["x"], ["y"])])
    plan = planck.build(data, limits={"max_tensor_bytes": 1000})
    plan.run({"x": np.ones((25, 4), np.float32)})
    with pytest.raises(planck.LimitError, match="max_tensor_bytes"):
        plan.run({"x": np.ones((50, 4), np.float32)})


def test_limits_travel_with_the_plan_not_with_its_file():
    data = model(chain(2), dims=("N",))
    plan = planck.build(data, limits={"max_tensor_bytes": 40})
    feeds = {"x": np.ones(11, np.float32)}
    with pytest.raises(planck.LimitError):
        plan.run(feeds)
    assert planck.load(plan.to_bytes()).run(feeds)["v2"].shape == (11,)
    with pytest.raises(planck.LimitError):
        planck.load(plan.to_bytes(), limits={"max_tensor_bytes": 40}).run(feeds)
    with pytest.raises(planck.LimitError, match="plan_bytes"):
        planck.load(plan.to_bytes(), limits={"plan_bytes": 1000})
    with pytest.raises(planck.LimitError, match="plan_metadata_bytes"):
        planck.load(plan.to_bytes(), limits={"plan_metadata_bytes": 100})


def test_three_spellings():
    data = model(chain(5))
    for limits in ({"nodes": 4}, planck.Limits(nodes=4), planck.Limits(profile="tight", nodes=4)):
        with pytest.raises(planck.LimitError, match="nodes"):
            planck.build(data, limits=limits)
    planck.build(data, limits="tight")
    planck.build(data, limits={"profile": "tight", "build_timeout": 60})


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"node": 4}, ["no limit 'node'", "nodes", "run_timeout"]),
        ({"__class__": 4}, ["no limit '__class__'"]),
        ({"nodes": -1}, ["limits.nodes", "-1"]),
        ({"nodes": 1 << 70}, ["limits.nodes", "64 bits"]),
        ({"nodes": 1.5}, ["limits.nodes", "integer"]),
        ({"nodes": "4"}, ["limits.nodes", "not a number"]),
        ({"rank": 33}, ["limits.rank", "0 to 32"]),
        ({"build_timeout": float("nan")}, ["limits.build_timeout"]),
        ({"profile": "loose"}, ["loose", "'tight'"]),
        ("loose", ["loose", "'tight'"]),
        (7, ["limits is int"]),
    ],
    ids=str,
)
def test_what_is_no_limit(limits, words):
    with pytest.raises(planck.UsageError) as caught:
        planck.build(model(chain(1)), limits=limits)
    for word in words:
        assert word in str(caught.value)


def test_names_are_those_of_the_code():
    names = [field.name for field in dataclasses.fields(planck.Limits)]
    assert names == ["profile", *(row[0] for row in _core.limits())]


def test_documents_are_those_of_the_code():
    assert table() in DOCS.read_text(), "docs/limits.md holds another table"
