"""Arithmetic, functions of one input, and Clip: broadcasting, integers, special values, errors."""

import numpy as np
from harness import Case, normal, scalar

F = normal(3, 1, 5)
G = normal(4, 1, seed=8)
POSITIVE = np.abs(normal(3, 7)) + 0.1
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e-30], np.float32)
N = np.array([[7, -7, 0], [100, -128, 1]], np.int64)
J = np.array([2, -3, 5], np.int64)
BYTES = np.array([200, 100, 255], np.uint8)
LARGE = np.array([2**63 + 5, 3, 2**64 - 1], np.uint64)

BINARY = ["Add", "Sub", "Mul", "Div", "Min", "Max"]
UNARY = [
    "Abs",
    "Ceil",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
]
UNARY += [
    "Neg",
    "Relu",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Tanh",
    "Gelu",
    "Reciprocal",
]

CASES = [
    *[Case("broadcast", op, [F, G]) for op in BINARY],
    *[Case("scalar", op, [F, scalar(0.5, np.float32)]) for op in BINARY],
    *[Case("empty", op, [normal(0, 3), normal(1, 3)]) for op in BINARY],
    *[Case("half", op, [F.astype(np.float16), G.astype(np.float16)]) for op in BINARY],
    *[Case("int64", op, [N, J]) for op in ["Add", "Sub", "Mul", "Min", "Max"]],
    *[Case("wraps", op, [BYTES, BYTES[::-1].copy()]) for op in ["Add", "Sub", "Mul"]],
    *[Case("uint64", op, [LARGE, LARGE[::-1].copy()]) for op in ["Add", "Mul", "Min", "Max"]],
    *[Case("type", op, [F, N], fails="expected f32 like input 0") for op in BINARY],
    *[Case("shape", op, [normal(2), normal(3)], fails="do not broadcast") for op in BINARY],
    *[Case("normal", op, [normal(3, 33)]) for op in UNARY],
    *[Case("wide_range", op, [20 * normal(3, 7)]) for op in UNARY if op != "Exp"],
    *[Case("empty", op, [normal(2, 0)]) for op in UNARY],
    *[Case("integer", op, [N], fails="expected a float type") for op in ["Exp", "Erf", "Tanh"]],
    Case("truncates", "Div", [N, J], not_onnx="its division of integers floors"),
    Case("by_zero", "Div", [N, np.zeros(3, np.int64)], fails="divided by zero"),
    Case("smallest", "Div", [np.array([-(2**63)], np.int64), scalar(-1)], not_onnx="it floors"),
    Case("floor", "Mod", [N, J]),
    Case("c", "Mod", [N, J], {"fmod": 1}),
    Case("c_float", "Mod", [F, G], {"fmod": 1}),
    Case("float", "Mod", [F, G], fails="needs fmod 1"),
    Case("by_zero", "Mod", [N, scalar(0)], fails="divided by zero"),
    Case("square", "Pow", [F, scalar(2, np.float32)]),
    Case("integer_exponent", "Pow", [F, scalar(3)]),
    Case("integers", "Pow", [N, np.array([0, 1, 4])]),
    Case("roots", "Pow", [POSITIVE, scalar(0.5, np.float32)]),
    Case("three", "Min", [F, G, normal(1, 5, seed=9)]),
    Case("three", "Max", [F, G, normal(1, 5, seed=9)]),
    Case("one", "Max", [F]),
    Case("nan", "Max", [SPECIAL, scalar(0, np.float32)]),
    Case("nan", "Min", [SPECIAL, scalar(0, np.float32)]),
    Case("positive", "Sqrt", [POSITIVE]),
    Case("positive", "Log", [POSITIVE]),
    Case("special", "Relu", [SPECIAL]),
    Case("special", "Abs", [SPECIAL]),
    Case("special", "Tanh", [SPECIAL]),
    Case("integer", "Abs", [N]),
    Case("integer", "Neg", [N]),
    Case("integer", "Sign", [N]),
    Case("integer", "Relu", [N.astype(np.int32)]),
    Case("halves", "Round", [np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4], np.float32)]),
    Case("alpha", "LeakyRelu", [F], {"alpha": 0.3}),
    Case("alpha", "Elu", [F], {"alpha": 0.3}),
    Case("alpha_beta", "HardSigmoid", [F], {"alpha": 0.5, "beta": 0.6}),
    Case("tanh", "Gelu", [3 * F], {"approximate": "tanh"}),
    Case("unknown", "Gelu", [F], {"approximate": "fast"}, fails="expected none or tanh"),
    Case("attribute", "Relu", [F], {"alpha": 1.0}, fails="has no attribute alpha"),
    Case("mistyped", "Elu", [F], {"alpha": "1"}, fails="is not a number"),
    Case("both", "Clip", [F, scalar(-0.5, np.float32), scalar(0.5, np.float32)]),
    Case("low", "Clip", [F, scalar(-0.5, np.float32)]),
    Case("high", "Clip", [F, None, scalar(0.5, np.float32)]),
    Case("neither", "Clip", [F]),
    Case("crossed", "Clip", [F, scalar(2, np.float32), scalar(-2, np.float32)]),
    Case("integer", "Clip", [N, scalar(-3), scalar(4)]),
    Case("vector", "Clip", [F, normal(5)], fails="expected a scalar"),
    Case("identity", "Identity", [F]),
    Case("inference", "Dropout", [F], outputs=1),
    Case("mask", "Dropout", [F, scalar(0.5, np.float32), scalar(False, np.bool_)], outputs=2),
    Case(
        "training",
        "Dropout",
        [F, scalar(0.5, np.float32), scalar(True, np.bool_)],
        fails="training",
    ),
]
