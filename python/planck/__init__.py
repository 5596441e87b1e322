"""Planck: builds plans from ONNX models and runs them, with numbers you can trust.

>>> import planck                                                    # doctest: +SKIP
>>> plan = planck.build("bert.onnx", precision="fp32")               # doctest: +SKIP
>>> out = plan.run({"input_ids": ids, "attention_mask": mask})       # doctest: +SKIP
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from planck._core import (
    CalibrationError,
    Cancel,
    CancelledError,
    CorruptError,
    DeviceError,
    Error,
    ExternalDataError,
    FeedError,
    FileError,
    GraphError,
    InternalError,
    LimitError,
    OutOfMemoryError,
    ParseError,
    PrecisionError,
    RunError,
    TargetError,
    TimeoutError,
    UnsafeError,
    UnsupportedError,
    UsageError,
    VersionError,
)
from planck.bias_correction import correct_bias
from planck.build import build
from planck.calibrate import calibrate
from planck.calibration import Calibration, Scales, TensorRange, TensorScale
from planck.compare import CompareReport, assert_accuracy, compare
from planck.int8_report import Int8Report, int8_report
from planck.limits import Limits
from planck.plan import Memory, Plan, Port, Stats, Step, TensorMemory, load
from planck.quantization import Placement, placement, quantize
from planck.scale_files import import_scales
from planck.smoothing import smooth

if TYPE_CHECKING:
    from planck import models, ort, trt
    from planck.ort import InferenceSession

__version__ = "0.1.0"

# Builds, loads, new shapes and met limits are logged here; a library never prints.
logging.getLogger("planck").addHandler(logging.NullHandler())

__all__ = [
    "Calibration",
    "CalibrationError",
    "Cancel",
    "CancelledError",
    "CompareReport",
    "CorruptError",
    "DeviceError",
    "Error",
    "ExternalDataError",
    "FeedError",
    "FileError",
    "GraphError",
    "InferenceSession",
    "Int8Report",
    "InternalError",
    "LimitError",
    "Limits",
    "Memory",
    "OutOfMemoryError",
    "ParseError",
    "Placement",
    "Plan",
    "Port",
    "PrecisionError",
    "RunError",
    "Scales",
    "Stats",
    "Step",
    "TargetError",
    "TensorMemory",
    "TensorRange",
    "TensorScale",
    "TimeoutError",
    "UnsafeError",
    "UnsupportedError",
    "UsageError",
    "VersionError",
    "assert_accuracy",
    "build",
    "calibrate",
    "compare",
    "correct_bias",
    "device",
    "import_scales",
    "int8_report",
    "knobs",
    "load",
    "models",
    "ort",
    "placement",
    "quantize",
    "smooth",
    "trt",
]


def device() -> dict[str, Any]:
    """Facts of the CPU: cpu (text), isa, cores, l1_bytes, l2_bytes, l3_bytes.

    >>> sorted(device())
    ['cores', 'cpu', 'isa', 'l1_bytes', 'l2_bytes', 'l3_bytes']
    """
    from planck import _core

    return _core.device()


def knobs() -> str:
    """Every environment variable that Planck reads, a line each.

    >>> "PLANCK_THREADS" in knobs()
    True
    """
    from planck import _core

    return _core.knobs()


def __getattr__(name: str) -> Any:
    """Loads what NumPy or more stands behind on first use, so that `import planck` stays quick."""
    import importlib

    if name in ("models", "ort", "trt"):
        return importlib.import_module(f"planck.{name}")
    if name == "InferenceSession":
        return importlib.import_module("planck.ort").InferenceSession
    raise AttributeError(f"module 'planck' has no attribute {name!r}")
