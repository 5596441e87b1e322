"""The interface of ONNX Runtime: one text runs on both; results, messages and types agree."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import planck
import planck.models
import planck.ort

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper = onnx.helper
FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
DOCS = Path(__file__).parents[2] / "docs" / "onnxruntime.md"


def port(name: str, kind: int, dims: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, dims)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def model(nodes: Any, inputs: Any, outputs: Any, initializers: Any = (), **about: Any) -> bytes:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers, doc_string="a graph")
    about.setdefault("opset_imports", [helper.make_opsetid("", 17)])
    made = helper.make_model(graph, ir_version=8, **about)
    helper.set_model_props(made, {"b": "1", "a": "zwei"})
    return made.SerializeToString()


def weight(name: str, array: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(array), name)


# Outputs of four types, some with no declared shape, one with a name of its own for its axis.
MANY = model(
    [
        node("Add", "x w", "sum"),
        node("Greater", "x w", "larger"),
        node("Shape", "x", "extents"),
        node("ReduceSum", "sum", "total", keepdims=0),
        node("Concat", "x x", "twice", axis=0),
    ],
    [port("x", FLOAT, ["my batch", 3]), port("w", FLOAT, [3])],
    [
        port("sum", FLOAT, ["rows", None]),
        port("larger", BOOL, None),
        port("extents", INT64, None),
        port("total", FLOAT, None),
        port("twice", FLOAT, None),
    ],
    [weight("w", np.float32([0.5, 1.5, 2.5]))],
    producer_name="maker",
    domain="org.example",
    doc_string="a model",
    model_version=-7,
)
GATHER = model(
    [node("Gather", "table ids", "rows")],
    [port("table", FLOAT, [None, 2]), port("ids", INT64, ["N", "M"])],
    [port("rows", FLOAT, None)],
)
PLAIN = model([node("Relu", "x", "y")], [port("x", FLOAT, [1, "n"])], [port("y", FLOAT, None)])
INTEGERS = model(
    [node("Add", "a b", "c"), node("And", "p q", "r")],
    [port("a", INT64, ["n"]), port("b", INT64, ["n"]), port("p", BOOL, []), port("q", BOOL, [])],
    [port("c", INT64, ["n"]), port("r", BOOL, [])],
)
DOUBLES = model(
    [node("Mul", "x x", "y"), node("Cast", "y", "z", to=onnx.TensorProto.FLOAT16)],
    [port("x", onnx.TensorProto.DOUBLE, ["n"])],
    [port("y", onnx.TensorProto.DOUBLE, ["n"]), port("z", onnx.TensorProto.FLOAT16, None)],
)
MODELS = {
    "many": MANY,
    "gather": GATHER,
    "plain": PLAIN,
    "integers": INTEGERS,
    "doubles": DOUBLES,
    "dangling": model([node("Relu", "z", "y")], [port("x", FLOAT, [1])], [port("y", FLOAT, [1])]),
}

# Each text runs with `ort`, `np`, `models` (bytes by name), `bert` (a path), `feeds` and `session`
# (of "many" or what its name begins with); its value is what `result` holds at its end.
X = "x = np.arange(6, dtype=np.float32).reshape(2, 3)\n"
SAME = {
    "many: inputs": "result = [str(arg) for arg in session.get_inputs()]",
    "many: outputs": "result = [str(arg) for arg in session.get_outputs()]",
    "many: fields": "arg = session.get_inputs()[0]; result = [arg.name, arg.type, arg.shape]",
    "many: defaults": "result = [str(arg) for arg in session.get_overridable_initializers()]",
    "many: metadata": """
meta = session.get_modelmeta()
names = "producer_name graph_name domain description graph_description version custom_metadata_map"
result = [getattr(meta, name) for name in names.split()]""",
    "many: all outputs": X + "result = session.run(None, {'x': x})",
    "many: negative threads": X
    + """
options = ort.SessionOptions()
options.intra_op_num_threads = -1
session = ort.InferenceSession(models['many'], options, providers=['CPUExecutionProvider'])
result = session.run(None, {'x': x})""",
    "many: switches of the module": """
ort.set_seed(3), ort.set_default_logger_verbosity(0), ort.disable_telemetry_events()
ort.preload_dlls() if ort.__name__.startswith('planck') else None
result = type(ort.get_build_info()), 'CPUExecutionProvider' in ort.get_all_providers()""",
    "many: no names": X + "result = session.run([], {'x': x})",
    "many: a name twice": X + "result = session.run(['total', 'sum', 'total'], {'x': x})",
    "many: by keyword": X + "result = session.run(output_names=['sum'], input_feed={'x': x})",
    "many: list": "result = session.run(['sum'], {'x': [[1, 2, 3.5]]})",
    "many: no rows": "result = session.run(None, {'x': np.zeros((0, 3), np.float32)})",
    "many: default fed": X
    + "result = session.run(None, {'x': x, 'w': np.full(3, 4, np.float32)}), "
    "session.run(None, {'x': x})",
    "many: default of another extent": X
    + "session.run(None, {'x': x, 'w': np.ones(4, np.float32)})",
    "many: default of another type": X + "session.run(None, {'x': x, 'w': np.ones(3)})",
    "many: transposed": "result = session.run(None, {'x': np.ones((3, 2), np.float32).T})",
    "many: strided": "result = session.run(None, {'x': np.ones((4, 6), np.float32)[::2, ::2]})",
    "many: OrtValue": X
    + "result = session.run(['sum'], {'x': ort.OrtValue.ortvalue_from_numpy(x)})",
    "many: unknown output": X + "session.run(['nothing'], {'x': x})",
    "many: unknown input": X + "session.run(None, {'x': x, 'z': x})",
    "many: missing": X + "session.run(None, {'z': x})",
    "many: nothing fed": "session.run(None, {})",
    "many: double": "session.run(None, {'x': np.ones((2, 3))})",
    "many: int32": "session.run(None, {'x': np.ones((2, 3), np.int32)})",
    "many: bool": "session.run(None, {'x': np.ones((2, 3), bool)})",
    "many: strings": "session.run(None, {'x': np.array([['a', 'b', 'c']], object)})",
    "many: rank": "session.run(None, {'x': np.ones(3, np.float32)})",
    "many: extent": "session.run(None, {'x': np.ones((2, 4), np.float32)})",
    "many: terminated": X
    + "options = ort.RunOptions(); options.terminate = True\nsession.run(None, {'x': x}, options)",
    "many: terminated no more": X
    + "options = ort.RunOptions(); options.terminate = True; options.terminate = False\n"
    "result = session.run(None, {'x': x}, options)",
    "many: ort values": X
    + "out = session.run_with_ort_values(None, {'x': ort.OrtValue.ortvalue_from_numpy(x)})\n"
    "result = [(v.numpy(), v.shape(), v.data_type(), v.element_type()) for v in out]",
    "many: ort values missing": "session.run_with_ort_values(['sum'], {})",
    "plain: no version": """
result = ort.InferenceSession(models["plain"]).get_modelmeta().version""",
    "many: broadcast": "result = session.run(None, {'x': np.broadcast_to(np.float32(2), (2, 3))})",
    "many: reversed": X + "result = session.run(None, {'x': x[::-1, ::-1]})",
    "many: read-only": X + "x.setflags(write=False)\nresult = session.run(None, {'x': x})",
    "many: providers": "result = session.get_providers()",
    "many: tuning": "result = session.get_tuning_results()",
    "many: no profile": "result = session.end_profiling(), session.get_profiling_start_time_ns()",
    "many: fallback": "result = session.disable_fallback(), session.enable_fallback()",
    "plain: two extents": "session.run(None, {'x': np.ones((2, 3), np.float32)})",
    "plain: from a path": """
import os, tempfile
path = os.path.join(tempfile.mkdtemp(), "m.onnx")
open(path, "wb").write(models["plain"])
result = ort.InferenceSession(path).run(None, {'x': np.ones((1, 2), np.float32)})""",
    "gather: inputs": "result = [str(arg) for arg in session.get_inputs() + session.get_outputs()]",
    "gather: run": """
table = np.eye(3, 2, dtype=np.float32)
result = session.run(None, {'table': table, 'ids': np.array([[2, -1]])})""",
    "gather: ids of 32 bits": """
session.run(None, {'table': np.eye(3, 2, dtype=np.float32), 'ids': np.array([[2]], np.int32)})""",
    "integers": """
a = np.arange(3)
result = session.run(None, {'a': a, 'b': a, 'p': np.array(True), 'q': np.array(False)})""",
    "integers: list": """
p = np.array(True)
result = session.run(['c'], {'a': [1, 2], 'b': [3, 4], 'p': p, 'q': p})""",
    "doubles": "result = session.run(None, {'x': np.linspace(0, 9, 5)})",
    "doubles: outputs": "result = [str(arg) for arg in session.get_outputs()]",
    "bert: ports": "result = [str(arg) for arg in session.get_inputs() + session.get_outputs()]",
    "bert: run": "result = session.run(None, feeds)",
    "bert: subset": "result = session.run([session.get_outputs()[-1].name], feeds)",
    "bert: binding": """
binding = session.io_binding()
for name, array in feeds.items():
    binding.bind_cpu_input(name, array)
binding.bind_output(session.get_outputs()[0].name)
session.run_with_iobinding(binding)
result = binding.copy_outputs_to_cpu()""",
    "binding: pointers": X
    + """
out = np.zeros((2, 3), np.float32)
binding = session.io_binding()
binding.bind_input('x', 'cpu', 0, np.float32, [2, 3], x.ctypes.data)
binding.bind_output('sum', 'cpu', 0, 1, [2, 3], out.ctypes.data)
binding.bind_output('total')
binding.synchronize_inputs()
session.run_with_iobinding(binding)
binding.synchronize_outputs()
first = out.copy(), binding.copy_outputs_to_cpu()[1]
x[:] = 7
session.run_with_iobinding(binding)
result = first, out, [value.data_ptr() == out.ctypes.data for value in binding.get_outputs()]""",
    "binding: values": X
    + """
value = ort.OrtValue.ortvalue_from_numpy(x)
out = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32)
binding = session.io_binding()
binding.bind_ortvalue_input('x', value)
binding.bind_ortvalue_output('sum', out)
session.run_with_iobinding(binding)
value.update_inplace(np.full((2, 3), -1, np.float32))
first = out.numpy().copy()
session.run_with_iobinding(binding)
result = first, out.numpy(), x
binding.clear_binding_inputs()
binding.clear_binding_outputs()""",
    "binding: no pointer's type": "session.io_binding().bind_output('sum', buffer_ptr=64)",
    "binding: of another session": """
session.run_with_iobinding(ort.InferenceSession(models["many"]).io_binding())""",
    "value": X
    + """
value = ort.OrtValue.ortvalue_from_numpy(x)
result = [
    value.shape(), value.data_type(), value.element_type(), value.device_name(), value.has_value(),
    value.is_tensor(), value.is_tensor_sequence(), value.is_sparse_tensor(),
    value.tensor_size_in_bytes(), value.data_ptr() == x.ctypes.data, value.numpy(),
    value.__dlpack_device__(), np.from_dlpack(value), np.asarray(value),
    ort.OrtValue.from_dlpack(x).numpy(), ort.OrtValue.from_dlpack(x.__dlpack__()).numpy(),
]""",
    "value: by type": """
make = ort.OrtValue.ortvalue_from_shape_and_type
result = [(v.shape(), v.data_type(), v.element_type())
          for v in (make([2, 3], np.float64), make([], 7), make([1], 16), make((0,), np.bool_))]""",
    "value: bits of another type": """
value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.full(2, 0x3F80, np.uint16), 16)
result = value.data_type(), value.element_type(), value.shape()""",
    "options": """
options = ort.SessionOptions()
options.add_session_config_entry("a", "b")
result = [options.get_session_config_entry("a"), options.logid, options.log_verbosity_level,
          options.intra_op_num_threads, options.enable_profiling, options.profile_file_prefix,
          options.enable_mem_pattern, options.enable_cpu_mem_arena, options.inter_op_num_threads,
          options.optimized_model_filepath, options.use_deterministic_compute,
          str(options.graph_optimization_level), str(options.execution_mode)]
run = ort.RunOptions()
run.add_run_config_entry("c", "d")
result += [run.get_run_config_entry("c"), run.log_severity_level, run.terminate, run.logid,
           run.only_execute_path_to_fetches]""",
    "options: levels": """
result = [(name, int(level)) for name, level in ort.GraphOptimizationLevel.__members__.items()]
result += [(name, int(mode)) for name, mode in ort.ExecutionMode.__members__.items()]""",
    "options: no entry": "ort.SessionOptions().get_session_config_entry('none')",
    "options: no run entry": "ort.RunOptions().get_run_config_entry('none')",
    "options: every level": X
    + """
result = []
for level in ort.GraphOptimizationLevel.__members__.values():
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    result.append(ort.InferenceSession(bert, options).run(None, feeds))""",
    "options: initializer": X
    + """
options = ort.SessionOptions()
mine = ort.OrtValue.ortvalue_from_numpy(np.float32([7, 8, 9]))
options.add_initializer("w", mine)
result = ort.InferenceSession(models["many"], options).run(None, {'x': x})""",
    "options: dimension": X
    + """
options = ort.SessionOptions()
options.add_free_dimension_override_by_name("my batch", 2)
options.add_free_dimension_override_by_name("no such name", 5)
fixed = ort.InferenceSession(models["many"], options)
ports = [str(arg) for arg in fixed.get_inputs() + fixed.get_outputs()]
result = ports, fixed.run(None, {'x': x})""",
    "options: dimension refused": """
options = ort.SessionOptions()
options.add_free_dimension_override_by_name("my batch", 2)
ort.InferenceSession(models["many"], options).run(None, {'x': np.ones((3, 3), np.float32)})""",
    "async": X
    + """
import threading
done, results = threading.Event(), []
def callback(*arguments):
    results.append(arguments)
    done.set()
options = ort.SessionOptions()
options.intra_op_num_threads = 2
asynchronous = ort.InferenceSession(models["many"], options)
asynchronous.run_async(None, {'x': x}, callback, "mine")
assert done.wait(60)
result = results""",
    "async: missing": "session.run_async(None, {}, print, None)",
    "load: no file": "ort.InferenceSession('/none/model.onnx')",
    "load: no bytes": "ort.InferenceSession(7)",
    "load: nothing": "ort.InferenceSession(None)",
    "module": "result = ort.get_device(), ort.__version__, 'CPUExecutionProvider' in "
    "ort.get_available_providers()",
}


def outcome(ort: ModuleType, text: str, session: Any, names: dict[str, Any]) -> Any:
    """What a text makes of a module: its result or its error."""
    scope = {"ort": ort, "np": np, "session": session, "models": MODELS, "result": None, **names}
    try:
        exec(text, scope)
    except Exception as error:
        return error
    return scope["result"]


def assert_same_error(got: Any, want: Exception) -> None:
    """Types of one name with one message; a built-in type may be met by a subclass."""
    text = str(want).replace("the inputs/outputs or", "the inputs or")
    if type(want).__module__ == "builtins":
        assert isinstance(got, type(want))
        assert str(got).endswith(text)
    else:
        assert type(got).__name__ == type(want).__name__
        assert str(got) == text


def assert_same(got: Any, want: Any) -> None:
    if isinstance(want, Exception):
        assert_same_error(got, want)
    elif isinstance(want, np.ndarray):
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5)
    elif isinstance(want, (list, tuple)):
        assert len(got) == len(want), (got, want)
        for one, other in zip(got, want, strict=True):
            assert_same(one, other)
    else:
        assert got == want


@pytest.fixture(scope="module")
def sessions(model_path: Any) -> dict[tuple[str, str], Any]:
    """Sessions by module and model."""
    made = {}
    for ort in (planck.ort, onnxruntime):
        for name in ("many", "gather", "plain", "integers", "doubles"):
            made[ort.__name__, name] = ort.InferenceSession(MODELS[name])
        made[ort.__name__, "bert"] = ort.InferenceSession(os.fspath(model_path("bert_encoder")))
    return made


@pytest.mark.parametrize("name", SAME)
def test_same_text_same_outcome(name: str, sessions: Any, model_path: Any) -> None:
    names = {
        "bert": os.fspath(model_path("bert_encoder")),
        "feeds": planck.models.feeds("bert_encoder", (2, 7), size="mini"),
    }
    which = name.partition(":")[0]
    outcomes = []
    for ort in (planck.ort, onnxruntime):
        session = sessions.get((ort.__name__, which)) or sessions[ort.__name__, "many"]
        outcomes.append(outcome(ort, SAME[name], session, names))
    print(outcomes[0])
    assert_same(*outcomes)


# --- where we differ, and say so in docs/onnxruntime.md


def status(error: BaseException) -> tuple[str, str]:
    """The number and label of a message, which begins with them."""
    found = re.match(r"\[ONNXRuntimeError\] : (\d+) : (\w+) : ", str(error))
    assert found, error
    return found[1], found[2]


REFUSED = {
    "empty": ("NoModel", planck.ParseError, lambda: planck.InferenceSession(b"")),
    "garbage": ("InvalidProtobuf", planck.ParseError, lambda: planck.InferenceSession(b"hello")),
    "cut": ("InvalidProtobuf", planck.ParseError, lambda: planck.InferenceSession(MANY[:50])),
    "dangling": (
        "InvalidGraph",
        planck.GraphError,
        lambda: planck.InferenceSession(MODELS["dangling"]),
    ),
    "ops": (
        "NotImplemented",
        planck.UnsupportedError,
        lambda: planck.InferenceSession(
            model([node("Fox", "x", "y")], [port("x", FLOAT, [1])], [port("y", FLOAT, [1])])
        ),
    ),
    "opset": (
        "Fail",
        planck.VersionError,
        lambda: planck.InferenceSession(
            model(
                [node("Relu", "x", "y")],
                [port("x", FLOAT, [1])],
                [port("y", FLOAT, [1])],
                opset_imports=[helper.make_opsetid("", 999)],
            )
        ),
    ),
    "directory": ("NoSuchFile", planck.FileError, lambda: planck.InferenceSession("/tmp")),
    "cuda": (
        "EPFail",
        planck.DeviceError,
        lambda: planck.InferenceSession(PLAIN, providers=["CUDAExecutionProvider"]),
    ),
    "provider option": (
        "InvalidArgument",
        planck.UsageError,
        lambda: planck.InferenceSession(PLAIN, providers=[("CPUExecutionProvider", {"file": 1})]),
    ),
    "provider": (
        "InvalidArgument",
        planck.UsageError,
        lambda: planck.InferenceSession(PLAIN, providers=[3]),  # type: ignore[list-item]
    ),
    "index": (
        "RuntimeException",
        planck.RunError,
        lambda: planck.InferenceSession(GATHER).run(
            None, {"table": np.ones((3, 2), np.float32), "ids": np.array([[3]])}
        ),
    ),
    "lossy list": (
        "InvalidArgument",
        planck.FeedError,
        lambda: planck.InferenceSession(GATHER).run(
            None, {"table": np.ones((3, 2), np.float32), "ids": [[0.5]]}
        ),
    ),
    "feed": (
        "InvalidArgument",
        planck.FeedError,
        lambda: planck.InferenceSession(PLAIN).run(None, [1]),  # type: ignore[arg-type]
    ),
    "limit": (
        "RuntimeException",
        planck.LimitError,
        lambda: planck.InferenceSession(
            model(
                [node("MatMul", "a b", "y")],
                [port("a", FLOAT, ["n", 1]), port("b", FLOAT, [1, "m"])],
                [port("y", FLOAT, None)],
            )
        ).run(
            None, {"a": np.ones((1 << 16, 1), np.float32), "b": np.ones((1, 1 << 16), np.float32)}
        ),
    ),
    "custom ops": (
        "NotImplemented",
        planck.UnsupportedError,
        lambda: planck.ort.SessionOptions().register_custom_ops_library("ops.so"),
    ),
    "device": (
        "EPFail",
        planck.DeviceError,
        lambda: planck.ort.OrtValue.ortvalue_from_numpy(np.ones(1), "cuda", 0),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_are_of_both_kinds(name: str) -> None:
    kind, ours, meet = REFUSED[name]
    state = planck.ort.capi.onnxruntime_pybind11_state
    with pytest.raises(ours) as caught:
        meet()
    error = caught.value
    assert type(error).__name__ == kind and isinstance(error, getattr(state, kind))
    number, label = getattr(state, kind).status
    assert status(error) == (str(number), label)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ours) and isinstance(again, getattr(state, kind))
    assert str(again) == str(error) and again.code == error.code


def test_all_types_are_there_with_the_numbers_of_onnx_runtime() -> None:
    ours = planck.ort.capi.onnxruntime_pybind11_state
    theirs = onnxruntime.capi.onnxruntime_pybind11_state
    kinds = {
        name
        for name, kind in vars(theirs).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert kinds == set(ours.__all__) and len(kinds) == 15
    assert sorted(getattr(ours, name).status[0] for name in kinds) == list(range(1, 16))
    assert all(issubclass(getattr(ours, name), planck.Error) for name in kinds)
    assert planck.InferenceSession is planck.ort.InferenceSession


def test_fields_of_errors_survive() -> None:
    with pytest.raises(planck.UnsupportedError) as caught:
        REFUSED["ops"][2]()
    assert len(caught.value.items) == 1 and caught.value.hint
    with pytest.raises(
        ValueError, match=r"Required inputs \(\['x'\]\) are missing from input feed"
    ):
        planck.InferenceSession(PLAIN).run(None, {"x": None})


@pytest.mark.parametrize(
    "providers",
    [["Foo"], ["Foo", "CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]],
)
def test_absent_providers_give_one_warning(providers: list[str]) -> None:
    with pytest.warns(UserWarning, match="is not in available provider names") as seen:
        session = planck.InferenceSession(PLAIN, providers=providers)
    assert len(seen) == 1 and seen[0].filename == __file__
    assert session.get_providers() == ["CPUExecutionProvider"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        planck.InferenceSession(PLAIN, providers=[("CPUExecutionProvider", {})])
        planck.InferenceSession(PLAIN, providers=["CPUExecutionProvider"], provider_options=[{}])
        planck.InferenceSession(PLAIN, providers=[])


def test_pointers_are_checked() -> None:
    binding = planck.InferenceSession(MANY).io_binding()
    memory = np.ones((2, 3), np.float32)
    at = memory.ctypes.data
    wrong: list[tuple[Any, ...]] = [
        ("x", "cpu", 0, np.float64, [2, 3], at),  # type
        ("x", "cpu", 0, np.float32, [3, 2], at),  # extents
        ("x", "cpu", 0, np.float32, [6], at),  # rank
        ("x", "cpu", 0, np.float32, [-2, 3], at),
        ("x", "cpu", 0, np.float32, [2, 3], 0),
        ("x", "cpu", 0, np.float32, [2, 3], at + 1),  # alignment
        ("x", "cpu", 0, np.float32, [2, 3], 4096),  # nothing is there
        ("x", "cpu", 0, np.float32, [1 << 50, 3], at),  # not so much
        ("x", "cpu", 0, 99, [2, 3], at),
        ("z", "cpu", 0, np.float32, [2, 3], at),
        ("x", "tpu", 0, np.float32, [2, 3], at),
    ]
    for arguments in wrong:
        with pytest.raises(planck.ort.onnxruntime_pybind11_state.InvalidArgument):
            binding.bind_input(*arguments)
        with pytest.raises(planck.ort.onnxruntime_pybind11_state.InvalidArgument):
            binding.bind_output("sum" if arguments[0] == "x" else "z", *arguments[1:])
    with pytest.raises(planck.DeviceError):
        binding.bind_input("x", "cuda", 0, np.float32, [2, 3], at)
    code = np.frombuffer(b"never written to", np.uint8)
    assert not code.flags.writeable
    text = int(re.findall(r"^(\w+)-\S+ r-xp", Path("/proc/self/maps").read_text(), re.M)[0], 16)
    with pytest.raises(planck.FeedError, match="cannot be written"):
        binding.bind_output("sum", "cpu", 0, np.float32, [2, 3], text)


def test_bound_outputs_of_another_extent_are_refused() -> None:
    session = planck.InferenceSession(MANY)
    binding = session.io_binding()
    out = np.zeros((3, 3), np.float32)
    binding.bind_output("sum", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    with pytest.raises(planck.FeedError, match="Required inputs"):
        session.run_with_iobinding(binding)
    binding.bind_cpu_input("x", np.ones((2, 3), np.float32))
    with pytest.raises(planck.FeedError, match="out\\['sum'\\]"):
        session.run_with_iobinding(binding)
    assert not out.any()
    binding.bind_output("sum")
    for rows in (2, 5, 3):
        binding.bind_cpu_input("x", np.ones((rows, 3), np.float32))
        session.run_with_iobinding(binding)
        assert binding.get_outputs()[0].shape() == [rows, 3]


def test_bound_arrays_are_not_copied(model_path: Any) -> None:
    session = planck.InferenceSession(model_path("bert_encoder"))
    feeds = planck.models.feeds("bert_encoder", (1, 8), size="mini")
    [out] = session.run(["last_hidden_state"], feeds)
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    binding.bind_ortvalue_output("last_hidden_state", planck.ort.OrtValue.ortvalue_from_numpy(out))
    session.run_with_iobinding(binding)
    before = session._plan.stats
    for _ in range(3):
        session.run_with_iobinding(binding)
    after = session._plan.stats
    assert after.copies == before.copies and after.allocations == before.allocations
    assert binding.copy_outputs_to_cpu()[0] is out


class OnGpu:
    """An array of another device, as far as it says."""

    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012

    def __dlpack__(self, **_: Any) -> object:
        raise BufferError("not on this device")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def test_values_share_memory_with_arrays() -> None:
    import ml_dtypes

    capsule = np.ones(2, np.float32).__dlpack__()
    planck.ort.OrtValue.from_dlpack(capsule)
    for other in (capsule, object(), np.ones(2, "U3"), OnGpu()):
        with pytest.raises(planck.FeedError):
            planck.ort.OrtValue.from_dlpack(other)
    for other in (OnGpu(), object(), {"a": 1}, memoryview(b"x")):
        with pytest.raises(planck.FeedError):
            planck.InferenceSession(PLAIN).run(None, {"x": other})
    make = planck.ort.OrtValue.ortvalue_from_shape_and_type
    for shape, kind in (([-1], 1), ([1 << 62], 1), ([2], 99), ([2], "M8[s]")):
        with pytest.raises(planck.UsageError):
            make(shape, kind)
    with pytest.raises(planck.OutOfMemoryError):
        make([1 << 50], 1)
    half = planck.ort.OrtValue.ortvalue_from_shape_and_type([2], 16)
    assert half.numpy().dtype == ml_dtypes.bfloat16
    array = np.zeros(3, np.float32)
    value = planck.ort.OrtValue.from_dlpack(array)
    assert np.shares_memory(value.numpy(), array)
    for other in (np.zeros(4, np.float32), np.zeros(3)):
        with pytest.raises(planck.FeedError):
            value.update_inplace(other)
    with pytest.raises(TypeError):
        value.update_inplace([1, 2, 3])
    with pytest.raises(planck.FeedError):
        planck.ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros(2, np.uint8), 16)


def test_options_have_types() -> None:
    options = planck.ort.SessionOptions()
    for name, value in {
        "graph_optimization_level": 3,
        "intra_op_num_threads": "two",
        "enable_profiling": 1,
        "logid": 5,
        "log_severity_level": True,
    }.items():
        with pytest.raises(TypeError, match=name):
            setattr(options, name, value)
    with pytest.raises(AttributeError):
        options.intra_threads = 2  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        planck.InferenceSession(PLAIN, planck.ort.RunOptions())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        planck.InferenceSession(PLAIN).run(
            None,
            {"x": np.ones((1, 1), np.float32)},
            planck.ort.SessionOptions(),  # type: ignore[arg-type]
        )


def test_levels_switch_passes_off(model_path: Any) -> None:
    steps = []
    levels = planck.ort.GraphOptimizationLevel
    for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_ALL):
        options = planck.ort.SessionOptions()
        options.graph_optimization_level = level
        session = planck.InferenceSession(model_path("bert_encoder"), options)
        steps.append(len(session._plan.steps))
    assert steps[0] >= steps[1] > 2 * steps[2]


def test_threads_reach_the_plan() -> None:
    options = planck.ort.SessionOptions()
    options.intra_op_num_threads = 3
    assert planck.InferenceSession(PLAIN, options)._plan.threads == 3


def test_a_saved_plan_is_a_model(tmp_path: Path, model_path: Any) -> None:
    options = planck.ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    with pytest.raises(planck.UnsupportedError, match=r"\.plan"):
        planck.InferenceSession(PLAIN, options)
    options.optimized_model_filepath = str(tmp_path / "optimized.plan")
    session = planck.InferenceSession(model_path("bert_encoder"), options)
    feeds = planck.models.feeds("bert_encoder", (2, 3), size="mini")
    want = session.run(None, feeds)
    saved = Path(options.optimized_model_filepath)
    for source in (saved, saved.read_bytes()):
        loaded = planck.InferenceSession(source)
        assert [str(arg) for arg in loaded.get_inputs()] == list(map(str, session.get_inputs()))
        assert_same(loaded.run(None, feeds), want)
    fixed = planck.ort.SessionOptions()
    fixed.add_free_dimension_override_by_name("batch_size", 2)
    with pytest.raises(planck.UsageError, match="this is a plan"):
        planck.InferenceSession(saved, fixed)
    with pytest.raises(planck.CorruptError):
        planck.InferenceSession(saved.read_bytes()[:100])


def test_weights_beside_bytes_come_from_the_folder_that_is_named(model_path: Any) -> None:
    path = model_path("bert_encoder", external_data=True)
    options = planck.ort.SessionOptions()
    with pytest.raises(planck.ExternalDataError) as caught:
        planck.InferenceSession(path.read_bytes(), options)
    assert type(caught.value).__name__ == "InvalidGraph"
    key = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(key, str(path.parent))
    planck.InferenceSession(path.read_bytes(), options)


def test_profile_is_a_chrome_trace(
    tmp_path: Path, model_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = planck.ort.SessionOptions()
    options.enable_profiling = True
    before = time.time_ns()
    session = planck.InferenceSession(model_path("bert_encoder"), options)
    assert before <= session.get_profiling_start_time_ns() <= time.time_ns()
    feeds = planck.models.feeds("bert_encoder", (2, 3), size="mini")
    session.run(None, feeds)
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("last_hidden_state")
    session.run_with_iobinding(binding)
    name = session.end_profiling()
    assert re.fullmatch(r"onnxruntime_profile__\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d{3}\.json", name)
    events = json.loads((tmp_path / name).read_text())
    steps = [event for event in events if event["cat"] == "Node"]
    assert len(steps) == 2 * len(session._plan.steps)
    assert all(event["ph"] == "X" and event["pid"] == os.getpid() for event in events)
    covered = {node for event in steps for node in event["args"]["nodes"]}
    assert covered | set(session._plan.unused) == set(session._plan.nodes)
    [load, *runs] = [event for event in events if event["cat"] == "Session"]
    assert load["name"] == "session_initialization" and len(runs) == 2
    for run, part in zip(runs, (steps[: len(steps) // 2], steps[len(steps) // 2 :]), strict=True):
        assert math.fsum(event["dur"] for event in part) <= run["dur"]
        assert all(event["ts"] >= run["ts"] for event in part)
    assert session.end_profiling() == "" and list(tmp_path.iterdir()) == [tmp_path / name]


def test_runs_of_many_threads_give_the_bits_of_one(model_path: Any) -> None:
    session = planck.InferenceSession(model_path("bert_encoder"))
    shapes = [(1, 5), (2, 9), (3, 4), (1, 17)]
    feeds = [planck.models.feeds("bert_encoder", shape, size="mini") for shape in shapes]
    want = [session.run(None, feed) for feed in feeds]
    wrong: list[int] = []

    def work(first: int) -> None:
        for i in range(first, first + 40):
            got = session.run(None, feeds[i % len(feeds)])
            if not all(map(np.array_equal, got, want[i % len(feeds)])):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_terminate_from_another_thread(tmp_path: Path) -> None:
    """A chain of products runs for seconds where nobody ends it."""
    size, count = 1024, 60
    names = [f"v{i}" for i in range(count + 1)]
    chain = model(
        [node("MatMul", f"{a} x", b) for a, b in itertools.pairwise(names)],
        [port("v0", FLOAT, [size, size]), port("x", FLOAT, [size, size])],
        [port(names[-1], FLOAT, None)],
    )
    session_options = planck.ort.SessionOptions()
    session_options.intra_op_num_threads = 1
    session = planck.InferenceSession(chain, session_options)
    one = np.eye(size, dtype=np.float32)
    options = planck.ort.RunOptions()
    timer = threading.Timer(0.05, lambda: setattr(options, "terminate", True))
    timer.start()
    with pytest.raises(planck.CancelledError, match="terminate flag being set to true") as caught:
        session.run(None, {"v0": one, "x": one}, options)
    assert status(caught.value) == ("1", "FAIL")
    options.terminate = False
    assert np.array_equal(session.run(None, {"v0": one, "x": one}, options)[0], one)


def test_load_can_be_cancelled(model_path: Any) -> None:
    options = planck.ort.SessionOptions()
    options.set_load_cancellation_flag(True)
    with pytest.raises(planck.CancelledError) as caught:
        planck.InferenceSession(model_path("bert_encoder"), options)
    assert status(caught.value) == ("12", "MODEL_LOAD_CANCELED")
    options.set_load_cancellation_flag(False)
    planck.InferenceSession(model_path("bert_encoder"), options)


def test_async_errors_come_to_the_callback() -> None:
    done = threading.Event()
    calls = []

    def callback(*arguments: Any) -> None:
        calls.append(arguments)
        done.set()

    session = planck.InferenceSession(PLAIN)
    session.run_async(None, {"x": np.ones((1, 2))}, callback, 5)
    assert done.wait(60)
    [(results, user_data, failure)] = calls
    assert results == [] and user_data == 5 and "Unexpected input data type" in failure
    with pytest.raises(TypeError):
        session.run_async(None, {"x": np.ones((1, 2))}, None, 5)  # type: ignore[arg-type]


def test_defaults_may_be_fed_by_binding_and_from_many_threads() -> None:
    session = planck.InferenceSession(MANY)
    x, w = np.ones((2, 3), np.float32), np.full(3, 5, np.float32)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_cpu_input("w", w)
    binding.bind_output("sum")
    session.run_with_iobinding(binding)
    assert np.array_equal(binding.copy_outputs_to_cpu()[0], x + w)
    other = planck.InferenceSession(MANY)
    wrong: list[int] = []

    def work(extra: int) -> None:
        for i in range(20):
            fed = {"w": np.full(3, i, np.float32)} if (i + extra) % 2 else {}
            want = x + fed.get("w", np.float32([0.5, 1.5, 2.5]))
            if not np.array_equal(other.run(["sum"], {"x": x, **fed})[0], want):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_initializers_of_the_caller_are_checked() -> None:
    for name, array in {"w": np.ones(4, np.float32), "none": np.ones(3, np.float32)}.items():
        options = planck.ort.SessionOptions()
        options.add_initializer(name, planck.ort.OrtValue.ortvalue_from_numpy(array))
        with pytest.raises(
            planck.UsageError, match=f"initializer '{name}'|initializer or input '{name}'"
        ):
            planck.InferenceSession(MANY, options)


def test_build_takes_extents_of_dimensions() -> None:
    plan = planck.build(MANY, dims={"my batch": 4})
    assert plan.inputs[0].shape == (4, 3)
    with pytest.raises(planck.UsageError, match=r"dims\.my batch is -1"):
        planck.build(MANY, dims={"my batch": -1})
    with pytest.raises(planck.UsageError):
        planck.build(MANY, dims={"my batch": 1.5})  # type: ignore[dict-item]


def test_facts_of_every_damaged_model_are_typed() -> None:
    """The reader of metadata gets whole models only, but must not rely on it."""
    rng = np.random.default_rng(7)
    for at in range(len(MANY)):
        for damaged in (MANY[:at], MANY[:at] + rng.bytes(1) + MANY[at + 1 :]):
            with contextlib.suppress(planck.ParseError):
                planck.ort._model.read_bytes(damaged)


def test_import_is_lazy() -> None:
    code = "import sys, planck; assert 'planck.ort' not in sys.modules; planck.InferenceSession; "
    code += "assert 'onnx' not in sys.modules and 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write, feeds = planck.models.write, planck.models.feeds
    monkeypatch.setattr(planck.models, "write", lambda *a: write(*a, size="mini"))
    monkeypatch.setattr(planck.models, "feeds", lambda *a: feeds(*a, size="mini"))
    for code in re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.M | re.S):
        exec(code, {})


def test_the_severity_of_the_module_is_that_of_the_log() -> None:
    logger = logging.getLogger("planck")
    before = logger.level
    try:
        planck.ort.set_default_logger_severity(3)
        assert logger.level == logging.ERROR
        with pytest.raises(RuntimeError, match="Invalid logging severity 7"):
            planck.ort.set_default_logger_severity(7)
    finally:
        logger.setLevel(before)
    assert planck.ort.get_version_string() == planck.ort.__version__


def test_sessions_are_not_pickled() -> None:
    with pytest.raises(TypeError, match="path of the model or plan file"):
        pickle.dumps(planck.InferenceSession(MANY))
