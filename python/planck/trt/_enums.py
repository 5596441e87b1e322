"""TensorRT's enumerations: the names and numbers that scripts use."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import ml_dtypes
import numpy as np


class DataType(IntEnum):
    """Element types."""

    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8
    INT4 = 9
    FP4 = 10

    @property
    def itemsize(self) -> int:
        """Bytes of an element; 1 for the types that are packed."""
        return int(np.dtype(nptype(self)).itemsize)


_TYPES: dict[DataType, tuple[int, Any]] = {  # ONNX's number, NumPy's type
    DataType.FLOAT: (1, np.float32),
    DataType.HALF: (10, np.float16),
    DataType.INT8: (3, np.int8),
    DataType.INT32: (6, np.int32),
    DataType.BOOL: (9, np.bool_),
    DataType.UINT8: (2, np.uint8),
    DataType.FP8: (17, ml_dtypes.float8_e4m3fn),
    DataType.BF16: (16, ml_dtypes.bfloat16),
    DataType.INT64: (7, np.int64),
    DataType.INT4: (22, ml_dtypes.int4),
}


def nptype(trt_type: DataType) -> Any:
    """The NumPy type of an element type. Errors: TypeError.

    >>> nptype(DataType.HALF)
    <class 'numpy.float16'>
    """
    if trt_type not in _TYPES:
        raise TypeError(
            f"Could not resolve TensorRT datatype to an equivalent numpy datatype: {trt_type!r}"
        )
    return _TYPES[trt_type][1]


def data_type(numpy_name: str) -> DataType:
    """The element type of a port, or its nearest: TensorRT has no double and no wide unsigned."""
    for kind, (_, numpy_type) in _TYPES.items():
        if np.dtype(numpy_type).name == numpy_name:
            return kind
    return DataType.FLOAT if numpy_name.startswith("float") else DataType.INT64


def data_type_of_onnx(number: int) -> DataType:
    """The same for ONNX's number of an element type."""
    for kind, (onnx, _) in _TYPES.items():
        if onnx == number:
            return kind
    return DataType.FLOAT if number in (0, 11) else DataType.INT64


class TensorIOMode(IntEnum):
    """What a tensor of an engine is."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(IntEnum):
    """Where addresses lie; on a CPU both are the process's own memory."""

    DEVICE = 0
    HOST = 1


class TensorFormat(IntEnum):
    """Layouts; engines here take and give dense row-major arrays."""

    LINEAR = 0
    CHW2 = 1
    HWC8 = 2
    CHW4 = 3
    CHW16 = 4
    CHW32 = 5
    HWC = 8


class NetworkDefinitionCreationFlag(IntEnum):
    """Flags of `Builder.create_network`, as bit numbers."""

    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class BuilderFlag(IntEnum):
    """Flags of a builder's configuration, as bit numbers."""

    FP16 = 0
    INT8 = 1
    DEBUG = 2
    GPU_FALLBACK = 3
    REFIT = 4
    DISABLE_TIMING_CACHE = 5
    EDITABLE_TIMING_CACHE = 6
    TF32 = 7
    SPARSE_WEIGHTS = 8
    SAFETY_SCOPE = 9
    OBEY_PRECISION_CONSTRAINTS = 10
    PREFER_PRECISION_CONSTRAINTS = 11
    DIRECT_IO = 12
    REJECT_EMPTY_ALGORITHMS = 13
    VERSION_COMPATIBLE = 14
    EXCLUDE_LEAN_RUNTIME = 15
    FP8 = 16
    ERROR_ON_TIMING_CACHE_MISS = 17
    BF16 = 18
    DISABLE_COMPILATION_CACHE = 19
    STRIP_PLAN = 20
    REFIT_IDENTICAL = 21
    WEIGHT_STREAMING = 22
    INT4 = 23
    REFIT_INDIVIDUAL = 24
    STRICT_NANS = 25
    MONITOR_MEMORY = 26
    WEIGHTLESS = 27
    DISTRIBUTIVE_INDEPENDENCE = 28
    FP4 = 29
    STRICT_TYPES = 30  # up to 8.1: prefer the precisions that layers ask for


class MemoryPoolType(IntEnum):
    """Memory pools of a build."""

    WORKSPACE = 0
    DLA_MANAGED_SRAM = 1
    DLA_LOCAL_DRAM = 2
    DLA_GLOBAL_DRAM = 3
    TACTIC_DRAM = 4
    TACTIC_SHARED_MEMORY = 5


class QuantizationFlag(IntEnum):
    """Flags of calibration, as bit numbers."""

    CALIBRATE_BEFORE_FUSION = 0


class CalibrationAlgoType(IntEnum):
    """What a calibrator wants."""

    LEGACY_CALIBRATION = 0
    ENTROPY_CALIBRATION = 1
    ENTROPY_CALIBRATION_2 = 2
    MINMAX_CALIBRATION = 3


class ProfilingVerbosity(IntEnum):
    """How much an inspector says; plans here always hold everything."""

    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class LayerInformationFormat(IntEnum):
    """How an inspector says it."""

    ONELINE = 0
    JSON = 1


class TacticSource(IntEnum):
    """Where TensorRT takes kernels from; without effect."""

    CUBLAS = 0
    CUBLAS_LT = 1
    CUDNN = 2
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class HardwareCompatibilityLevel(IntEnum):
    """Which GPUs a TensorRT engine runs on; a plan loads on any machine."""

    NONE = 0
    AMPERE_PLUS = 1


class PreviewFeature(IntEnum):
    """Features of TensorRT that are being tried; without effect."""

    FASTER_DYNAMIC_SHAPES_0805 = 0
    DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805 = 1
    PROFILE_SHARING_0806 = 2
    ALIASED_PLUGIN_IO_10_03 = 3


class DeviceType(IntEnum):
    """Kinds of devices."""

    GPU = 0
    DLA = 1


class EngineCapability(IntEnum):
    """Which runtime an engine is for."""

    STANDARD = 0
    SAFETY = 1
    DLA_STANDALONE = 2


class OnnxParserFlag(IntEnum):
    """Flags of the parser, as bit numbers; without effect."""

    NATIVE_INSTANCENORM = 0
    ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA = 1


class ErrorCode(IntEnum):
    """Kinds of parser errors."""

    SUCCESS = 0
    INTERNAL_ERROR = 1
    MEM_ALLOC_FAILED = 2
    MODEL_DESERIALIZE_FAILED = 3
    INVALID_VALUE = 4
    INVALID_GRAPH = 5
    INVALID_NODE = 6
    UNSUPPORTED_GRAPH = 7
    UNSUPPORTED_NODE = 8


class LayerType(IntEnum):
    """Kinds of layers; PLUGIN_V2 for ONNX ops that TensorRT has no layer for."""

    CONVOLUTION = 0
    GRID_SAMPLE = 1
    NMS = 2
    ACTIVATION = 3
    POOLING = 4
    LRN = 5
    SCALE = 6
    SOFTMAX = 7
    DECONVOLUTION = 8
    CONCATENATION = 9
    ELEMENTWISE = 10
    PLUGIN = 11
    UNARY = 12
    PADDING = 13
    SHUFFLE = 14
    REDUCE = 15
    TOPK = 16
    GATHER = 17
    MATRIX_MULTIPLY = 18
    RAGGED_SOFTMAX = 19
    CONSTANT = 20
    IDENTITY = 21
    CAST = 22
    PLUGIN_V2 = 23
    SLICE = 24
    SHAPE = 25
    PARAMETRIC_RELU = 26
    RESIZE = 27
    SELECT = 28
    FILL = 29
    QUANTIZE = 30
    DEQUANTIZE = 31
    CONDITION = 32
    CONDITIONAL_INPUT = 33
    CONDITIONAL_OUTPUT = 34
    SCATTER = 35
    EINSUM = 36
    ASSERTION = 37
    ONE_HOT = 38
    NON_ZERO = 39
    REVERSE_SEQUENCE = 40
    NORMALIZATION = 41
    TRIP_LIMIT = 42
    RECURRENCE = 43
    ITERATOR = 44
    LOOP_OUTPUT = 45


_LAYERS: dict[LayerType, str] = {
    LayerType.CONVOLUTION: "Conv ConvInteger QLinearConv",
    LayerType.DECONVOLUTION: "ConvTranspose",
    LayerType.GRID_SAMPLE: "GridSample",
    LayerType.NMS: "NonMaxSuppression",
    LayerType.ACTIVATION: "Relu LeakyRelu Sigmoid Tanh Elu Selu Softsign Softplus Clip HardSigmoid "
    "ThresholdedRelu Gelu",
    LayerType.POOLING: "MaxPool AveragePool LpPool",
    LayerType.LRN: "LRN",
    LayerType.SCALE: "BatchNormalization",
    LayerType.SOFTMAX: "Softmax LogSoftmax",
    LayerType.CONCATENATION: "Concat",
    LayerType.ELEMENTWISE: "Add Sub Mul Div Pow Max Min And Or Xor Equal Greater Less "
    "GreaterOrEqual LessOrEqual Mod Sum Mean",
    LayerType.UNARY: "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Log Neg Not "
    "Reciprocal Round Sign Sin Sinh Sqrt Tan IsNaN IsInf",
    LayerType.SHUFFLE: "Reshape Transpose Flatten Squeeze Unsqueeze DepthToSpace SpaceToDepth",
    LayerType.REDUCE: "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 "
    "ReduceLogSum ReduceLogSumExp ReduceSumSquare GlobalAveragePool GlobalMaxPool GlobalLpPool",
    LayerType.TOPK: "TopK ArgMax ArgMin",
    LayerType.GATHER: "Gather GatherElements GatherND",
    LayerType.MATRIX_MULTIPLY: "MatMul Gemm MatMulInteger QLinearMatMul",
    LayerType.CONSTANT: "Constant",
    LayerType.IDENTITY: "Identity Dropout",
    LayerType.CAST: "Cast CastLike",
    LayerType.SLICE: "Slice Pad Split Expand Tile",
    LayerType.SHAPE: "Shape Size",
    LayerType.PARAMETRIC_RELU: "PRelu",
    LayerType.RESIZE: "Resize Upsample",
    LayerType.SELECT: "Where",
    LayerType.FILL: "Range ConstantOfShape RandomNormal RandomUniform",
    LayerType.QUANTIZE: "QuantizeLinear",
    LayerType.DEQUANTIZE: "DequantizeLinear",
    LayerType.CONDITION: "If",
    LayerType.SCATTER: "ScatterElements ScatterND Scatter",
    LayerType.EINSUM: "Einsum",
    LayerType.ONE_HOT: "OneHot",
    LayerType.NON_ZERO: "NonZero",
    LayerType.REVERSE_SEQUENCE: "ReverseSequence",
    LayerType.NORMALIZATION: "LayerNormalization InstanceNormalization GroupNormalization",
    LayerType.RECURRENCE: "Loop Scan LSTM GRU RNN",
}
_LAYER_OF_OP = {op: layer for layer, ops in _LAYERS.items() for op in ops.split()}


def layer_type(op_type: str) -> LayerType:
    """The kind of layer that an ONNX op is for TensorRT.

    >>> layer_type("Gemm").name, layer_type("Det").name
    ('MATRIX_MULTIPLY', 'PLUGIN_V2')
    """
    return _LAYER_OF_OP.get(op_type, LayerType.PLUGIN_V2)
