"""Inputs that decide shapes: constants of a plan by hand, plans by their values behind sessions."""

from __future__ import annotations

import json

import numpy as np
import pytest

import planck
import planck.backend
import planck.ort as ort
from planck.by_value import MOST_ELEMENTS, MOST_PLANS, NEEDS_VALUES

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(nodes, inputs, outputs, opset=18):
    def ports(rows):
        return [helper.make_tensor_value_info(*row) for row in rows]

    graph = helper.make_graph(nodes, "g", ports(inputs), ports(outputs))
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
ANY = ["a", "b", "c"]
RESHAPE = model(
    [helper.make_node("Reshape", ["x", "shape"], ["y"])],
    [("x", FLOAT, ANY), ("shape", INT64, ["rank"])],
    [("y", FLOAT, None)],
)
RESIZE = model(
    [
        helper.make_node("Mul", ["x", "gain"], ["louder"]),
        helper.make_node("Resize", ["louder", "", "scales"], ["y"], mode="nearest"),
    ],
    [("x", FLOAT, ["n", 1, 2, 2]), ("gain", FLOAT, [1]), ("scales", FLOAT, [4])],
    [("y", FLOAT, ["n", 1, "h", "w"])],
)
SCALES = np.array([1, 1, 2, 3], np.float32)
PIXELS = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
WIDE = np.kron(PIXELS[0, 0], np.ones((2, 3), np.float32))[None, None]


def test_refusals_name_the_way_out():
    for source in (RESHAPE, RESIZE):
        with pytest.raises(planck.UnsupportedError) as caught:
            planck.build(source)
        assert caught.value.hint == NEEDS_VALUES


def test_the_value_of_an_input_is_a_constant_of_the_plan(tmp_path):
    plan = planck.build(RESHAPE, initializers={"shape": np.array([4, -1])})
    assert [port.name for port in plan.inputs] == ["x"]
    np.testing.assert_array_equal(plan.run({"x": X})["y"], X.reshape(4, 6))
    plan.save(tmp_path / "m.plan")
    again = planck.load(tmp_path / "m.plan")
    np.testing.assert_array_equal(again.run({"x": X})["y"], X.reshape(4, 6))


def test_its_extents_are_those_of_its_names():
    source = model(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        [("x", FLOAT, ["n", "m"]), ("w", FLOAT, ["m"])],
        [("y", FLOAT, ["n", "m"])],
    )
    plan = planck.build(source, initializers={"w": np.ones(3, np.float32)})
    assert plan.inputs[0].shape == ("n", 3)


@pytest.mark.parametrize(
    "value", [np.array([4, -1], np.int32), np.array([[4, -1]]), np.array([4.0, -1.0])]
)
def test_a_value_of_another_type_is_refused(value):
    with pytest.raises(planck.UsageError, match="the input 'shape' is s64") as caught:
        planck.build(RESHAPE, initializers={"shape": value})
    assert caught.value.expected and caught.value.got
    with pytest.raises(planck.UsageError, match="no initializer or input 'nope'"):
        planck.build(RESHAPE, initializers={"nope": np.array([4, -1])})


def test_a_session_builds_a_plan_for_each_value():
    session = ort.InferenceSession(RESHAPE)
    assert [(a.name, a.type, a.shape) for a in session.get_inputs()] == [
        ("x", "tensor(float)", ANY),
        ("shape", "tensor(int64)", ["rank"]),
    ]
    assert session.get_outputs()[0].type == "tensor(float)"
    for shape in ([4, 6], [24], [2, 3, 2, 2], [4, 6]):
        [y] = session.run(None, {"x": X, "shape": np.array(shape)})
        np.testing.assert_array_equal(y, X.reshape(shape))
    assert len(session._plan._plans) == 3


def test_only_what_decides_is_held_in_plans():
    session = ort.InferenceSession(RESIZE)
    for gain in (1, 2, 3):
        feeds = {"x": PIXELS, "gain": np.array([gain], np.float32), "scales": SCALES}
        np.testing.assert_array_equal(session.run(["y"], feeds)[0], gain * WIDE)
    assert len(session._plan._plans) == 1


def test_few_plans_are_kept():
    session = ort.InferenceSession(RESHAPE)
    line = np.zeros((1, 1, 720), np.float32)
    widths = [n for n in range(1, 60) if 720 % n == 0]
    assert len(widths) > MOST_PLANS
    for width in widths:
        session.run(None, {"x": line, "shape": np.array([width, -1])})
    assert len(session._plan._plans) == MOST_PLANS


def test_bindings_options_and_profiles(tmp_path):
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = ort.InferenceSession(RESHAPE, options)
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_cpu_input("shape", np.array([6, 4]))
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], X.reshape(6, 4))
    with open(session.end_profiling()) as file:
        assert any(event["cat"] == "Node" for event in json.load(file))
    stop = ort.RunOptions()
    stop.terminate = True
    with pytest.raises(planck.CancelledError):
        session.run(None, {"x": X, "shape": np.array([6, 4])}, stop)


def test_wrong_values_are_errors_of_the_run():
    session = ort.InferenceSession(RESHAPE)
    with pytest.raises(planck.Error, match="5"):
        session.run(None, {"x": X, "shape": np.array([5, 5])})
    with pytest.raises(ValueError, match="missing from input feed"):
        session.run(None, {"x": X})
    with pytest.raises(planck.FeedError, match="Unexpected input data type"):
        session.run(None, {"x": X, "shape": np.array([4, 6], np.int32)})
    with pytest.raises(planck.UnsupportedError, match="before the run"):
        session.run(None, {"x": X, "shape": np.ones(MOST_ELEMENTS + 1, np.int64)})
    np.testing.assert_array_equal(
        session.run(None, {"x": X, "shape": np.array([24])})[0], X.ravel()
    )


def test_other_refusals_stay_where_they_were(tmp_path):
    missing = model(
        [helper.make_node("Nope", ["x", "shape"], ["y"])],
        [("x", FLOAT, ANY), ("shape", INT64, ["rank"])],
        [("y", FLOAT, None)],
    )
    with pytest.raises(planck.UnsupportedError, match="Nope"):
        ort.InferenceSession(missing)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.plan")
    with pytest.raises(planck.UnsupportedError, match="before the run"):
        ort.InferenceSession(RESHAPE, options)


def test_backends_take_them_too():
    rep = planck.backend.prepare(RESHAPE)
    for shape in ([4, 6], [24]):
        np.testing.assert_array_equal(rep.run([X, np.array(shape)])[0], X.reshape(shape))
    with pytest.raises(planck.FeedError, match="its value decides shapes"):
        rep.run({"x": X})
