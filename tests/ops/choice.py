"""Ops whose results are as many as the data say: boxes, different elements, chosen parts."""

import numpy as np
from harness import Case, ints, normal

CORNERS = abs(normal(2, 12, 4))
CORNERS[..., 2:] += CORNERS[..., :2] / 2
SCORES = normal(2, 3, 12, seed=2)
FEW, ALL = np.array([4], np.int64), np.array([100], np.int64)
HALF, NONE = np.array([0.3], np.float32), np.array([0], np.float32)
TIES = np.zeros((1, 1, 4), np.float32)
APART = np.array([[[0, 0, 1, 1], [2, 2, 3, 3], [1, 1, 0, 0], [0, 0, 0, 5]]], np.float32)
N = np.array([[2, 0, 2], [1, 0, 1], [2, 0, 2]], np.int64)
X = np.array([3, 1, np.nan, 1, -0.0, 0, np.nan, 3], np.float32)

CASES = [
    Case("most", "NonMaxSuppression", [CORNERS, SCORES, FEW, HALF]),
    Case("score", "NonMaxSuppression", [CORNERS, SCORES, ALL, HALF, HALF]),
    Case("middle", "NonMaxSuppression", [CORNERS, SCORES, ALL, HALF], {"center_point_box": 1}),
    Case("nothing", "NonMaxSuppression", [CORNERS, SCORES], not_onnx="keeps all"),
    Case("ties", "NonMaxSuppression", [APART, TIES, ALL, HALF]),
    Case("any overlap", "NonMaxSuppression", [CORNERS, SCORES, ALL, NONE]),
    Case("shape", "NonMaxSuppression", [CORNERS, SCORES[..., :9], ALL], fails="boxes"),
    Case("corners", "NonMaxSuppression", [CORNERS[..., :3], SCORES], fails="expected four"),
    Case("elements", "Unique", [N], outputs=4),
    Case(
        "as they come",
        "Unique",
        [N],
        {"sorted": 0},
        outputs=4,
        not_onnx="takes rows by the indices of elements",
    ),
    Case("rows", "Unique", [N], {"axis": 0}, outputs=4),
    Case("columns", "Unique", [N], {"axis": -1}, outputs=4, not_onnx="fails on a negative axis"),
    Case("floats", "Unique", [X[~np.isnan(X)]], outputs=4),
    Case("nan", "Unique", [X], outputs=2, not_onnx="has no index of NaN"),
    Case("empty", "Unique", [N[:0, 0]], outputs=4),
    Case("axis", "Unique", [N], {"axis": 2}, fails="axis"),
    Case("elements", "Compress", [N, np.array([1, 0, 1, 1], bool)]),
    Case("rows", "Compress", [N, np.array([0, 1], bool)], {"axis": 0}),
    Case("columns", "Compress", [normal(2, 3, 4), np.array([1, 0, 1], bool)], {"axis": -2}),
    Case("none", "Compress", [N, np.zeros(3, bool)], {"axis": 1}),
    Case("beyond", "Compress", [N, np.ones(4, bool)], {"axis": 0}, fails="at 3 of 3 parts"),
    Case("type", "Compress", [N, ints(1)], {"axis": 0}, fails="Compress"),
]
