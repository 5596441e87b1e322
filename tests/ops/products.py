"""MatMul, Gemm, and our Linear and Attention: tails, vectors, batches, errors."""

import numpy as np
from harness import Case, normal, scalar

A = normal(3, 5)
B = normal(5, 4, seed=8)
N = np.arange(6, dtype=np.int32).reshape(2, 3)
INNER = "differ in the summed extent"
Q = normal(2, 3, 8)
ACTIVATIONS = ["", "relu", "gelu", "gelu_tanh", "tanh", "sigmoid"]

CASES = [
    Case("matrix", "MatMul", [A, B]),
    Case("vector_left", "MatMul", [normal(5), B]),
    Case("vector_right", "MatMul", [A, normal(5)]),
    Case("vectors", "MatMul", [normal(5), normal(5)]),
    Case("batch", "MatMul", [normal(2, 1, 3, 5), normal(6, 5, 4)]),
    Case("blocks", "MatMul", [normal(70, 257), normal(257, 65)]),
    Case("nothing_summed", "MatMul", [normal(2, 0), normal(0, 3)]),
    Case("empty", "MatMul", [normal(0, 2), normal(2, 3)]),
    Case("integers", "MatMul", [N, N.T.copy()]),
    Case("inner", "MatMul", [A, A], fails=INNER),
    Case("scalar", "MatMul", [A, scalar(1, np.float32)], fails="an input is a scalar"),
    Case("batches", "MatMul", [normal(2, 3, 5), normal(3, 5, 4)], fails="do not broadcast"),
    Case("plain", "Gemm", [A, B]),
    Case("bias", "Gemm", [A, B, normal(4)], {"alpha": 0.5, "beta": 2.0}),
    Case("column", "Gemm", [A, B, normal(3, 1)]),
    Case("transposed", "Gemm", [A.T.copy(), B.T.copy(), normal(3, 4)], {"transA": 1, "transB": 1}),
    Case("scalar_bias", "Gemm", [A, B, scalar(3, np.float32)]),
    Case("inner", "Gemm", [A, B], {"transB": 1}, fails=INNER),
    Case("rank", "Gemm", [normal(2, 3, 5), B], fails="expected rank 2"),
    Case("wide_bias", "Gemm", [normal(1, 5), B, normal(3, 4)], fails="does not broadcast"),
    *[
        Case(
            f"act_{a or 'none'}",
            "planck.Linear",
            [A, B, normal(4), normal(3, 4)],
            {"activation": a},
        )
        for a in ACTIVATIONS
    ],
    Case("no_bias", "planck.Linear", [Q, normal(8, 3), None, normal(2, 3, 3)]),
    Case("inner", "planck.Linear", [A, A], fails=INNER),
    Case("unknown", "planck.Linear", [A, B], {"activation": "cube"}, fails="is no activation"),
    Case("wide_bias", "planck.Linear", [A, B, normal(2, 3, 4)], fails="does not broadcast"),
    Case("merged", "planck.Attention", [Q, Q, Q, normal(2, 1, 1, 3)], {"heads": 2, "scale": 0.5}),
    Case("apart", "planck.Attention", [Q[:, None], Q, Q], {"merged": 0}),
    Case("heads", "planck.Attention", [Q, Q, Q], {"heads": 3}, fails="does not divide by 3 heads"),
    Case("no_heads", "planck.Attention", [Q, Q, Q], {"heads": 0}, fails="expected 1 or more"),
    Case("lengths", "planck.Attention", [Q, Q, normal(2, 4, 8)], fails="lengths of k and v"),
    Case("mask", "planck.Attention", [Q, Q, Q, normal(4, 3)], fails="do not broadcast"),
]
