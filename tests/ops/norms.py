"""LayerNormalization, AddLayerNorm and Embedding."""

import numpy as np
from harness import Case, ints, normal

X = normal(2, 3, 8)
W = normal(8, seed=8)
B = normal(8, seed=9)
TABLE = normal(5, 8)
IDS = np.array([[0, 4, -1], [2, 2, 1]])

CASES = [
    Case("last", "LayerNormalization", [X, W, B]),
    Case("no_bias", "LayerNormalization", [X, W], {"epsilon": 1e-12}),
    Case("two_axes", "LayerNormalization", [X, normal(3, 8), normal(3, 8)], {"axis": 1}),
    Case("all_axes", "LayerNormalization", [X, X, X], {"axis": -3}),
    Case("moments", "LayerNormalization", [X, W, B], outputs=3),
    Case("offset", "LayerNormalization", [X + 100, W, B], not_onnx="float32 cancels"),
    Case("axis", "LayerNormalization", [X, W], {"axis": 3}, fails=r"axis 3 is outside \[-3, 3\)"),
    Case("gain", "LayerNormalization", [X, normal(7)], fails="do not broadcast"),
    Case("wide", "LayerNormalization", [X, normal(2, 2, 3, 8)], fails="does not broadcast"),
    Case("both", "planck.AddLayerNorm", [X, X, W, B], outputs=2),
    Case("no_bias", "planck.AddLayerNorm", [X, X, W], {"epsilon": 1e-12}),
    Case("gain", "planck.AddLayerNorm", [X, X, normal(7)], fails="do not broadcast"),
    Case("one", "planck.Embedding", [TABLE, IDS]),
    Case(
        "normed",
        "planck.Embedding",
        [TABLE, IDS, TABLE, ints(0, 1, 2), W, B],
        {"tables": 2, "norm": 1},
    ),
    Case("too_large", "planck.Embedding", [TABLE, ints(5)], fails=r"index 5 is outside \[-5, 5\)"),
    Case("count", "planck.Embedding", [TABLE, IDS], {"tables": 2}, fails="2 inputs for 2 tables"),
    Case("wraps", "planck.Embedding", [TABLE, IDS], {"tables": 2**63 - 1}, fails="2 inputs for"),
    Case(
        "widths",
        "planck.Embedding",
        [TABLE, IDS, normal(5, 7), IDS],
        {"tables": 2},
        fails="of widths",
    ),
]
