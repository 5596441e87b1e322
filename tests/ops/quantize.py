"""Quantization: per tensor, axis and block; products of bytes."""

import ml_dtypes
import numpy as np
from harness import Case, normal, scalar

X = 40 * normal(3, 8)
SCALE, ZERO = scalar(0.4, np.float32), scalar(7, np.uint8)
SCALES = np.array([0.1, 0.5, 1.0], np.float32)
ZEROS = np.array([-3, 0, 5], np.int8)
BLOCKS = abs(normal(3, 2)) + 0.5
Q = np.arange(-12, 12, dtype=np.int8).reshape(3, 8)
A, B = Q, np.ascontiguousarray(Q.T)
U = Q.view(np.uint8)
F = np.float32
EXTREMES = np.array(
    [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9, 0.5, 1.5, 2.5, -0.5, -0.0, 126.5], F
)
CASTS = "casts to int32 before it clips"
COLUMNS = np.array([0.1, 0.5, 1.0, 2.0, 0.3, 0.7, 0.2, 4.0], F)
WIDE = np.array([[-300, 70000, 0], [2**24 + 2, -(2**31), 5]], np.int32)

E4M3, E5M2 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2

CASES = [
    Case("tensor", "QuantizeLinear", [X, SCALE, ZERO]),
    Case("no_zero", "QuantizeLinear", [X, SCALE]),
    Case("halves", "QuantizeLinear", [np.array([0.5, 1.5, -0.5, 2.5], F), scalar(1, F), ZERO]),
    Case("axis", "QuantizeLinear", [X, SCALES, ZEROS], {"axis": 0}),
    Case("columns", "QuantizeLinear", [X, COLUMNS, np.arange(8, dtype=np.uint8)], {"axis": -1}),
    Case("signed", "QuantizeLinear", [X, SCALE, scalar(-100, np.int8)]),
    Case("one", "QuantizeLinear", [scalar(3.3, F), SCALE, ZERO]),
    Case("nothing", "QuantizeLinear", [X[:0], SCALE, ZERO]),
    Case("extreme", "QuantizeLinear", [EXTREMES, scalar(1, F), ZERO], not_onnx=CASTS),
    Case("low", "QuantizeLinear", [EXTREMES, scalar(1, F), scalar(0, np.int8)], not_onnx=CASTS),
    Case("blocks", "QuantizeLinear", [X, BLOCKS], {"axis": 1, "block_size": 4}),
    Case("wide", "QuantizeLinear", [X, SCALE, scalar(0, np.int16)]),
    Case("e4m3", "QuantizeLinear", [X, SCALE, scalar(0, E4M3)]),
    Case("e5m2", "QuantizeLinear", [1e6 * X, SCALE, scalar(0, E5M2)]),
    Case("four_bits", "QuantizeLinear", [X, scalar(9, F), scalar(1, ml_dtypes.int4)]),
    Case("unsigned_four_bits", "QuantizeLinear", [X, scalar(9, F), scalar(5, ml_dtypes.uint4)]),
    Case("scales", "QuantizeLinear", [X, SCALES], fails="scales \\[3\\]"),
    Case("zeros", "QuantizeLinear", [X, SCALES, ZERO], {"axis": 0}, fails="1 zero points for 3"),
    Case("zeros", "DequantizeLinear", [Q, SCALE, ZEROS], fails="3 zero points for 1"),
    Case("tensor", "DequantizeLinear", [Q, SCALE, scalar(3, np.int8)]),
    Case("unsigned", "DequantizeLinear", [U, SCALE, ZERO]),
    Case("columns", "DequantizeLinear", [Q, COLUMNS, np.arange(8, dtype=np.int8)], {"axis": 1}),
    Case("wide", "DequantizeLinear", [WIDE, SCALE]),
    Case("axis", "DequantizeLinear", [Q, SCALES, ZEROS], {"axis": 0}),
    Case("blocks", "DequantizeLinear", [Q, BLOCKS], {"axis": 1, "block_size": 4}),
    Case("e4m3", "DequantizeLinear", [X.astype(E4M3), SCALE, scalar(0, E4M3)]),
    Case("four_bits", "DequantizeLinear", [(Q % 8).astype(ml_dtypes.int4), SCALE]),
    Case("float", "DequantizeLinear", [X, SCALE], fails="nothing quantized"),
    Case("scales", "DequantizeLinear", [Q, SCALES], fails="scales \\[3\\]"),
    Case("tiles", "DequantizeLinear", [Q, BLOCKS], {"block_size": 5}),
    Case("no_tiles", "DequantizeLinear", [Q, BLOCKS], {"block_size": 3}, fails="expected"),
    Case("types", "DequantizeLinear", [Q, SCALE, ZERO], fails="like input 0"),
    Case("both_signs", "DynamicQuantizeLinear", [X], outputs=3),
    Case("positive", "DynamicQuantizeLinear", [abs(X)], outputs=3),
    Case("zeros", "DynamicQuantizeLinear", [0 * X], outputs=3, not_onnx="divides by zero"),
    Case("extreme", "DynamicQuantizeLinear", [EXTREMES], outputs=3, not_onnx=CASTS),
    Case("finite", "DynamicQuantizeLinear", [EXTREMES[3:]], outputs=3, not_onnx=CASTS),
    Case("nothing", "DynamicQuantizeLinear", [X[:0]], outputs=3, not_onnx="no extremes"),
    Case("plain", "MatMulInteger", [A, B]),
    Case("zeros", "MatMulInteger", [U, B, scalar(200, np.uint8), scalar(-2, np.int8)]),
    Case("columns", "MatMulInteger", [A, B, scalar(1, np.int8), ZEROS], not_onnx="no columns"),
    Case("float", "MatMulInteger", [X, X], fails="expected an integer type"),
    Case(
        "bytes",
        "QLinearMatMul",
        [U, SCALE, ZERO, B, SCALE, scalar(1, np.int8), scalar(30, F), ZERO],
    ),
]
