"""Comparisons, logic, Where and IsNaN."""

import numpy as np
from harness import Case, normal, scalar

F = np.round(normal(3, 1, 5))
G = np.round(normal(4, 1, seed=8))
N = np.array([[7, -7, 0], [100, -128, 1]], np.int64)
B = F > 0
C = G > 0
LARGE = np.array([2**63 + 5, 3, 2**64 - 1], np.uint64)
ORDER = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual"]

CASES = [
    *[Case("floats", op, [F, G]) for op in [*ORDER, "Equal"]],
    *[Case("integers", op, [N, N[:1]]) for op in [*ORDER, "Equal"]],
    *[Case("uint64", op, [LARGE, LARGE[::-1].copy()]) for op in [*ORDER, "Equal"]],
    *[Case("nan", op, [np.array([np.nan, 1], np.float32), scalar(1, np.float32)]) for op in ORDER],
    *[Case("bools", op, [B, C]) for op in ["And", "Or", "Xor", "Equal"]],
    *[Case("floats", op, [F, G], fails="expected b8") for op in ["And", "Or", "Xor"]],
    Case("bools", "Less", [B, C], fails="expected a numeric type"),
    Case("bools", "Not", [B]),
    Case("floats", "Not", [F], fails="expected b8"),
    Case("special", "IsNaN", [np.array([np.nan, np.inf, 0], np.float32)]),
    Case("three_ways", "Where", [B, normal(4, 1), normal(5)]),
    Case("integers", "Where", [np.array([True, False, True]), N, scalar(0)]),
    Case("bools", "Where", [B, C[:1], scalar(True, np.bool_)]),
    Case("condition", "Where", [F, F, F], fails="expected b8"),
    Case("types", "Where", [B, F, scalar(1)], fails="expected f32 like input 1"),
]
