"""What an error knows besides its sentence: one row for each way to meet a class."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import planck

onnx = pytest.importorskip("onnx")
helper = onnx.helper

TEXTS = ("code", "message", "node", "op_type", "domain", "subgraph", "expected", "got", "hint")
ALSO = {"UsageError": ValueError, "FileError": OSError, "OutOfMemoryError": MemoryError}


def model(*nodes, dims=("N", 4), opset=17, domains=(), initializers=()):
    """The bytes of a model from x to the last node's first output."""
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(dims))
    y = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [x], [y], list(initializers))
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]
    return helper.make_model(graph, opset_imports=imports).SerializeToString()


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs, outputs, name=name, **attributes)


RELU = node("Relu", ["x"], ["y"], "relu")
EYE = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "table")
IDS = onnx.numpy_helper.from_array(np.array([7]), "ids")


def external(**entries):
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def run(feeds, *nodes, **options):
    planck.build(model(*nodes, **options)).run(feeds)


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@dataclass
class Case:
    """How to meet an error and what its fields then are; `words` are parts of the message."""

    kind: str
    meet: Callable[[], Any]
    words: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


CASES = {
    "option": Case(
        "UsageError",
        lambda: planck.build(model(RELU), precision="fp31"),  # type: ignore[arg-type]
        ("fp31",),
        {"got": "fp31"},
    ),
    "fallback": Case(
        "UsageError",
        lambda: planck.build(model(RELU), fallback="maybe"),  # type: ignore[arg-type]
        fields={"got": "maybe", "expected": "reference, error"},
    ),
    "pass": Case(
        "UsageError",
        lambda: planck.build(model(RELU), disabled_passes=["fulness"]),
        fields={"got": "fulness"},
    ),
    "feed type": Case(
        "FeedError",
        lambda: run({"x": ones(2, 4, dtype=np.float64)}, RELU),
        ("'x'",),
        {"expected": "float32[N,4]", "got": "float64[2,4]"},
    ),
    "feed missing": Case(
        "FeedError", lambda: run({}, RELU), ("'x'",), {"expected": "float32[N,4]", "got": "nothing"}
    ),
    "feeds": Case(
        "FeedError",
        lambda: planck.build(model(RELU)).run([ones(2, 4)]),  # type: ignore[arg-type]
        ("feeds is list",),
    ),
    "bytes": Case("ParseError", lambda: planck.build(b"\xff"), ("no ONNX model",)),
    "attribute": Case(
        "GraphError",
        lambda: planck.build(model(node("Softmax", ["x"], ["y"], "probs", axis=9))),
        ("axis 9",),
        {"node": "probs", "op_type": "Softmax", "domain": ""},
    ),
    "op": Case(
        "UnsupportedError",
        lambda: planck.build(
            model(node("Fox", ["x"], ["y"], "quick", domain="com.example"), domains=["com.example"])
        ),
        ("com.example.Fox",),
        {
            "node": "quick",
            "op_type": "Fox",
            "domain": "com.example",
            "items": ("com.example.Fox (1 node 'quick')",),
        },
    ),
    "no kernel": Case(
        "UnsupportedError",
        lambda: planck.build(model(node("Hardmax", ["x"], ["y"], "pick")), fallback="error"),
        ("no kernel",),
        {"node": "pick", "op_type": "Hardmax"},
    ),
    "external": Case(
        "ExternalDataError",
        lambda: planck.build(
            model(node("Add", ["x", "w"], ["y"]), initializers=[external(location="../w")]),
            external_data_dir="/tmp",
        ),
        ("leaves the model's folder",),
        {"got": "../w"},
    ),
    "opset": Case(
        "VersionError",
        lambda: planck.build(model(RELU, opset=1000)),
        ("1000",),
        {"got": "1000"},
    ),
    "precision": Case(
        "PrecisionError",
        lambda: planck.build(model(RELU), precision="fp8"),
        fields={"got": "fp8"},
    ),
    "index": Case(
        "RunError",
        lambda: run(
            {"x": ones(1, 4)},
            node("Gather", ["table", "ids"], ["row"], "lookup"),
            node("Add", ["x", "row"], ["y"], "sum"),
            initializers=[EYE, IDS],
        ),
        ("7",),
        {"node": "lookup", "op_type": "Gather"},
    ),
    "shapes": Case(
        "RunError",
        lambda: run(
            {"x": ones(2, 3)}, node("MatMul", ["x", "x"], ["y"], "square"), dims=("N", "M")
        ),
        ("the product of",),
        {"node": "square", "op_type": "MatMul"},
    ),
    "rank": Case(
        "LimitError",
        lambda: planck.build(model(RELU, dims=[1] * 33)),
        ("33 dimensions", "limit rank"),
        {"limit": 32, "need": 33, "option": "rank"},
    ),
    "file": Case("FileError", lambda: planck.build("nowhere.onnx"), ("nowhere.onnx",)),
    "device": Case(
        "DeviceError",
        lambda: planck.build(model(RELU), device="quantum"),
        fields={"got": "quantum", "expected": "cpu"},
    ),
    "cancelled": Case(
        "CancelledError", lambda: planck.build(model(RELU), progress=lambda stage, done: False)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_fields(case):
    kind = getattr(planck, case.kind)
    with pytest.raises(kind) as caught:
        case.meet()
    error = caught.value
    assert type(error) is kind
    for name in TEXTS:
        assert isinstance(getattr(error, name), str), name
    assert isinstance(error.items, tuple)
    assert error.message == str(error) and error.message and error.hint
    for word in case.words:
        assert word in error.message
    for name, value in case.fields.items():
        assert getattr(error, name) == value, name


@pytest.mark.parametrize("name", [n for n in planck.__all__ if n.endswith("Error")])
def test_every_class_has_every_field(name):
    """Also where Python raises it, and with the built-in class that users already catch."""
    kind = getattr(planck, name)
    error = kind("text")
    assert isinstance(error, planck.Error) and isinstance(error, ALSO.get(name, planck.Error))
    assert error.message == "text" and isinstance(error.code, str) and error.exit_code > 0
    for text in TEXTS:
        assert isinstance(getattr(error, text), str)
    assert hasattr(error, "need") == (name in ("LimitError", "OutOfMemoryError"))
    assert hasattr(error, "option") == (name in ("LimitError", "TimeoutError"))


def test_codes_are_stable_and_unique():
    kinds = [getattr(planck, n) for n in planck.__all__ if n.endswith("Error")]
    assert len({kind.code for kind in kinds}) == len(kinds) == 21
    assert planck.UsageError.exit_code == 2 and planck.InternalError.exit_code == 70
    assert planck.CancelledError.exit_code == 130


def in_little_memory(script):
    """Runs Python code in a process that gets 300 MiB more than it has."""
    head = """
import resource, numpy as np, planck
from pathlib import Path
def little():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (300 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""
    done = subprocess.run([sys.executable, "-c", head + script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_no_memory_for_a_run():
    """The arena: MemoryError with what was needed, and the plan stays usable."""
    nodes = [node("Relu", ["x"], ["a"]), node("Softmax", ["a"], ["y"])]
    script = f"""
plan = planck.build({model(*nodes, dims=("N", "M"))!r}, threads=1)
x = np.ones((320, 1 << 18), np.float32)
plan.run({{"x": x[:1]}})
little()
try:
    plan.run({{"x": x}})
except planck.OutOfMemoryError as error:
    print(isinstance(error, MemoryError), error.need >= x.nbytes or "output" in str(error))
print(plan.run({{"x": x[:1]}})["y"].shape == (1, 1 << 18))
"""
    assert in_little_memory(script) == ["True", "True", "True"]


def test_no_memory_for_a_build():
    """std::bad_alloc and failed blocks inside leave as one class."""
    count = onnx.numpy_helper.from_array(np.array([1 << 28]), "count")
    nodes = [node("ConstantOfShape", ["count"], ["c"]), node("Mul", ["x", "c"], ["y"])]
    script = f"""
data = {model(*nodes, dims=("N",), initializers=[count])!r}
little()
try:
    planck.build(data, limits={{"fold_node_bytes": 1 << 40, "fold_model_bytes": 1 << 40}})
except planck.OutOfMemoryError as error:
    print(error.code, bool(error.hint))
"""
    assert in_little_memory(script) == ["out_of_memory", "True"]
