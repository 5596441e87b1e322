"""Functions that a model brings along: nested, with attributes, of their own opsets."""

from __future__ import annotations

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import AttributeProto, FunctionProto, TensorProto, helper  # noqa: E402

DOMAIN, OPSET = "com.example", 17


def referring(node, **names):
    """The node with attributes that stand for those of its function: name=(attribute, type)."""
    for name, (source, kind) in names.items():
        node.attribute.append(AttributeProto(name=name, ref_attr_name=source, type=kind))
    return node


def function(name, inputs, outputs, nodes, attributes=(), defaults=(), opset=OPSET, more=()):
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    imports += [helper.make_opsetid(domain, 1) for domain in more]
    return helper.make_function(
        DOMAIN, name, inputs, outputs, nodes, imports, list(attributes), list(defaults)
    )


def own(op, inputs, outputs, **attrs):
    return helper.make_node(op, inputs, outputs, domain=DOMAIN, **attrs)


def model(nodes, functions: list[FunctionProto], more=()):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "functions", [x], [y])
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    imports += [helper.make_opsetid(domain, 1) for domain in more]
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=9)


FLOAT, INT = AttributeProto.FLOAT, AttributeProto.INT
node = helper.make_node

LEAKY = function(
    "Leaky", ["a"], ["b"],
    [referring(node("LeakyRelu", ["a"], ["b"]), alpha=("slope", FLOAT))],
    attributes=["slope"],
)  # fmt: skip
# Hands its own attribute on, under another name, and sets a second call's by number.
NESTED = function(
    "Nested", ["a"], ["c"],
    [
        referring(own("Leaky", ["a"], ["b"]), slope=("steep", FLOAT)),
        own("Leaky", ["b"], ["d"], slope=0.25),
        node("Add", ["b", "d"], ["c"]),
    ],
    attributes=["steep"],
)  # fmt: skip
DEFAULT = function(
    "Default", ["a"], ["c"],
    [
        referring(node("Constant", [], ["k"]), value_float=("value", FLOAT)),
        node("Mul", ["a", "k"], ["c"]),
    ],
    defaults=[helper.make_attribute("value", 3.0)],
)  # fmt: skip
# What a call leaves away is absent inside as well; axes are an attribute in opset 12.
OPTIONAL = function(
    "Optional", ["a", "low", "high"], ["c"], [node("Clip", ["a", "low", "high"], ["c"])]
)
OLD = function(
    "Old", ["a"], ["c"],
    [
        node("ReduceSum", ["a"], ["s"], axes=[1], keepdims=1),
        node("Softmax", ["a"], ["p"], axis=0),
        node("Add", ["s", "p"], ["c"]),
    ],
    opset=12,
)  # fmt: skip
TWO_RESULTS = function(
    "TwoResults", ["a"], ["p", "q"],
    [node("Neg", ["a"], ["p"]), node("Identity", ["a"], ["q"])],
)  # fmt: skip
FUSED = function(
    "Fused", ["a"], ["c"],
    [helper.make_node("QuickGelu", ["a"], ["c"], domain="com.microsoft")],
    more=["com.microsoft"],
)  # fmt: skip
IN_BRANCH = function("InBranch", ["a", "b"], ["c"], [node("Mul", ["a", "b"], ["c"])])
CONSTANT = node("Constant", [], ["zero"], value_float=0.0)

CASES = {
    "attribute": model([own("Leaky", ["x"], ["y"], slope=0.1)], [LEAKY]),
    "attribute_left_away": model([own("Leaky", ["x"], ["y"])], [LEAKY]),
    "nested": model([own("Nested", ["x"], ["y"], steep=0.5)], [LEAKY, NESTED]),
    "callee_comes_later": model([own("Nested", ["x"], ["y"], steep=0.5)], [NESTED, LEAKY]),
    "default": model([own("Default", ["x"], ["y"])], [DEFAULT]),
    "default_overridden": model([own("Default", ["x"], ["y"], value=-1.0)], [DEFAULT]),
    "optional_input": model([CONSTANT, own("Optional", ["x", "zero"], ["y"])], [OPTIONAL]),
    "optional_in_front": model([CONSTANT, own("Optional", ["x", "", "zero"], ["y"])], [OPTIONAL]),
    "older_opset": model([own("Old", ["x"], ["y"])], [OLD]),
    "called_twice": model(
        [own("Leaky", ["x"], ["a"], slope=2.0), own("Leaky", ["a"], ["y"], slope=0.1)], [LEAKY]
    ),
    "two_results": model(
        [own("TwoResults", ["x"], ["p", "q"]), node("Sub", ["p", "q"], ["y"])], [TWO_RESULTS]
    ),
    "fused_op_inside": model([own("Fused", ["x"], ["y"])], [FUSED], ["com.microsoft"]),
    "same_value_twice": model([own("InBranch", ["x", "x"], ["y"])], [IN_BRANCH]),
}


@pytest.mark.parametrize("name", CASES)
def test_function(name, reference, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(CASES[name].SerializeToString())
    feeds = {"x": np.random.default_rng(5).standard_normal((3, 4)).astype(np.float32)}
    plan = planck.build(path)
    if name == "older_opset":  # neither ONNX Runtime nor onnx.reference adapts such a body
        powers = np.exp(feeds["x"])
        want = feeds["x"].sum(1, keepdims=True) + powers / powers.sum()
    else:
        want = reference(path, feeds)["y"]
    np.testing.assert_allclose(plan.run(feeds)["y"], want, rtol=1e-5, atol=1e-6)
    named = {n for step in plan.steps for n in step.nodes} | set(plan.unused)
    assert named == set(plan.nodes)


WRONG = {
    "unknown attribute": (
        model([own("Leaky", ["x"], ["y"], slopes=0.1)], [LEAKY]), "no attribute slopes"
    ),
    "too many inputs": (model([own("Leaky", ["x", "x"], ["y"])], [LEAKY]), "the call has 2 inputs"),
    "no such function": (model([own("Missing", ["x"], ["y"])], [LEAKY]), "com.example.Missing"),
    "needs the input": (model([own("InBranch", ["x"], ["y"])], [IN_BRANCH]), "Mul"),
    "outer names are not seen": (
        model([node("Neg", ["x"], ["z"]), own("Sees", ["x"], ["y"])],
              [function("Sees", ["a"], ["c"], [node("Add", ["a", "z"], ["c"])])]),
        "nothing produces the value 'z'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_call(name):
    wrong, text = WRONG[name]
    with pytest.raises((planck.GraphError, planck.UnsupportedError), match=text):
        planck.build(wrong.SerializeToString())
