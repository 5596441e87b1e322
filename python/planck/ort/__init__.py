"""ONNX Runtime's Python interface on Planck: its scripts run after a change of one import.

>>> import planck.ort as ort
>>> options = ort.SessionOptions()
>>> options.intra_op_num_threads = 1
>>> ort.get_available_providers()
['CPUExecutionProvider']

What differs from ONNX Runtime is listed in docs/onnxruntime.md.
"""

from planck.ort import capi
from planck.ort._binding import IOBinding
from planck.ort._defaults import (
    disable_telemetry_events,
    enable_telemetry_events,
    get_all_providers,
    get_build_info,
    get_version_string,
    preload_dlls,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)
from planck.ort._model import ModelMetadata
from planck.ort._options import (
    ExecutionMode,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
)
from planck.ort._ports import NodeArg
from planck.ort._providers import get_available_providers, get_device
from planck.ort._session import InferenceSession
from planck.ort._values import OrtValue
from planck.ort.capi import onnxruntime_pybind11_state

# The release whose interface this is: scripts compare it. planck.__version__ is ours.
__version__ = "1.32.0"

__all__ = [
    "ExecutionMode",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OrtValue",
    "RunOptions",
    "SessionOptions",
    "capi",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "onnxruntime_pybind11_state",
    "preload_dlls",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
]
