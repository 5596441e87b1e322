"""Scatter in its forms, loss, and ops that move elements by rules of their own."""

import numpy as np
from harness import Case, ints, normal, scalar

X = normal(3, 4)
N = np.arange(12, dtype=np.int64).reshape(3, 4)
PLACES = np.array([[0, 2, 1], [2, 0, 0]], np.int64)
FRESH = normal(2, 3, seed=5)
JOINS = ["none", "add", "mul", "max", "min"]
ROWS = np.array([[2], [0]], np.int64)
IMAGE = normal(2, 12, 3, 2)
LOGS, TARGETS = normal(3, 5, 2), np.array([[0, 4], [2, 1], [3, 3]], np.int64)
CACHE, UPDATE = normal(2, 3, 5, 4), normal(2, 3, 2, 4, seed=9)

CASES = [
    *[Case(j, "ScatterElements", [X, PLACES, FRESH], {"reduction": j}) for j in JOINS],
    Case("axis", "ScatterElements", [X, PLACES, FRESH], {"axis": 1}),
    Case("negative", "ScatterElements", [X, -PLACES - 1, FRESH], {"axis": -1}),
    Case("integers", "ScatterElements", [N, PLACES, 9 * N[:2, :3]], {"reduction": "add"}),
    Case("outside", "ScatterElements", [X, PLACES + 1, FRESH], fails=r"index 3 is outside"),
    Case("shape", "ScatterElements", [X, PLACES, FRESH[:1]], fails="ScatterElements: indices"),
    Case(
        "join", "ScatterElements", [X, PLACES, FRESH], {"reduction": "sum"}, fails="expected none"
    ),
    *[Case(j, "ScatterND", [X, ROWS, normal(2, 4, seed=6)], {"reduction": j}) for j in JOINS],
    Case("elements", "ScatterND", [X, PLACES[:, :2], normal(2)]),
    Case("outside", "ScatterND", [X, ROWS + 1, normal(2, 4)], fails="index 3 is outside"),
    Case("shape", "ScatterND", [X, ROWS, normal(2, 3)], fails="ScatterND: updates are"),
    Case("front", "TensorScatter", [CACHE, UPDATE], opset=24),
    Case("start", "TensorScatter", [CACHE, UPDATE, ints(3, 0)], opset=24),
    Case("circular", "TensorScatter", [CACHE, UPDATE, ints(4, 2)], {"mode": "circular"}, opset=24),
    Case("beyond", "TensorScatter", [CACHE, UPDATE, ints(4, 0)], fails="starts at 4"),
    *[
        Case(r, "NegativeLogLikelihoodLoss", [LOGS, TARGETS], {"reduction": r})
        for r in ["none", "sum", "mean"]
    ],
    Case("weights", "NegativeLogLikelihoodLoss", [LOGS, TARGETS, abs(normal(5))]),
    Case("ignored", "NegativeLogLikelihoodLoss", [LOGS, TARGETS], {"ignore_index": 3}),
    Case("outside", "NegativeLogLikelihoodLoss", [LOGS, TARGETS + 1], fails="target 5 is outside"),
    *[Case(m, "DepthToSpace", [IMAGE], {"blocksize": 2, "mode": m}) for m in ["DCR", "CRD"]],
    Case("channels", "DepthToSpace", [IMAGE], {"blocksize": 5}, fails="does not divide by 25"),
    Case("blocks", "SpaceToDepth", [normal(2, 3, 4, 6)], {"blocksize": 2}),
    Case("times", "ReverseSequence", [normal(4, 3, 2), ints(1, 4, 2)]),
    Case("batches", "ReverseSequence", [N, ints(4, 0, 2)], {"batch_axis": 0, "time_axis": 1}),
    Case("length", "ReverseSequence", [N, ints(5, 0, 2, 1)], fails="length 5"),
    Case("above", "EyeLike", [X], {"k": 1}),
    Case("type", "EyeLike", [N], {"k": -1, "dtype": 1}),
    Case("far", "EyeLike", [X], {"k": 2**62}, not_onnx="overflows"),
    Case("products", "CumProd", [X, scalar(1)], opset=26),
    Case("reverse", "CumProd", [N, scalar(0)], {"reverse": 1, "exclusive": 1}, opset=26),
    Case("first", "Hardmax", [np.array([[1, 3, 3], [2, 0, 1]], np.float32)]),
    Case("axis", "Hardmax", [normal(2, 3, 4)], {"axis": 1}),
]
