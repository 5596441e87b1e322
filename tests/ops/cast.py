"""Cast between every pair of families; numbers of ONNX types."""

import ml_dtypes
import numpy as np
from harness import Case, normal

F = 40 * normal(3, 5)
N = np.array([-300, -1, 0, 1, 255, 70000], np.int64)
ONNX = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}
ONNX |= {"float64": 11}

# Borders between two numbers, the largest ones, numbers below the least normal one.
EIGHT = np.array(
    [0.0, -1.06, 1.0625, 1.1875, 17, 19, 447, 463, 2.0**-9, 3 * 2.0**-11, -0.013], np.float32
)
LARGE = np.array([465, 1e5, -1e5, np.inf, -np.inf], np.float32)
PATTERNS = np.arange(256).astype(np.uint8)
FINITE = PATTERNS[(PATTERNS & 0x7F) < 0x7C]

CASES = [
    *[Case(f"f32_{name}", "Cast", [F], {"to": to}) for name, to in ONNX.items() if name[0] != "u"],
    *[Case(f"s64_{name}", "Cast", [N], {"to": to}) for name, to in ONNX.items()],
    *[Case(f"bool_{name}", "Cast", [N > 0], {"to": to}) for name, to in ONNX.items()],
    Case("u8_float32", "Cast", [N.astype(np.uint8)], {"to": 1}),
    Case("s8_float32", "Cast", [N.astype(np.int8)], {"to": 1}),
    Case("s32_float32", "Cast", [N.astype(np.int32) * 3001], {"to": 1}),
    Case("rounds", "Cast", [np.array([1 + 2.0**-11, 65519, 65520, 1e-8], np.float32)], {"to": 10}),
    Case("half", "Cast", [normal(7).astype(np.float16)], {"to": 1}),
    Case("large_integer", "Cast", [np.array([2**24 + 1, 2**53 + 1])], {"to": 1}),
    Case("float8_e4m3", "Cast", [EIGHT], {"to": 17}),
    Case("float8_e5m2", "Cast", [EIGHT], {"to": 19}),
    Case("float8_e4m3_saturates", "Cast", [LARGE], {"to": 17}),
    Case("float8_e5m2_saturates", "Cast", [LARGE], {"to": 19}),
    Case("every_e4m3", "Cast", [FINITE.view(ml_dtypes.float8_e4m3fn)], {"to": 1}),
    Case("every_e5m2", "Cast", [FINITE.view(ml_dtypes.float8_e5m2)], {"to": 1}),
    Case("four_bits", "Cast", [np.arange(-8, 8, dtype=np.float32)], {"to": 22}),
    Case("unsigned_four_bits", "Cast", [np.arange(16, dtype=np.float32)], {"to": 21}),
    Case("from_four_bits", "Cast", [np.arange(-8, 8).astype(ml_dtypes.int4)], {"to": 1}),
    Case("missing", "Cast", [F], fails="lacks its attribute to"),
    Case("string", "Cast", [F], {"to": 8}, fails="names the ONNX type 8"),
]
