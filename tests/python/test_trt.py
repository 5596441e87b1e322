"""TensorRT's interface: call order, caches, parsing, profiles and runs, on the CPU."""

from __future__ import annotations

import ctypes
import gc
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import planck
import planck.trt as trt
from planck.cli import main
from planck.trt._calibrator import Batches

SCRIPT = Path(__file__).parent / "data" / "trt8_calibrator_script.py"
HEADER = b"TRT-8600-EntropyCalibration2\n"


def small_model(**changes: Any) -> bytes:
    """x [n, 8] -> Gemm fc1 -> Relu -> an unnamed Gemm -> y [n, 4], trained on nothing."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "fc1"),
        helper.make_node("Relu", ["h"], ["r"], "act"),
        helper.make_node(changes.get("op", "Gemm"), ["r", "w2"], ["y"]),
    ]
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", extent])
        for n, extent in (("x", 8), ("y", 4))
    ]
    weights = {"w1": (8, 16), "b1": (16,), "w2": (16, 4)}
    inits = [
        numpy_helper.from_array(random.normal(size=s).astype(np.float32), n)
        for n, s in weights.items()
    ]
    graph = helper.make_graph(nodes, "small", infos[:1], infos[1:], inits)
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
    return data


class Log(trt.ILogger):
    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []

    def log(self, severity: Any, msg: str) -> None:
        self.lines.append((int(severity), msg))

    def says(self, part: str, severity: int | None = None) -> bool:
        return any(part in m and severity in (None, s) for s, m in self.lines)


def parsed(model: bytes, log: Log | None = None, flags: int = 0) -> Any:
    builder = trt.Builder(log)
    network = builder.create_network(flags)
    assert trt.OnnxParser(network, log).parse(model)
    return builder, network, builder.create_builder_config()


def engine_of(model: bytes) -> trt.ICudaEngine:
    builder, network, config = parsed(model)
    engine: trt.ICudaEngine | None = builder.build_engine(network, config)
    assert engine is not None
    return engine


@pytest.fixture
def samples() -> Any:
    return np.random.default_rng(1).normal(size=(32, 8)).astype(np.float32)


# --- parsing and the network


def test_network_views() -> None:
    _, network, _ = parsed(small_model())
    assert (network.num_inputs, network.num_outputs, network.num_layers) == (1, 1, 3)
    x = network.get_input(0)
    assert (x.name, x.shape, x.dtype) == ("x", (-1, 8), trt.float32)
    assert x.is_network_input and not x.is_network_output
    layers = [(layer.name, layer.type) for layer in network]
    assert layers == [
        ("fc1", trt.LayerType.MATRIX_MULTIPLY),
        ("act", trt.LayerType.ACTIVATION),
        ("node_of_y", trt.LayerType.MATRIX_MULTIPLY),
    ]
    layer = network.get_layer(0)
    assert (layer.num_inputs, layer.num_outputs) == (3, 1)
    assert layer.get_input(1).name == "w1" and layer.get_output(0).name == "h"
    layer.precision = trt.int8
    layer.set_output_type(0, trt.float16)
    assert layer.precision_is_set and layer.get_output_type(0) == trt.float16
    layer.reset_precision()
    layer.reset_output_type(0)
    assert not layer.precision_is_set and layer.get_output_type(0) == trt.float32
    with pytest.raises(planck.UnsupportedError, match="layer by layer; write the model as ONNX"):
        network.add_convolution_nd()
    with pytest.raises(AttributeError):
        network.nothing  # noqa: B018


def test_every_error_of_a_model_in_one_pass() -> None:
    model = onnx.load_from_string(small_model())
    for op in ("NotThere", "NorThis"):
        model.graph.node.append(helper.make_node(op, ["h"], [op]))
    log = Log()
    network = trt.Builder(log).create_network()
    parser = trt.OnnxParser(network, log)
    assert not parser.parse(model.SerializeToString())
    assert parser.num_errors == 2
    errors = [parser.get_error(i) for i in range(2)]
    assert {e.node_operator() for e in errors} == {"NotThere", "NorThis"}
    assert {e.node_name() for e in errors} == {"NotThere", "NorThis"}
    assert all(e.code() == trt.ErrorCode.UNSUPPORTED_NODE for e in errors)
    assert log.says("NorThis", trt.Logger.ERROR)
    good, runs = parser.supports_model(model.SerializeToString())
    assert not good and runs == [([0, 1, 2], True), ([3, 4], False)]
    assert parser.supports_operator("Gemm") and not parser.supports_operator("NotThere")
    parser.clear_errors()
    assert not parser.parse(b"no model") and parser.num_errors == 1
    assert parser.get_error(0).code() == trt.ErrorCode.MODEL_DESERIALIZE_FAILED
    assert not parser.parse_from_file("/nonexistent.onnx") and "nonexistent" in str(
        parser.get_error(1)
    )
    assert parser.supports_model_v2(small_model()) and parser.num_subgraphs == 1


def test_external_weights_lie_beside_the_file(tmp_path: Path, samples: Any) -> None:
    model = onnx.load_from_string(small_model())
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    builder = trt.Builder(trt.Logger())
    network = builder.create_network()
    parser = trt.OnnxParser(network, trt.Logger())
    assert not parser.parse(path.read_bytes())
    assert parser.parse(path.read_bytes(), str(path)) and parser.parse_from_file(str(path))
    engine = builder.build_engine(network, builder.create_builder_config())
    assert np.array_equal(run(engine, samples), run(engine_of(small_model()), samples))


def test_marked_outputs_and_fixed_shapes(samples: Any) -> None:
    builder, network, config = parsed(small_model())
    network.mark_output(network.get_layer(1).get_output(0))
    network.get_input(0).shape = [32, 8]
    assert network.get_input(0).shape == (32, 8)
    engine = builder.build_engine(network, config)
    assert [engine.get_tensor_name(i) for i in range(3)] == ["x", "y", "r"]
    assert engine.get_tensor_shape("x") == (32, 8) and engine.get_tensor_shape("r") == (32, 16)
    assert (engine.plan.run({"x": samples})["r"] >= 0).all()
    network.unmark_output(network.get_output(1))
    assert network.num_outputs == 1
    with pytest.raises(planck.UsageError, match="shape"):
        network.get_input(0).shape = [32, 9]
    with pytest.raises(planck.UsageError, match="no output"):
        network.unmark_output(network.get_layer(1).get_output(0))


# --- engines and runs


def run(engine: Any, x: Any) -> Any:
    context = engine.create_execution_context()
    context.set_input_shape("x", x.shape)
    y = np.empty(tuple(context.get_tensor_shape("y")), np.float32)
    assert context.execute_v2([x.ctypes.data, y.ctypes.data])
    return y


def test_runs_have_the_bits_of_the_plan(samples: Any) -> None:
    builder, network, config = parsed(small_model())
    config.clear_flag(trt.BuilderFlag.TF32)
    engine = builder.build_engine(network, config)
    plan = planck.build(small_model(), precision="fp32")
    want = plan.run({"x": samples})["y"]
    assert engine.plan.precision == "fp32" and np.array_equal(run(engine, samples), want)
    context = engine.create_execution_context()
    assert context.infer_shapes() == ["x"] and context.get_tensor_shape("y") == (-1, 4)
    assert context.set_input_shape("x", (32, 8)) and context.get_tensor_shape("y") == (32, 4)
    assert context.get_max_output_size("y") == 32 * 4 * 4
    y = np.zeros((32, 4), np.float32)
    context.set_tensor_address("x", samples.ctypes.data)
    context.set_tensor_address("y", y)  # an array does as well
    assert context.execute_async_v3(0) and np.array_equal(y, want)
    assert context.get_tensor_strides("y") == (4, 1)


def test_tf32_is_on_from_the_start() -> None:
    builder, network, config = parsed(small_model())
    assert builder.build_engine(network, config).plan.precision == "fp32-fast"
    builder, network, config = parsed(
        small_model(), flags=1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    )
    assert builder.build_engine(network, config).plan.precision == "graph"


def test_objects_work_in_with(samples: Any) -> None:
    log = trt.Logger()
    with (
        trt.Builder(log) as builder,
        builder.create_network() as network,
        builder.create_builder_config() as config,
        trt.OnnxParser(network, log) as parser,
    ):
        assert parser.parse(small_model())
        data = builder.build_serialized_network(network, config)
    with (
        trt.Runtime(log) as runtime,
        runtime.deserialize_cuda_engine(data) as engine,
        engine.create_execution_context() as context,
    ):
        context.set_input_shape("x", samples.shape)
        y = np.empty((32, 4), np.float32)
        assert context.execute_v2(bindings=[samples.ctypes.data, y.ctypes.data])


def test_settings_that_do_not_exist_are_errors() -> None:
    builder, network, config = parsed(small_model())
    for owner, name in ((builder, "int8_mode"), (config, "fp16"), (network, "batch")):
        with pytest.raises(AttributeError, match=name):
            setattr(owner, name, True)
    config.reset()
    config.max_aux_streams = 2


def test_objects_may_go_in_any_order(samples: Any) -> None:
    runtime = trt.Runtime(trt.Logger())
    engine = runtime.deserialize_cuda_engine(engine_of(small_model()).serialize())
    context = engine.create_execution_context()
    context.set_input_shape("x", samples.shape)
    del runtime, engine
    gc.collect()
    y = np.empty((32, 4), np.float32)
    assert context.execute_async_v2([samples.ctypes.data, y.ctypes.data], 0)


def test_engine_files_are_plan_files(tmp_path: Path, samples: Any) -> None:
    builder, network, config = parsed(small_model())
    for batch in (8, 16):
        profile = builder.create_optimization_profile()
        profile.set_shape("x", (1, 8), (batch, 8), (32, 8))
        assert config.add_optimization_profile(profile) == (0 if batch == 8 else 1)
    data = builder.build_serialized_network(network, config)
    assert data.nbytes == len(data) and bytes(memoryview(data)) == data
    (tmp_path / "small.engine").write_bytes(data)
    plan = planck.load(tmp_path / "small.engine", verify=True)
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(data)
    assert np.array_equal(run(engine, samples), plan.run({"x": samples})["y"])
    assert engine.num_optimization_profiles == 2 and engine.num_bindings == 4
    assert engine.get_tensor_profile_shape("x", 1) == [(1, 8), (16, 8), (32, 8)]
    assert list(engine) == ["x", "y", "x [profile 1]", "y [profile 1]"]
    assert [engine.binding_is_input(i) for i in range(4)] == [True, False] * 2
    assert engine.device_memory_size == plan.memory({"x": (32, 8)}).arena_bytes
    assert engine.serialize() == data
    context = engine.create_execution_context()
    assert context.set_optimization_profile_async(1, 0)
    context.set_binding_shape(2, (2, 8))
    y = np.empty((2, 4), np.float32)
    context.execute_v2([0, 0, samples.ctypes.data, y.ctypes.data])
    assert np.array_equal(y, run(engine, samples[:2]))
    again = trt.Runtime(trt.Logger()).deserialize_cuda_engine(io.BytesIO(data))
    assert again.get_profile_shape(0, 0) == engine.get_profile_shape(0, 0)
    with pytest.raises(planck.UsageError, match="profile 2"):
        engine.get_tensor_profile_shape("x", 2)
    assert main(["inspect", str(tmp_path / "small.engine")]) == 0
    place = data.index(b'"shapes"')
    for damage in (b"\xff", b"7", b"]"):
        damaged = data[:place] + damage + data[place + 1 :]
        with pytest.raises(planck.CorruptError, match="profiles of the engine are damaged"):
            trt.Runtime(Log()).deserialize_cuda_engine(damaged)


def test_engines_of_tensorrt_are_refused() -> None:
    log = Log()
    with pytest.raises(planck.VersionError, match="written by TensorRT") as error:
        trt.Runtime(log).deserialize_cuda_engine(b"ftrt" + bytes(100))
    assert "ONNX" in error.value.hint and log.says("TensorRT", trt.Logger.ERROR)
    with pytest.raises(planck.UsageError, match="the engine is NoneType"):
        trt.Runtime(log).deserialize_cuda_engine(None)
    with pytest.raises(planck.CorruptError) as corrupt:
        trt.Runtime(log).deserialize_cuda_engine(b"something else")
    assert "build the plan from the ONNX model" in corrupt.value.hint
    data = bytearray(engine_of(small_model()).serialize())
    data[70] ^= 1
    with pytest.raises(planck.CorruptError):
        trt.Runtime(log).deserialize_cuda_engine(bytes(data))


def test_bad_memory_is_an_error(samples: Any) -> None:
    context = engine_of(small_model()).create_execution_context()
    y = np.empty((32, 4), np.float32)
    with pytest.raises(planck.FeedError, match="shape of input 'x' is not set"):
        context.execute_v2([samples.ctypes.data, y.ctypes.data])
    with pytest.raises(planck.FeedError, match="does not fit"):
        context.set_input_shape("x", (32, 9))
    context.set_input_shape("x", (32, 8))
    with pytest.raises(planck.FeedError, match="2: x, y"):
        context.execute_v2([samples.ctypes.data])
    with pytest.raises(planck.FeedError, match="cannot be read"):
        context.execute_v2([4096, y.ctypes.data])
    with pytest.raises(planck.FeedError, match="no memory is set for 'x'"):
        context.execute_async_v3(0)
    with pytest.raises(planck.UnsupportedError, match="execute_v2"):
        context.execute(1, [])
    with pytest.raises(planck.UsageError, match="no input or output 'z'"):
        context.set_tensor_address("z", 0)


def test_output_allocator(samples: Any) -> None:
    class Allocator(trt.IOutputAllocator):
        shape: Any = None

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            self.buffer = ctypes.create_string_buffer(size)
            return ctypes.addressof(self.buffer)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = shape

    engine, allocator = engine_of(small_model()), Allocator()
    context = engine.create_execution_context()
    context.set_input_shape("x", samples.shape)
    context.set_tensor_address("x", samples.ctypes.data)
    context.set_output_allocator("y", allocator)
    context.execute_async_v3(0)
    got = np.frombuffer(bytes(allocator.buffer), np.float32).reshape(allocator.shape)
    assert np.array_equal(got, run(engine, samples))


def test_profiler_and_inspector(samples: Any) -> None:
    engine, profiler = engine_of(small_model()), trt.Profiler()
    context = engine.create_execution_context()
    context.profiler = profiler
    y = np.empty((32, 4), np.float32)
    context.execute_v2([samples, y])
    assert len(profiler.times) == engine.num_layers and all(ms >= 0 for _, ms in profiler.times)
    assert "fc1" in profiler.times[0][0] and context.report_to_profiler()
    inspector = engine.create_engine_inspector()
    layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
    assert {n for layer in layers for n in layer["Nodes"]} == set(engine.plan.nodes)
    assert "fc1" in inspector.get_layer_information(0, trt.LayerInformationFormat.ONELINE)


# --- configuration


def test_flags_are_honoured_noted_or_refused() -> None:
    log = Log()
    builder, network, config = parsed(small_model(), log)
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.REFIT)
    config.max_workspace_size = 1 << 20
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 20
    assert builder.build_serialized_network(network, config) is not None
    assert log.says("FP16 is permitted and used by no layer", trt.Logger.WARNING)
    assert log.says("REFIT has no effect", trt.Logger.INFO)
    with pytest.raises(planck.UnsupportedError, match="fallback"):
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    with pytest.raises(planck.UnsupportedError, match="no DLA"):
        config.DLA_core = 0
    with pytest.raises(planck.UsageError, match="expected 0 to 5"):
        config.builder_optimization_level = 6
    config.reset()
    assert not config.get_flag(trt.BuilderFlag.FP16) and config.get_flag(trt.BuilderFlag.TF32)


def test_the_docs_name_every_flag_and_kind_of_scale_file() -> None:
    text = (Path(__file__).parents[2] / "docs" / "trt.md").read_text()
    names = [*(f.name for f in trt.BuilderFlag), *planck.scale_files.scale_kinds()]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "trt.md").read_text()
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    feeds = planck.models.feeds("bert_encoder", (1, 16), size="mini")
    want = planck.load("bert.engine").run(feeds)["last_hidden_state"]
    assert np.array_equal(names["arrays"]["last_hidden_state"], want)


def test_layer_precisions_are_met_or_told() -> None:
    log = Log()
    builder, network, config = parsed(small_model(), log)
    network.get_layer(0).precision = trt.float16
    config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    assert builder.build_serialized_network(network, config) is not None
    assert log.says("layer 'fc1' asks for HALF", trt.Logger.WARNING)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    with pytest.raises(planck.PrecisionError, match="fc1") as error:
        builder.build_serialized_network(network, config)
    assert error.value.node == "fc1" and not builder.is_network_supported(network, config)
    network.get_layer(0).precision = trt.float32
    assert builder.is_network_supported(network, config)


@pytest.mark.parametrize(
    ("name", "shapes", "match"),
    [
        ("z", [(1, 8)] * 3, "'z', which is no input"),
        ("x", [(1, 9)] * 3, "does not fit"),
        ("x", [(1, 8, 1)] * 3, "does not fit"),
    ],
)
def test_profiles_that_do_not_fit(name: str, shapes: Any, match: str) -> None:
    builder, network, config = parsed(small_model())
    profile = builder.create_optimization_profile()
    profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    with pytest.raises(planck.UsageError, match=match):
        builder.build_serialized_network(network, config)


def test_profiles_that_are_none() -> None:
    profile = trt.IOptimizationProfile()
    with pytest.raises(planck.UsageError, match="not in order"):
        profile.set_shape("x", (2, 8), (1, 8), (4, 8))
    with pytest.raises(planck.UsageError, match="differ in rank"):
        profile.set_shape("x", (2,), (1, 8), (4, 8))
    with pytest.raises(planck.UsageError, match="no shapes"):
        trt.Builder().create_builder_config().add_optimization_profile(profile)


def test_progress_monitor_sees_the_build_and_ends_it() -> None:
    class Monitor(trt.IProgressMonitor):
        def __init__(self, last: int) -> None:
            self.last, self.calls = last, list[str]()

        def phase_start(self, phase_name: str, parent_phase: Any, num_steps: int) -> None:
            self.calls.append(f"start {phase_name} {parent_phase} {num_steps}")

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.calls.append(str(step))
            return step < self.last

        def phase_finish(self, phase_name: str) -> None:
            self.calls.append(f"finish {phase_name}")

    builder, network, config = parsed(small_model())
    config.progress_monitor = whole = Monitor(1000)
    assert builder.build_serialized_network(network, config) is not None
    assert whole.calls[0] == "start build None 100" and whole.calls[-1] == "finish build"
    config.progress_monitor = short = Monitor(30)
    assert builder.build_serialized_network(network, config) is None
    assert short.calls[-1] == "finish build" and int(short.calls[-2]) >= 30


def test_what_is_out_of_scope_names_the_alternative() -> None:
    engine = engine_of(small_model())
    for call, hint in (
        (lambda: trt.Refitter(engine, trt.Logger()), "initializers"),
        (lambda: trt.Builder().build_cuda_engine(trt.INetworkDefinition()), "build_engine"),
        (trt.get_plugin_registry, "ONNX function"),
    ):
        with pytest.raises(planck.UnsupportedError) as error:
            call()
        assert hint in error.value.hint
    assert trt.init_libnvinfer_plugins(trt.Logger(), "")


# --- calibrators


class Recorder:
    """Notes the order of calls."""

    def __init__(self, batches: Any, cache: bytes | None = None, size: int = 8) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.batches, self.cache, self.size = list(batches), cache, size
        self.written: bytes | None = None

    def get_batch_size(self) -> int:
        self.calls.append("get_batch_size")
        return self.size

    def get_batch(self, names: list[str]) -> Any:
        self.calls.append(f"get_batch {names}")
        return self.batches.pop(0) if self.batches else None

    def read_calibration_cache(self) -> Any:
        self.calls.append("read_calibration_cache")
        return self.cache

    def write_calibration_cache(self, cache: bytes) -> None:
        self.calls.append("write_calibration_cache")
        self.written = bytes(cache)


class Entropy(Recorder, trt.IInt8EntropyCalibrator2):
    def get_algorithm(self) -> trt.CalibrationAlgoType:
        self.calls.append("get_algorithm")
        return super().get_algorithm()


class Legacy(Recorder, trt.IInt8LegacyCalibrator):
    def get_algorithm(self) -> trt.CalibrationAlgoType:
        self.calls.append("get_algorithm")
        return super().get_algorithm()

    def get_quantile(self) -> float:
        self.calls.append("get_quantile")
        return 0.999

    def get_regression_cutoff(self) -> float:
        self.calls.append("get_regression_cutoff")
        return 1.0

    def read_histogram_cache(self, length: int) -> Any:
        self.calls.append("read_histogram_cache")

    def write_histogram_cache(self, ptr: Any, length: int) -> None:
        self.calls.append("write_histogram_cache")


class FakeCalibration:
    """What planck.calibrate gives, as far as calibrators look at it."""

    def __init__(self, ranges: dict[str, float], notes: list[dict[str, Any]]) -> None:
        self.ranges, self.notes = ranges, notes

    def solve(self, **options: Any) -> planck.Scales:
        self.notes.append(options)
        return planck.Scales.from_ranges(self.ranges, kind="calibration")

    def to_bytes(self) -> bytes:
        return b"statistics"


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Puts functions that note their arguments in the place of planck.calibrate and planck.build.

    The statistics are those of the input alone: what is tested is who calls whom with what.
    """
    notes: list[dict[str, Any]] = []

    def calibrate(model: Any, data: Any, **options: Any) -> FakeCalibration:
        batches = list(data)
        notes.append({"model": model, "batches": batches, **options})
        top = max((float(np.abs(a).max()) for b in batches for a in b.values()), default=0.0)
        return FakeCalibration({"x": top, "r": 2 * top}, notes)

    build = planck.build

    def fake_build(model: Any, **options: Any) -> Any:
        notes.append(options)
        return build(model)

    monkeypatch.setattr(planck, "calibrate", calibrate, raising=False)
    monkeypatch.setattr(planck, "build", fake_build)
    return notes


def int8_build(calibrator: Any, log: Log | None = None, opt: int | None = 8) -> Any:
    builder, network, config = parsed(small_model(), log)
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator = calibrator
    if opt is not None:
        profile = builder.create_optimization_profile()
        profile.set_shape("x", (1, 8), (opt, 8), (32, 8))
        config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


def test_call_order_without_a_cache(samples: Any, calibrations: list[dict[str, Any]]) -> None:
    buffer = np.empty((8, 8), np.float32)

    class OneBuffer(Entropy):
        def get_batch(self, names: list[str]) -> Any:
            batch = super().get_batch(names)
            if batch is None:
                return []
            buffer[...] = batch
            return [buffer.ctypes.data]

    calibrator = OneBuffer(samples.reshape(4, 8, 8))
    assert int8_build(calibrator) is not None
    begin = ["get_algorithm", "get_batch_size", "read_calibration_cache"]
    assert calibrator.calls == [*begin, *["get_batch ['x']"] * 5, "write_calibration_cache"]
    seen, solved, built = calibrations
    assert seen["method"] == "entropy" and solved == {"activation": "s8"}
    assert np.array_equal(np.concatenate([b["x"] for b in seen["batches"]]), samples)
    assert built["precision"] == "int8" and built["scales"].names == ("x", "r")
    assert calibrator.written is not None and calibrator.written.startswith(HEADER)
    again = planck.import_scales(calibrator.written)
    assert again["r"].scale[0] == built["scales"]["r"].scale[0]


def test_batches_reach_the_statistics(samples: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[dict[str, Any]] = []
    build = planck.build

    def fake_build(model: Any, **options: Any) -> Any:
        built.append(options)
        return build(model)

    monkeypatch.setattr(planck, "build", fake_build)
    calibrator = Entropy([[batch] for batch in samples.reshape(4, 8, 8)])
    assert int8_build(calibrator) is not None and calibrator.written is not None
    want = planck.calibrate(small_model(), [{"x": samples}], method="entropy")
    assert calibrator.written.decode() == want.to_trt_cache()
    assert want.to_trt_cache(method="minmax") != want.to_trt_cache()
    assert "TRT-8502-MinMaxCalibration" in want.to_trt_cache(header="TRT-8502-MinMaxCalibration")
    assert int8_build(Entropy([], calibrator.written)) is not None
    first, again = (options["scales"] for options in built)
    assert [(n, g.scale) for n, g in first.items()] == [(n, g.scale) for n, g in again.items()]
    legacy = Legacy([[samples[:8]]])
    assert int8_build(legacy) is not None


def test_call_order_with_a_cache(calibrations: list[dict[str, Any]]) -> None:
    log = Log()
    calibrator = Entropy([], HEADER + b"x: 3c010204\nr: 3caa54fc\nghost: 3caa54fc\n")
    assert int8_build(calibrator, log) is not None
    assert calibrator.calls == ["get_algorithm", "get_batch_size", "read_calibration_cache"]
    [built] = calibrations
    assert built["scales"]["x"].threshold == pytest.approx(1.0)
    assert log.says("covers 2 of the 4 float tensors") and log.says("'ghost'")


def test_call_order_of_the_legacy_calibrator(
    samples: Any, calibrations: list[dict[str, Any]]
) -> None:
    calibrator = Legacy([[samples[:8]]])
    assert int8_build(calibrator) is not None
    assert calibrator.calls == [
        *("get_algorithm", "get_batch_size", "get_quantile", "get_regression_cutoff"),
        *("read_histogram_cache", "read_calibration_cache", "get_batch ['x']", "get_batch ['x']"),
        *("write_histogram_cache", "write_calibration_cache"),
    ]
    assert calibrations[0]["method"] == "legacy"
    assert calibrations[1] == {"activation": "s8", "quantile": 0.999, "cutoff": 1.0}
    assert calibrator.written is not None
    assert calibrator.written.startswith(b"TRT-8600-LegacyCalibration\n")


@pytest.mark.parametrize(
    ("base", "method", "name"),
    [
        (trt.IInt8EntropyCalibrator, "entropy", "EntropyCalibration"),
        (trt.IInt8EntropyCalibrator2, "entropy", "EntropyCalibration2"),
        (trt.IInt8MinMaxCalibrator, "minmax", "MinMaxCalibration"),
    ],
)
def test_algorithms(
    base: Any, method: str, name: str, samples: Any, calibrations: list[dict[str, Any]]
) -> None:
    calibrator = type("Calibrator", (Recorder, base), {})([[samples[:8]]])
    assert int8_build(calibrator) is not None
    assert calibrations[0]["method"] == method
    assert calibrator.written.startswith(f"TRT-8600-{name}\n".encode())


def test_the_batch_size_fills_an_open_shape(
    samples: Any, calibrations: list[dict[str, Any]]
) -> None:
    calibrator = Entropy([[samples.ctypes.data]], size=16)
    assert int8_build(calibrator, opt=None) is not None
    assert np.array_equal(calibrations[0]["batches"][0]["x"], samples[:16])


def test_no_batches_is_an_error(calibrations: list[dict[str, Any]]) -> None:
    with pytest.raises(planck.CalibrationError, match="no batch and no cache"):
        int8_build(Entropy([]))


def test_a_cache_that_covers_nothing_is_an_error(calibrations: list[dict[str, Any]]) -> None:
    with pytest.raises(planck.CalibrationError, match="covers no tensor"):
        int8_build(Entropy([], HEADER + b"other: 3c010204\n"))
    with pytest.raises(planck.ParseError):
        int8_build(Entropy([], b"not a cache"))


def test_what_a_callback_raises_ends_the_build(calibrations: list[dict[str, Any]]) -> None:
    class Broken(Entropy):
        def get_batch(self, names: list[str]) -> Any:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        int8_build(Broken([]))


@pytest.mark.parametrize(
    ("item", "match"),
    [
        (np.zeros((8, 8)), "float64"),
        (np.zeros(8, np.float32), "expected"),
        (4096, "cannot be read"),
        ("x", "expected a host address"),
        (object(), "expected a host address"),
    ],
)
def test_batches_that_do_not_fit(item: Any, match: str, calibrations: list[dict[str, Any]]) -> None:
    with pytest.raises(planck.FeedError, match=match):
        int8_build(Entropy([[item]]))
    with pytest.raises(planck.FeedError, match="2 items for the 1 inputs"):
        int8_build(Entropy([[item, item]]))


@pytest.mark.parametrize("batch", [4096, np.zeros((8, 8), np.float32), {"x": 1}])
def test_batches_that_are_no_list(batch: Any, calibrations: list[dict[str, Any]]) -> None:
    with pytest.raises(planck.FeedError, match="expected a list of one address or array") as error:
        int8_build(Entropy([batch]))
    assert "return [batch]" in error.value.hint


def test_caches_that_are_no_bytes(calibrations: list[dict[str, Any]]) -> None:
    with pytest.raises(planck.UsageError, match="gave str; expected bytes or None"):
        int8_build(Entropy([], HEADER.decode()))
    with pytest.raises(planck.CalibrationError, match="the file has no scales"):
        int8_build(Entropy([], HEADER))


def test_batches_may_be_tensors() -> None:
    class Tensor:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    want = np.arange(6, dtype=np.int64).reshape(2, 3)
    inputs = {"ids": (trt.Dims((-1, 3)), want.dtype)}
    [batch] = Batches(Entropy([[Tensor(want)]]), 2, inputs)
    assert np.array_equal(batch["ids"], want)
    [batch] = Batches(Entropy([[np.int64(want.ctypes.data)]]), 2, inputs)
    assert np.array_equal(batch["ids"], want)
    with pytest.raises(planck.UsageError, match="leaves extents open"):
        Batches(Entropy([]), 2, {"x": (trt.Dims((2, -1)), want.dtype)})
    with pytest.raises(planck.UsageError, match="get_batch_size"):
        Batches(Entropy([]), 0, inputs)


def test_int8_needs_scales(calibrations: list[dict[str, Any]]) -> None:
    with pytest.raises(planck.CalibrationError, match="needs scales") as error:
        int8_build(None)
    assert "int8_calibrator" in error.value.hint


def test_dynamic_ranges_are_scales(samples: Any, calibrations: list[dict[str, Any]]) -> None:
    builder, network, config = parsed(small_model())
    config.set_flag(trt.BuilderFlag.INT8)
    network.get_input(0).dynamic_range = (-2.54, 1.0)
    assert network.get_input(0).dynamic_range == (-2.54, 1.0)
    assert builder.build_serialized_network(network, config) is not None
    assert calibrations[0]["scales"]["x"].scale[0] == np.float32(2.54 / 127)
    config.int8_calibrator = Entropy([[samples[:8]]])
    assert builder.build_serialized_network(network, config) is not None
    assert calibrations[3]["scales"]["x"].threshold == 2.54
    assert calibrations[3]["scales"].names == ("x", "r")
    with pytest.raises(planck.UsageError, match="is none"):
        network.get_input(0).set_dynamic_range(1.0, -1.0)


def test_data_that_is_no_calibrator(samples: Any, calibrations: list[dict[str, Any]]) -> None:
    assert int8_build([{"x": samples}]) is not None
    assert np.array_equal(calibrations[0]["batches"][0]["x"], samples)
    assert "method" not in calibrations[0]


def test_quantised_models_are_left_as_they_are(calibrations: list[dict[str, Any]]) -> None:
    model = onnx.load_from_string(small_model())
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "s"))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
    ]
    model.graph.node[0].input[0] = "d"
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    builder, network, config = parsed(model.SerializeToString())
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator = calibrator = Entropy([])
    assert builder.build_serialized_network(network, config) is not None
    assert calibrator.calls == [] and calibrations[0]["precision"] == "graph"


# --- a whole script


def test_a_script_runs_after_a_change_of_its_import(
    tmp_path: Path, samples: Any, monkeypatch: pytest.MonkeyPatch, calibrations: Any
) -> None:
    """Everything but the int8 arithmetic: the calibration is the one of this file."""
    main = script(tmp_path, samples)
    main(str(tmp_path))
    output = np.load(tmp_path / "output.npy")
    assert np.array_equal(
        output, planck.load(tmp_path / "model.engine").run({"x": samples[:4]})["y"]
    )
    cache = (tmp_path / "calibration.cache").read_bytes()
    assert cache.startswith(HEADER) and len(calibrations) == 3
    main(str(tmp_path))  # this time from the cache
    assert len(calibrations) == 4 and (tmp_path / "calibration.cache").read_bytes() == cache


def test_a_script_builds_int8(tmp_path: Path, samples: Any) -> None:
    script(tmp_path, samples)(str(tmp_path))
    engine = planck.load(tmp_path / "model.engine")
    assert engine.precision == "int8"
    want = planck.build(small_model(), precision="fp32").run({"x": samples[:4]})["y"]
    got = np.load(tmp_path / "output.npy")
    assert 20 * np.log10(np.linalg.norm(want) / np.linalg.norm(want - got)) > 20
    assert planck.import_scales(tmp_path / "calibration.cache", model=small_model()).names[0] == "x"


def test_layer_precisions_in_int8(samples: Any) -> None:
    """Between x and y, which stay float by default, lie two layers; one is told to be float."""
    model = onnx.load_from_string(small_model())
    inner = [
        helper.make_node("MatMul", ["r", "w3"], ["p"], "inner1"),
        helper.make_node("MatMul", ["p", "w3"], ["q"], "inner2"),
    ]
    model.graph.node[2].input[0] = "q"
    model.graph.node[2].name = "last"
    for node in reversed(inner):
        model.graph.node.insert(2, node)
    weight = np.random.default_rng(2).normal(size=(16, 16)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w3"))

    def given(**precisions: Any) -> dict[str, str]:
        builder, network, config = parsed(model.SerializeToString())
        config.set_flag(trt.BuilderFlag.INT8)
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        config.int8_calibrator = Entropy([[batch] for batch in samples.reshape(4, 8, 8)])
        for layer in network:
            if layer.name in precisions:
                layer.precision = precisions[layer.name]
        plan = builder.build_engine(network, config).plan
        return {node: step.given for step in plan.steps for node in step.nodes}

    free = given()
    assert free["inner1"] == free["inner2"] == "int8"
    told = given(inner2=trt.float32)
    assert (told["inner1"], told["inner2"]) == ("int8", "fp32")
    assert free["last"] == "fp32" and given(last=trt.int8)["last"] == "int8"


def script(folder: Path, samples: Any) -> Callable[[str], None]:
    """The script's main, with its import line changed and its files in place."""
    (folder / "model.onnx").write_bytes(small_model())
    np.save(folder / "samples.npy", samples)
    text = SCRIPT.read_text()
    assert text.count("import tensorrt as trt\n") == 1
    names: dict[str, Any] = {"__name__": "script"}
    exec(text.replace("import tensorrt as trt\n", "import planck.trt as trt\n"), names)
    main: Callable[[str], None] = names["main"]
    return main


def test_import_is_quick_without_it() -> None:
    code = "import sys, planck; assert 'planck.trt' not in sys.modules; planck.trt.Logger"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
