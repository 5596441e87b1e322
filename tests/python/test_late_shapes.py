"""Shapes that depend on data: plans that run in phases, cut where a run finds an extent out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node


def model(nodes, inputs, outputs, constants=()):
    def ports(rows):
        return [helper.make_tensor_value_info(*row) for row in rows]

    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(constants).items()]
    graph = helper.make_graph(nodes, "g", ports(inputs), ports(outputs), weights)
    imports = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def picture(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WEIGHT = picture(4, 8, seed=1)
# The rows that a mask keeps go through a product, and stand behind those of all.
ROWS = model(
    [
        node("NonZero", ["keep"], ["places"]),
        node("Squeeze", ["places", "axis"], ["rows"]),
        node("Gather", ["x", "rows"], ["kept"], name="pick"),
        node("MatMul", ["kept", "w"], ["some"]),
        node("MatMul", ["x", "w"], ["all"]),
        node("Concat", ["all", "some"], ["y"], axis=0),
        node("Relu", ["all"], ["early"]),
        node("Shape", ["kept"], ["how_many"]),
    ],
    [("x", FLOAT, ["n", 4]), ("keep", BOOL, ["n"])],
    [("y", FLOAT, None), ("early", FLOAT, None), ("kept", FLOAT, None), ("how_many", INT64, None)],
    {"axis": np.array([0]), "w": WEIGHT},
)


def expected(x, keep):
    kept = x[keep]
    return {
        "y": np.concatenate([x, kept]) @ WEIGHT,
        "early": np.maximum(x @ WEIGHT, 0),
        "kept": kept,
        "how_many": np.array(kept.shape),
    }


def check(outputs, x, keep):
    want = expected(x, keep)
    assert list(outputs) == list(want)
    for name, y in outputs.items():
        np.testing.assert_allclose(y, want[name], rtol=1e-5, atol=1e-6, strict=True)


def feeds(n, keep):
    return {"x": picture(n, 4, seed=n), "keep": np.array(keep, bool)}


CASES = [feeds(3, [1, 0, 1]), feeds(3, [0, 0, 0]), feeds(70, [1, 1] * 35), feeds(0, [])]


def test_each_run_has_its_own_shapes():
    plan = planck.build(ROWS)
    for _ in range(2):
        for given in CASES:
            check(plan.run(given), **given)
    assert plan.stats.runs == 8
    assert plan.stats.bindings == 7  # one for the first phase of each n, one for each second


def test_a_saved_plan_does_the_same(tmp_path):
    planck.build(ROWS).save(tmp_path / "rows.plan")
    plan = planck.load(tmp_path / "rows.plan")
    for given in CASES:
        check(plan.run(given), **given)


def test_threads_do_not_disturb_each_other():
    plan = planck.build(ROWS, threads=2)
    with ThreadPoolExecutor(4) as pool:
        for given, outputs in zip(CASES * 8, pool.map(plan.run, CASES * 8), strict=True):
            check(outputs, **given)


def test_callers_give_memory_for_outputs():
    plan = planck.build(ROWS)
    y = np.empty((5, 8), np.float32)
    assert plan.run(CASES[0], out={"y": y})["y"] is y
    check(plan.run(CASES[0]) | {}, **CASES[0])
    np.testing.assert_allclose(y, expected(**CASES[0])["y"], rtol=1e-5, atol=1e-6)
    with pytest.raises(planck.FeedError, match=r"float32\[3,8\]"):
        plan.run(CASES[1], out={"y": y})
    check(plan.run(CASES[1]), **CASES[1])  # the session goes on


def test_steps_can_be_compared_and_timed():
    plan = planck.build(ROWS)
    report = planck.compare(plan, "double", CASES[0])
    assert {"kept", "some", "y"} <= {row.name for row in report.rows}
    planck.assert_accuracy(plan, "double", CASES[0])
    times = []
    plan.run(CASES[0], times=times)
    assert len(times) == len(plan.steps)
    assert any(t.seconds > 0 for t in times)


def test_memory_is_not_known_before():
    with pytest.raises(planck.UnsupportedError, match="depend on data"):
        planck.build(ROWS).memory({"x": (3, 4), "keep": (3,)})


def test_a_range_up_to_what_was_computed():
    mask = model(
        [
            node("ReduceMax", ["lengths"], ["most"], keepdims=0),
            node("Range", ["zero", "most", "one"], ["places"]),
            node("Unsqueeze", ["lengths", "last"], ["column"]),
            node("Less", ["places", "column"], ["y"]),
        ],
        [("lengths", INT64, ["n"])],
        [("y", BOOL, None)],
        {"zero": np.int64(0), "one": np.int64(1), "last": np.array([1])},
    )
    plan = planck.build(mask)
    for lengths in ([3, 5, 1], [2], [0, 0]):
        want = np.arange(max(lengths)) < np.array(lengths)[:, None]
        np.testing.assert_array_equal(plan.run({"lengths": np.array(lengths)})["y"], want)


def test_a_shape_that_does_not_come_out_is_an_error_of_the_run():
    short = model(
        [
            node("NonZero", ["x"], ["places"]),
            node("Squeeze", ["places", "axis"], ["rows"]),
            node("Gather", ["x", "rows"], ["kept"]),
            node("Add", ["kept", "three"], ["y"]),
        ],
        [("x", FLOAT, ["n"])],
        [("y", FLOAT, None)],
        {"axis": np.array([0]), "three": np.ones(3, np.float32)},
    )
    plan = planck.build(short)
    np.testing.assert_array_equal(plan.run({"x": np.ones(3, np.float32)})["y"], np.full(3, 2))
    np.testing.assert_array_equal(plan.run({"x": np.ones(1, np.float32)})["y"], np.full(3, 2))
    with pytest.raises(planck.RunError, match=r"broadcast|graph says"):
        plan.run({"x": np.ones(2, np.float32)})


def test_limits_hold_for_what_the_run_finds():
    plan = planck.build(ROWS, limits={"max_tensor_bytes": 1 << 10})
    check(plan.run(CASES[0]), **CASES[0])
    with pytest.raises(planck.LimitError, match="max_tensor_bytes"):
        plan.run(feeds(60, [1] * 60))


def test_fallback_error_refuses():
    with pytest.raises(planck.UnsupportedError, match="depends on data"):
        planck.build(ROWS, fallback="error")
