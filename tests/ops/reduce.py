"""Reductions, ArgMax, ArgMin and CumSum."""

import numpy as np
from harness import Case, ints, normal, scalar

X = normal(3, 4, 5)
N = np.array([[3, -7, 2], [5, 0, -1]], np.int64)
TIES = np.array([[1, 3, 3], [2, 2, 1]], np.float32)
OPS = ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"]
OPS += ["ReduceLogSum", "ReduceProd", "ReduceSum", "ReduceSumSquare"]
COMPOSITE = ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]
TWICE = "axis 1 is given twice"

CASES = [
    *[Case("all", op, [X]) for op in OPS],
    *[Case("all_dropped", op, [X], {"keepdims": 0}) for op in OPS],
    *[Case("last", op, [X, ints(-1)]) for op in OPS],
    *[Case("two", op, [X, ints(2, 0)], {"keepdims": 0}) for op in OPS],
    *[Case("empty_is_all", op, [X, ints()]) for op in OPS],
    *[
        Case("integers", op, [N, ints(1)])
        for op in OPS
        if op not in {"ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"}
    ],
    *[Case("bad_axis", op, [X, ints(3)], fails=r"axis 3 is outside \[-3, 3\)") for op in OPS],
    *[Case("twice", op, [X, ints(1, -2)], fails=TWICE) for op in OPS],
    *[
        Case("noop", op, [X, ints()], {"noop_with_empty_axes": 1}, not_onnx=why)
        for op in OPS
        for why in ["it skips the square, the root or the sign" if op in COMPOSITE else ""]
    ],
    Case(
        "masked", "ReduceLogSumExp", [np.full((2, 3), -np.inf, np.float32), ints(1)], not_onnx="NaN"
    ),
    Case("large", "ReduceLogSumExp", [1000 * X, ints(1)]),
    Case("nothing", "ReduceSum", [normal(2, 0, 3), ints(1)]),
    Case("nothing", "ReduceProd", [normal(2, 0, 3), ints(1)]),
    Case("nothing_float", "ReduceMax", [normal(2, 0), ints(1)]),
    Case("nothing_integer", "ReduceMax", [np.zeros((2, 0), np.int64), ints(1)], fails="of no s64"),
    Case("bools", "ReduceMax", [N > 0, ints(1)]),
    Case("bools", "ReduceSum", [N > 0], fails="expected a numeric type"),
    Case("nan", "ReduceMax", [np.array([[1, np.nan], [2, 3]], np.float32), ints(1)]),
    Case("long", "ReduceMean", [normal(2, 5000), ints(1)]),
    *[Case("first_axis", op, [X]) for op in ["ArgMax", "ArgMin"]],
    *[Case("last_axis", op, [X], {"axis": -1, "keepdims": 0}) for op in ["ArgMax", "ArgMin"]],
    *[Case("first_tie", op, [TIES], {"axis": 1}) for op in ["ArgMax", "ArgMin"]],
    *[
        Case("last_tie", op, [TIES], {"axis": 1, "select_last_index": 1})
        for op in ["ArgMax", "ArgMin"]
    ],
    *[
        Case("nan", op, [np.array([1, np.nan, 3, np.nan], np.float32)])
        for op in ["ArgMax", "ArgMin"]
    ],
    Case("empty_axis", "ArgMax", [normal(2, 0)], {"axis": 1}, fails="is empty"),
    Case("plain", "CumSum", [X, scalar(1)]),
    Case("exclusive", "CumSum", [X, scalar(-1)], {"exclusive": 1}),
    Case("reverse", "CumSum", [X, scalar(0)], {"reverse": 1}),
    Case("both", "CumSum", [N, scalar(1)], {"exclusive": 1, "reverse": 1}),
    Case("bad_axis", "CumSum", [X, scalar(3)], fails=r"axis 3 is outside \[-3, 3\)"),
]
