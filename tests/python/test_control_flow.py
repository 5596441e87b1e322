"""If, Loop and Scan: unrolled where the model, or a value given at build, says how they go."""

from __future__ import annotations

import numpy as np
import pytest

import planck
import planck.ort as ort
from planck.by_value import NEEDS_VALUES

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


def ports(rows):
    return [helper.make_tensor_value_info(*row) for row in rows]


def graph(nodes, inputs, outputs, weights=()):
    constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in dict(weights).items()]
    return helper.make_graph(nodes, "g", ports(inputs), ports(outputs), constants)


def model(*args, opset=18, functions=()):
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)]
    made = helper.make_model(graph(*args), opset_imports=imports, ir_version=8, functions=functions)
    return made.SerializeToString()


def branch(op, weights=()):
    return graph([helper.make_node(op, ["x"], [f"{op}_out"], f"in_{op}")], [],
                 [(f"{op}_out", FLOAT, None)], weights)  # fmt: skip


def choice(condition):
    return helper.make_node(
        "If", [condition], ["y"], "choose", then_branch=branch("Relu"), else_branch=branch("Neg")
    )


def same_as_onnxruntime(source, feeds):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(source, providers=["CPUExecutionProvider"])
    want = session.run(None, feeds)
    plan = planck.build(source)
    for got, expected in zip(plan.run(feeds).values(), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    named = {node for step in plan.steps for node in step.nodes} | set(plan.unused)
    assert named == set(plan.nodes)
    return plan


@pytest.mark.parametrize("rank", [2, 3])
def test_a_condition_on_shapes_is_decided_at_build(rank):
    """How exporters spell squeeze() and the like: the number of dimensions decides."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Size", ["shape"], ["rank"]),
        helper.make_node("Equal", ["rank", "two"], ["is_two"]),
        helper.make_node("Not", ["is_two"], ["other"]),
        helper.make_node("Not", ["other"], ["again"]),
        choice("again"),
    ]
    dims = ["n", "m", "k"][:rank]
    source = model(nodes, [("x", FLOAT, dims)], [("y", FLOAT, None)], {"two": np.int64(2)})
    plan = same_as_onnxruntime(source, {"x": X if rank == 2 else X[None]})
    assert [step.op for step in plan.steps] == ["Relu" if rank == 2 else "Neg"]
    assert any("in_Neg" in node for node in plan.unused) == (rank == 2)


def test_a_branch_without_nodes_keeps_the_name_of_its_node():
    through = graph([], [], [("c", FLOAT, None)], {"c": np.float32([1, 2])})
    node = helper.make_node("If", ["yes"], ["y"], "choose", then_branch=through,
                            else_branch=branch("Neg"))  # fmt: skip
    source = model([node], [("x", FLOAT, [2])], [("y", FLOAT, None)], {"yes": np.bool_(True)})
    same_as_onnxruntime(source, {"x": np.zeros(2, np.float32)})


def test_a_condition_that_is_fed_makes_a_plan_for_each_side():
    source = model([choice("flag")], [("x", FLOAT, [3, 4]), ("flag", BOOL, [])],
                   [("y", FLOAT, None)])  # fmt: skip
    with pytest.raises(planck.UnsupportedError, match="condition of an If") as caught:
        planck.build(source)
    assert caught.value.hint == NEEDS_VALUES and caught.value.items
    session = ort.InferenceSession(source)
    for flag, want in ((True, np.maximum(X, 0)), (False, -X), (True, np.maximum(X, 0))):
        np.testing.assert_array_equal(session.run(None, {"x": X, "flag": np.array(flag)})[0], want)


def test_a_condition_on_data_is_refused():
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        choice("positive"),
    ]
    source = model(nodes, [("x", FLOAT, ["n", 4])], [("y", FLOAT, None)], {"zero": np.float32(0)})
    for make in (planck.build, ort.InferenceSession):
        with pytest.raises(planck.UnsupportedError, match="condition of an If") as caught:
            make(source)
        assert caught.value.node == "choose"


def body(nodes, carried, gathered=(), weights=()):
    inputs = [("i", INT64, []), ("on", BOOL, [])] + [(n, FLOAT, None) for n, _ in carried]
    outputs = [("go", BOOL, [])] + [(n, FLOAT, None) for n in [b for _, b in carried]]
    return graph(nodes, inputs, outputs + [(n, FLOAT, None) for n in gathered], weights)


STEP = [
    helper.make_node("Cast", ["i"], ["place"], to=FLOAT),
    helper.make_node("Add", ["a", "place"], ["more"]),
    helper.make_node("Mul", ["more", "x"], ["b"]),
    helper.make_node("Identity", ["on"], ["go"]),
]


def loop(trips, condition="", nodes=STEP, **weights):
    inside = body(nodes, [("a", "b")], ["b2"], weights)
    inside.node.append(helper.make_node("Neg", ["b"], ["b2"]))
    return helper.make_node("Loop", [trips, condition, "start"], ["end", "all"], body=inside)


OUT = [("end", FLOAT, None), ("all", FLOAT, None)]


def test_a_loop_is_unrolled():
    weights = {"trips": np.int64(3), "start": np.ones(4, np.float32)}
    source = model([loop("trips")], [("x", FLOAT, ["n", 4])], OUT, weights)
    plan = same_as_onnxruntime(source, {"x": X})
    assert plan.run({"x": X})["all"].shape == (3, 3, 4)


def test_a_loop_ends_by_its_condition():
    nodes = [*STEP[:3], helper.make_node("Less", ["i", "last"], ["go"])]
    weights = {"yes": np.bool_(True), "start": np.ones(4, np.float32)}
    source = model([loop("", "yes", nodes, last=np.int64(4))], [("x", FLOAT, ["n", 4])], OUT,
                   weights)  # fmt: skip
    assert same_as_onnxruntime(source, {"x": X}).run({"x": X})["all"].shape == (5, 3, 4)


def test_trips_that_are_fed():
    weights = {"start": np.ones(4, np.float32)}
    source = model([loop("trips")], [("x", FLOAT, ["n", 4]), ("trips", INT64, [])], OUT, weights)
    session = ort.InferenceSession(source)
    for trips in (1, 4):
        assert session.run(["all"], {"x": X, "trips": np.array(trips)})[0].shape == (trips, 3, 4)
    with pytest.raises(planck.UnsupportedError, match="over no trips"):
        session.run(None, {"x": X, "trips": np.array(0)})


def test_loops_without_end_meet_the_limit():
    for trips in ("most", ""):
        weights = {"most": np.int64(2**63 - 1), "start": np.ones(4, np.float32)}
        source = model([loop(trips)], [("x", FLOAT, ["n", 4])], OUT, weights)
        with pytest.raises(planck.LimitError) as caught:
            planck.build(source, limits={"nodes": 500})
        assert caught.value.option == "nodes"


def test_loops_inside_functions_and_branches():
    inner = graph([loop("trips")], [], OUT[:1])
    node = helper.make_node("If", ["yes"], ["end"], then_branch=inner, else_branch=inner)
    function = helper.make_function(
        "my", "F", ["x", "start"], ["end"],
        [
            helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.bool_(1))),
            helper.make_node("Constant", [], ["trips"], value=numpy_helper.from_array(np.int64(2))),
            node,
        ],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    calls = [
        helper.make_node("F", ["x", "start"], ["first"], domain="my"),
        helper.make_node("F", ["x", "first"], ["end"], domain="my"),
    ]
    source = model(calls, [("x", FLOAT, ["n", 4])], OUT[:1], {"start": np.ones(4, np.float32)},
                   functions=[function])  # fmt: skip
    same_as_onnxruntime(source, {"x": X})


@pytest.mark.parametrize("backwards", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_scan_is_unrolled(backwards, axis):
    inside = graph(
        [helper.make_node("Add", ["sum", "row"], ["next"]),
         helper.make_node("Identity", ["next"], ["out"])],
        [("sum", FLOAT, [3 + axis]), ("row", FLOAT, [3 + axis])],
        [("next", FLOAT, [3 + axis]), ("out", FLOAT, [3 + axis])],
    )  # fmt: skip
    node = helper.make_node(
        "Scan", ["start", "x"], ["end", "all"], body=inside, num_scan_inputs=1,
        scan_input_axes=[1 - axis], scan_input_directions=[backwards],
        scan_output_axes=[axis], scan_output_directions=[1 - backwards],
    )  # fmt: skip
    weights = {"start": np.ones(3 + axis, np.float32)}
    source = model([node], [("x", FLOAT, [3, 4])], OUT, weights)
    same_as_onnxruntime(source, {"x": X})


def test_a_scan_over_an_open_extent_is_refused():
    inside = graph([helper.make_node("Neg", ["row"], ["out"])], [("row", FLOAT, [4])],
                   [("out", FLOAT, [4])])  # fmt: skip
    node = helper.make_node("Scan", ["x"], ["all"], body=inside, num_scan_inputs=1)
    source = model([node], [("x", FLOAT, ["n", 4])], OUT[1:])
    with pytest.raises(planck.UnsupportedError, match="goes over axis 0") as caught:
        planck.build(source)
    assert "dims=" in caught.value.hint
    np.testing.assert_array_equal(planck.build(source, dims={"n": 3}).run({"x": X})["all"], -X)


WRONG = {
    "inputs": [helper.make_node("If", ["yes"], ["y"], then_branch=branch("Relu"))],
    "outputs": [helper.make_node("If", ["yes"], ["y", "z"], then_branch=branch("Relu"),
                                 else_branch=branch("Neg"))],
    "body": [helper.make_node("Loop", ["n", "", "x"], ["y"], body=graph([], [], []))],
    "scan": [helper.make_node("Scan", ["x"], ["y"], body=branch("Relu"), num_scan_inputs=3)],
    "scan_axes": [helper.make_node("Scan", ["x"], ["y"], body=branch("Relu"), num_scan_inputs=1,
                                   scan_input_axes=[0, 1])],
    "shadow": [helper.make_node("If", ["yes"], ["y"], then_branch=graph(
        [helper.make_node("Neg", ["x"], ["x"])], [], [("x", FLOAT, None)]),
        else_branch=branch("Neg"))],
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_control_flow(case):
    weights = {"yes": np.bool_(True), "n": np.int64(1)}
    source = model(WRONG[case], [("x", FLOAT, [3, 4])], [("y", FLOAT, None)], weights)
    with pytest.raises(planck.GraphError):
        planck.build(source)


def test_shapes_that_inference_does_not_follow_are_computed():
    """[2,3,4] flattened to [2,12] by a shape that ConstantOfShape and Concat make."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Size", ["shape"], ["rank"]),
        helper.make_node("Sub", ["rank", "two"], ["count"]),
        helper.make_node("Reshape", ["count", "one"], ["length"]),
        helper.make_node(
            "ConstantOfShape", ["length"], ["rest"], value=helper.make_tensor("v", INT64, [1], [-1])
        ),
        helper.make_node("Slice", ["shape", "zero", "one"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["wish"], axis=0),
        helper.make_node("Reshape", ["x", "wish"], ["y"]),
    ]
    weights = {"two": np.int64(2), "one": np.array([1]), "zero": np.array([0])}
    source = model(nodes, [("x", FLOAT, [2, 3, 4])], [("y", FLOAT, None)], weights)
    plan = same_as_onnxruntime(source, {"x": np.arange(24, dtype=np.float32).reshape(2, 3, 4)})
    assert plan.outputs[0].shape == (2, 12)
