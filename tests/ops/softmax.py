"""Softmax and LogSoftmax: axis rules, vector tails, large values, errors."""

import numpy as np
from harness import Case, ints, normal

MASKED = np.where(normal(4, 9) > 0, normal(4, 9, seed=8), np.float32(-np.inf)).astype(np.float32)
LOG_OF_ZERO = {"Softmax": "", "LogSoftmax": "it takes the logarithm of a softmax that vanished"}
BAD_AXIS = r"axis 2 is outside \[-2, 2\)"

CASES = [
    case
    for op in ["Softmax", "LogSoftmax"]
    for case in [
        Case("last_axis", op, [normal(2, 7, 64)]),
        Case("middle_axis", op, [normal(2, 7, 64)], {"axis": 1}),
        Case("first_axis", op, [normal(2, 7)], {"axis": -2}),
        Case("vector_tail", op, [normal(3, 13)]),
        Case("one", op, [normal(3, 1)]),
        Case("empty_rows", op, [normal(0, 3)]),
        Case("empty_axis", op, [normal(3, 0)], not_onnx="NumPy has no maximum of nothing"),
        Case("no_overflow", op, [1e4 * normal(4, 33)], not_onnx=LOG_OF_ZERO[op]),
        Case("masked", op, [MASKED]),
        Case("bad_axis", op, [normal(2, 2)], {"axis": 2}, fails=BAD_AXIS),
        Case("bad_name", op, [normal(2, 2)], {"axes": 1}, fails="has no attribute axes"),
        Case("integers", op, [ints(1, 2)], fails="expected a float type"),
    ]
]
