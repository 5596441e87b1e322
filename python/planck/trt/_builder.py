"""`Builder`: a network and a configuration become an engine, by `planck.build`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import planck
from planck import _core
from planck.calibration import Scales
from planck.outline import Outline
from planck.trt._base import Sealed
from planck.trt._calibrator import CalibrationTarget, scales_by
from planck.trt._config import WITHOUT_EFFECT, WITHOUT_KERNELS, IBuilderConfig
from planck.trt._dims import Dims, dims_of_type
from planck.trt._engine import ICudaEngine, IHostMemory, Runtime
from planck.trt._engine_file import with_profiles
from planck.trt._enums import (
    BuilderFlag,
    DataType,
    NetworkDefinitionCreationFlag,
    data_type_of_onnx,
    nptype,
)
from planck.trt._logger import ILogger, failed, refused, report
from planck.trt._network import INetworkDefinition
from planck.trt._profile import IOptimizationProfile

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul")
_STEPS = 100  # of the one phase that a progress monitor sees


class Builder(Sealed):
    """Builds engines on the CPU."""

    platform_has_fast_fp16 = False
    platform_has_fast_int8 = True
    platform_has_tf32 = True
    num_DLA_cores = 0  # noqa: N815 - TensorRT's name
    max_DLA_batch_size = 0  # noqa: N815
    error_recorder: Any = None

    def __init__(self, logger: ILogger | None = None) -> None:
        self.logger = logger
        self.max_threads = 0
        self._max_batch_size = 1
        self._sealed = True

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        """An empty network. flags: bits of NetworkDefinitionCreationFlag; batches are explicit."""
        return INetworkDefinition(int(flags))

    def create_builder_config(self) -> IBuilderConfig:
        """A new configuration."""
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        """An empty profile."""
        return IOptimizationProfile()

    @property
    def max_batch_size(self) -> int:
        """1: batches are explicit."""
        return self._max_batch_size

    @max_batch_size.setter
    def max_batch_size(self, size: int) -> None:
        self._max_batch_size = int(size)
        report(self.logger, ILogger.WARNING, "max_batch_size has no effect: batches are explicit")

    def is_network_supported(self, network: INetworkDefinition, config: IBuilderConfig) -> bool:
        """Whether the network was parsed and the configuration asks for what can be done."""
        try:
            self._check(network, config)
        except _core.Error:
            return False
        return True

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        """The engine as bytes; None if the progress monitor cancelled the build.

        What goes wrong is told to the logger and raised: UsageError (a profile that does not fit),
        CalibrationError (int8 without scales, no batch, a cache that covers no tensor),
        PrecisionError (a precision that OBEY_PRECISION_CONSTRAINTS asks for and no kernel has),
        those of planck.build, and whatever a calibrator raises.
        """
        try:
            plan = self._build(network, config)
        except _core.CancelledError as error:
            report(self.logger, ILogger.INFO, str(error))
            return None
        except _core.Error as error:
            failed(self.logger, error)
            raise
        return IHostMemory(with_profiles(plan.to_bytes(), config._profiles))

    def build_engine(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> ICudaEngine | None:
        """The engine, ready to run; as build_serialized_network."""
        data = self.build_serialized_network(network, config)
        return None if data is None else Runtime(self.logger).deserialize_cuda_engine(data)

    build_engine_with_config = build_engine

    def build_cuda_engine(self, network: INetworkDefinition) -> Any:
        """Errors: UnsupportedError; TensorRT 8 removed it as well."""
        raise refused("build_cuda_engine has no configuration", "build_engine(network, config)")

    def reset(self) -> None:
        """Does nothing: a builder keeps nothing."""

    def get_plugin_registry(self) -> Any:
        """Errors: UnsupportedError."""
        raise refused("TensorRT plug-ins are not loaded", "write the op as an ONNX function")

    # --- how a build goes

    def _check(self, network: INetworkDefinition, config: IBuilderConfig) -> None:
        if not network._bytes:
            raise _core.UsageError("the network is empty: read a model with OnnxParser first")
        shapes = {n: dims_of_type(network._type(n)) for n in network._inputs()}
        for profile in config._profiles:
            profile.check(shapes)
        calibration = config._calibration_profile
        if calibration is not None:
            calibration.check(shapes)
        _check_precisions(network, config, self.logger)

    def _build(self, network: INetworkDefinition, config: IBuilderConfig) -> planck.Plan:
        self._check(network, config)
        self._note(config)
        model = network._model()
        options: dict[str, Any] = {
            "precision": _float_precision(network, config),
            "external_data_dir": network._folder,
            "progress": _progress(config.progress_monitor),
        }
        if _wants_scales(network, config):
            scales = self._scales(network, config, model)
            options |= {"precision": "int8", "scales": scales}
            options |= _layer_precisions(network, config)
        try:
            plan = planck.build(model, threads=self.max_threads or None, **options)
        finally:
            if config.progress_monitor is not None:
                config.progress_monitor.phase_finish("build")
        _check_given(network, config, plan, self.logger)
        for reason in _refusals(plan):
            report(self.logger, ILogger.VERBOSE, reason)
        return plan

    def _note(self, config: IBuilderConfig) -> None:
        for flag, reason in WITHOUT_EFFECT.items():
            if config.get_flag(flag):
                report(self.logger, ILogger.INFO, f"{flag.name} has no effect: {reason}")
        for flag in WITHOUT_KERNELS:
            if config.get_flag(flag):
                report(
                    self.logger,
                    ILogger.WARNING,
                    f"{flag.name} is permitted and used by no layer: there are no kernels for it",
                )

    def _scales(self, network: INetworkDefinition, config: IBuilderConfig, model: bytes) -> Scales:
        ranges = {n: max(abs(low), abs(high)) for n, (low, high) in network._ranges.items()}
        if config.int8_calibrator is None and not ranges:
            error = _core.CalibrationError(
                "INT8 needs scales: the network has no Q/DQ nodes, no tensor a dynamic range, and "
                "config.int8_calibrator is None"
            )
            error.hint = "set config.int8_calibrator, or tensor.dynamic_range"
            raise error
        if config.int8_calibrator is None:
            return Scales.from_ranges(ranges)
        target = CalibrationTarget(model, network._folder, _batch_inputs(network, config))
        scales = scales_by(config.int8_calibrator, target)
        for note in scales.notes:
            report(self.logger, ILogger.INFO, f"calibration: {note}")
        return _with_ranges(scales, ranges)


def _wants_scales(network: INetworkDefinition, config: IBuilderConfig) -> bool:
    """Whether the build is to place Q/DQ; a model that has some is never quantised further."""
    typed = network.get_flag(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return config.get_flag(BuilderFlag.INT8) and not typed and not _is_quantized(network._outline)


def _is_quantized(outline: Outline) -> bool:
    return any(node.op_type in _QUANTIZED for node in outline.nodes)


def _float_precision(network: INetworkDefinition, config: IBuilderConfig) -> str:
    if network.get_flag(NetworkDefinitionCreationFlag.STRONGLY_TYPED):
        return "graph"
    if _is_quantized(network._outline):
        return "graph"
    return "fp32-fast" if config.get_flag(BuilderFlag.TF32) else "fp32"


def _with_ranges(scales: Scales, ranges: dict[str, float]) -> Scales:
    """Ranges that a script sets take the place of calibrated ones."""
    if not ranges:
        return scales
    given = Scales.from_ranges(ranges)
    merged = {**scales, **given}
    notes = [*scales.notes, f"{len(ranges)} dynamic ranges take the place of calibrated ones"]
    return Scales(
        merged.values(),
        kind=scales.kind,
        method=scales.method,
        model_hash=scales.model_hash,
        notes=notes,
    )


def _batch_inputs(
    network: INetworkDefinition, config: IBuilderConfig
) -> dict[str, tuple[Dims, np.dtype[Any]]]:
    """Shape and type of each input of a calibration batch: the profile's opt, else the model's."""
    profile = config.get_calibration_profile()
    inputs: dict[str, tuple[Dims, np.dtype[Any]]] = {}
    for name in network._inputs():
        kind = network._type(name)
        shapes = profile.get_shape(name) if profile is not None else []
        shape = shapes[1] if shapes else dims_of_type(kind)
        inputs[name] = (shape, np.dtype(nptype(data_type_of_onnx(kind.element_type))))
    return inputs


# --- precisions of single layers

_WITH_KERNELS = (
    DataType.FLOAT,
    DataType.INT8,
    DataType.INT32,
    DataType.INT64,
    DataType.BOOL,
    DataType.UINT8,
)


def _check_precisions(
    network: INetworkDefinition, config: IBuilderConfig, logger: ILogger | None
) -> None:
    """Errors: PrecisionError under OBEY for a precision that no kernel has; PREFER: a warning."""
    obey = config.get_flag(BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    prefer = config.get_flag(BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    if not obey and not prefer and not config.get_flag(BuilderFlag.STRICT_TYPES):
        return
    for layer in network._layers:
        for kind in layer.asked():
            if kind in _WITH_KERNELS:
                continue
            text = f"layer {layer.name!r} asks for {kind.name}, for which this CPU has no kernels"
            if obey:
                error = _core.PrecisionError(text)
                error.node, error.op_type = layer.name, layer.op_type
                error.expected, error.got = kind.name, DataType.FLOAT.name
                error.hint = "PREFER_PRECISION_CONSTRAINTS warns instead"
                raise error
            report(logger, ILogger.WARNING, text)


_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_CONSTRAINTS = (
    BuilderFlag.OBEY_PRECISION_CONSTRAINTS,
    BuilderFlag.PREFER_PRECISION_CONSTRAINTS,
    BuilderFlag.STRICT_TYPES,
)


def _layer_precisions(network: INetworkDefinition, config: IBuilderConfig) -> dict[str, Any]:
    """What an int8 build is to leave out or take in, where constraints are on."""
    if not any(config.get_flag(flag) for flag in _CONSTRAINTS):
        return {}
    named = [layer for layer in network._layers if layer.op_type in _PRODUCTS and layer.named]
    asked = {layer.name: layer.precision for layer in named if layer.precision_is_set}
    if not asked:
        return {}
    return {
        "placement": {
            "exclude": [name for name, kind in asked.items() if kind != DataType.INT8],
            "include": [name for name, kind in asked.items() if kind == DataType.INT8],
        }
    }


def _check_given(
    network: INetworkDefinition, config: IBuilderConfig, plan: planck.Plan, logger: ILogger | None
) -> None:
    """Errors: PrecisionError under OBEY where a layer got another precision; PREFER: a warning."""
    if not any(config.get_flag(flag) for flag in _CONSTRAINTS):
        return
    given = {node: step.given for step in plan.steps for node in step.nodes}
    for layer in network._layers:
        got = given.get(layer.name)
        if not layer.precision_is_set or layer.op_type not in _PRODUCTS or got is None:
            continue
        if (layer.precision == DataType.INT8) == (got == "int8"):
            continue
        text = f"layer {layer.name!r} asks for {layer.precision.name} and got {got}"
        if config.get_flag(BuilderFlag.OBEY_PRECISION_CONSTRAINTS):
            error = _core.PrecisionError(text)
            error.node, error.op_type = layer.name, layer.op_type
            error.expected, error.got = layer.precision.name, got
            raise error
        report(logger, ILogger.WARNING, text)


# --- progress and notes


def _progress(monitor: Any) -> Callable[[str, float], bool] | bool:
    """The callback of planck.build that tells a progress monitor."""
    if monitor is None:
        return False
    monitor.phase_start("build", None, _STEPS)
    last = -1

    def step(_: str, done: float) -> bool:
        nonlocal last
        now = min(int(done * _STEPS), _STEPS - 1)
        if now == last:
            return True
        last = now
        return bool(monitor.step_complete("build", now))

    return step


def _refusals(plan: planck.Plan) -> list[str]:
    return [f"{rule} at {node}: {reason}" for rule, node, reason in plan.report["refusals"]]
