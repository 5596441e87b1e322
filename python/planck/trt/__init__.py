"""TensorRT 8 and 10's Python interface on Planck: int8 calibration and all, on a CPU.

A script runs after a change of one import, with its buffers in the process's own memory:

>>> import planck.trt as trt
>>> config = trt.Builder(trt.Logger(trt.Logger.WARNING)).create_builder_config()
>>> config.set_flag(trt.BuilderFlag.INT8)

docs/trt.md lists what is honoured, noted and refused.
"""

from typing import Any

from planck.trt._builder import Builder
from planck.trt._calibrator import (
    IInt8Calibrator,
    IInt8EntropyCalibrator,
    IInt8EntropyCalibrator2,
    IInt8LegacyCalibrator,
    IInt8MinMaxCalibrator,
)
from planck.trt._config import IBuilderConfig, ITimingCache
from planck.trt._context import IExecutionContext
from planck.trt._dims import Dims, volume
from planck.trt._engine import EngineInspector, ICudaEngine, IHostMemory, Runtime
from planck.trt._enums import (
    BuilderFlag,
    CalibrationAlgoType,
    DataType,
    DeviceType,
    EngineCapability,
    ErrorCode,
    HardwareCompatibilityLevel,
    LayerInformationFormat,
    LayerType,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    OnnxParserFlag,
    PreviewFeature,
    ProfilingVerbosity,
    QuantizationFlag,
    TacticSource,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    nptype,
)
from planck.trt._hooks import (
    IErrorRecorder,
    IOutputAllocator,
    IProfiler,
    IProgressMonitor,
    IStreamReader,
    Profiler,
    Refitter,
)
from planck.trt._logger import ILogger, Logger
from planck.trt._network import ILayer, INetworkDefinition, ITensor
from planck.trt._parser import OnnxParser, ParserError
from planck.trt._profile import IOptimizationProfile

# The release whose interface this is: scripts compare it. planck.__version__ is ours.
__version__ = "8.6.1"

float32, float16, int8, int32 = DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32
int64, uint8, bfloat16 = DataType.INT64, DataType.UINT8, DataType.BF16
bool, fp8, int4 = DataType.BOOL, DataType.FP8, DataType.INT4


def init_libnvinfer_plugins(logger: Any = None, namespace: str = "") -> int:
    """Does nothing: there are no plug-ins to load. 1, as from TensorRT."""
    return 1


def get_plugin_registry() -> Any:
    """Errors: UnsupportedError."""
    return Runtime().get_plugin_registry()


__all__ = [
    "Builder",
    "BuilderFlag",
    "CalibrationAlgoType",
    "DataType",
    "DeviceType",
    "Dims",
    "EngineCapability",
    "EngineInspector",
    "ErrorCode",
    "HardwareCompatibilityLevel",
    "IBuilderConfig",
    "ICudaEngine",
    "IErrorRecorder",
    "IExecutionContext",
    "IHostMemory",
    "IInt8Calibrator",
    "IInt8EntropyCalibrator",
    "IInt8EntropyCalibrator2",
    "IInt8LegacyCalibrator",
    "IInt8MinMaxCalibrator",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IOutputAllocator",
    "IProfiler",
    "IProgressMonitor",
    "IStreamReader",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "LayerType",
    "Logger",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "OnnxParserFlag",
    "ParserError",
    "PreviewFeature",
    "Profiler",
    "ProfilingVerbosity",
    "QuantizationFlag",
    "Refitter",
    "Runtime",
    "TacticSource",
    "TensorFormat",
    "TensorIOMode",
    "TensorLocation",
    "bfloat16",
    "bool",
    "float16",
    "float32",
    "fp8",
    "get_plugin_registry",
    "init_libnvinfer_plugins",
    "int4",
    "int8",
    "int32",
    "int64",
    "nptype",
    "uint8",
    "volume",
]
