"""What goes to logging.getLogger("planck"), and that nothing goes anywhere else."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
helper = onnx.helper


def model(name="relu"):
    x = helper.make_tensor_value_info("x", 1, ["N"])
    y = helper.make_tensor_value_info("y", 1, ["N"])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name=name)], "g", [x], [y])
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports).SerializeToString()


def ones(count):
    return {"x": np.ones(count, np.float32)}


def test_builds_loads_and_new_shapes(caplog):
    with caplog.at_level(logging.INFO, logger="planck"):
        plan = planck.build(model())
        plan.run(ones(3))
        plan.run(ones(3))  # nothing new
        plan.run(ones(4))
        planck.load(plan.to_bytes())
    lines = [record.getMessage() for record in caplog.records]
    assert all(record.name == "planck" and record.levelname == "INFO" for record in caplog.records)
    assert [line.split()[0] for line in lines] == ["building", "built", "new", "new", "loaded"]
    assert "fusions refused" in lines[1] and "[3]" in lines[2] and "[4]" in lines[3]


def test_limits_are_warnings(caplog):
    plan = planck.build(model(), limits={"max_tensor_bytes": 40})
    with caplog.at_level(logging.WARNING, logger="planck"), pytest.raises(planck.LimitError):
        plan.run(ones(100))
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "max_tensor_bytes" in record.getMessage()


def test_hostile_names_are_escaped_and_cut(caplog):
    hostile = "%s \x1b[31m" + "n" * 3000
    data = model(hostile)
    with caplog.at_level(logging.WARNING, logger="planck"), pytest.raises(planck.LimitError):
        planck.build(data, limits={"initializer_bytes": 0, "name_bytes": 3})
    with caplog.at_level(logging.WARNING, logger="planck"):
        plan = planck.build(data, limits={"max_tensor_bytes": 40})
        with pytest.raises(planck.LimitError):
            plan.run(ones(100))
    for record in caplog.records:
        line = record.getMessage()
        assert len(line.encode()) <= 1024 and line.isprintable()


def test_handlers_may_fail(caplog):
    class Broken(logging.Handler):
        def emit(self, record):
            raise KeyError("broken")

    logger = logging.getLogger("planck")
    handler = Broken()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, logger="planck"):
            assert planck.build(model()).run(ones(2))["y"].shape == (2,)
    finally:
        logger.removeHandler(handler)


def test_nothing_is_printed():
    """A limit, a failed build and a run without any logging set up."""
    script = f"""
import planck, numpy as np
data = {model()!r}
plan = planck.build(data, limits={{"max_tensor_bytes": 40}})
plan.run({{"x": np.ones(3, np.float32)}})
for call in (lambda: plan.run({{"x": np.ones(99, np.float32)}}), lambda: planck.build(b"x")):
    try:
        call()
    except planck.Error:
        pass
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
