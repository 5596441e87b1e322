"""Convolutions and pools: strides, dilations, padding of every kind, groups, errors."""

from typing import Any

import numpy as np
from harness import Case, normal

X1, X2, X3 = normal(2, 4, 11), normal(2, 4, 9, 7), normal(1, 2, 5, 4, 6)
K1, K2, K3 = normal(6, 4, 3, seed=1), normal(6, 4, 3, 2, seed=2), normal(3, 2, 2, 3, 2, seed=3)
BIAS = normal(6, seed=4)
BYTES = (10 * X2).astype(np.int8)
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "strides": {"strides": [2, 3]},
    "pads": {"pads": [1, 0, 2, 1]},
    "dilations": {"dilations": [2, 3]},
    "all": {"strides": [3, 1], "pads": [2, 1, 0, 1], "dilations": [1, 2]},
    "upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "lower": {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
    "valid": {"auto_pad": "VALID"},
}
POOLS = ["MaxPool", "AveragePool", "LpPool"]
# What onnx.reference cannot judge: it has other ideas of these corners than the standard's text.
UNJUDGED = {
    ("LpPool", "dilations"): "not there",
    ("LpPool", "all"): "not there",
    ("LpPool", "pads"): "pads with something else than zeros",
    ("LpPool", "upper"): "pads elsewhere",
    ("LpPool", "lower"): "pads elsewhere",
    ("MaxPool", "pads"): "takes the maximum of nothing",
    ("MaxPool", "lower"): "pads elsewhere",
}


def pool(op: str, name: str, **more: Any) -> Case:
    kernel = {"kernel_shape": [3, 2]}
    why = UNJUDGED.get((op, name), "")
    return Case(name, op, [X2], kernel | SHAPES[name] | more, not_onnx=why, opset=22)


CASES = [
    *[Case(name, "Conv", [X2, K2], attrs) for name, attrs in SHAPES.items()],
    Case("bias", "Conv", [X2, K2, BIAS]),
    Case("one_axis", "Conv", [X1, K1, BIAS], {"strides": [2], "pads": [1, 2]}),
    Case("three_axes", "Conv", [X3, K3], {"pads": [1, 0, 1, 0, 1, 1]}),
    Case("groups", "Conv", [X2, normal(6, 2, 3, 3)], {"group": 2}),
    Case("depthwise", "Conv", [X2, normal(4, 1, 3, 3)], {"group": 4, "pads": [1, 1, 1, 1]}),
    Case("pointwise", "Conv", [X2, normal(5, 4, 1, 1)]),
    Case("half", "Conv", [X2.astype(np.float16), K2.astype(np.float16)]),
    Case("large", "Conv", [normal(1, 3, 70, 60), normal(2, 3, 3, 3)], {"pads": [1, 1, 1, 1]}),
    Case("channels", "Conv", [X2, normal(6, 3, 3, 3)], fails="does not fit"),
    Case("kernel", "Conv", [X2, K2], {"kernel_shape": [3, 3]}, fails="kernel_shape differs"),
    Case("stride", "Conv", [X2, K2], {"strides": [0, 1]}, fails="0 among kernel"),
    Case("list", "Conv", [X2, K2], {"strides": [1]}, fails="a list of 1 numbers"),
    Case("too_large", "Conv", [X2, normal(1, 4, 30, 2)], fails="negative|-20"),
    Case("auto_pad", "Conv", [X2, K2], {"auto_pad": "SOME"}, fails="auto_pad 'SOME'"),
    *[
        Case(name, "ConvTranspose", [X2, normal(4, 6, 3, 2)], SHAPES[name])
        for name in ["plain", "strides", "pads", "dilations"]
    ],
    Case("bias", "ConvTranspose", [X2, normal(4, 6, 3, 2), BIAS]),
    Case("groups", "ConvTranspose", [X2, normal(4, 3, 3, 3)], {"group": 2}, not_onnx="no groups"),
    Case("more", "ConvTranspose", [X1, normal(4, 2, 3)], {"strides": [3], "output_padding": [1]}),
    Case("few", "ConvTranspose", [normal(2, 9, 3, 37), normal(9, 1, 2, 2)], {"strides": [2, 2]}),
    Case("pairs", "ConvTranspose", [normal(1, 8, 5, 6), normal(8, 2, 2, 2)], {"strides": [2, 2]}),
    Case("line", "ConvTranspose", [normal(2, 5, 19), normal(5, 2, 3)], {"strides": [3]}),
    Case("zero_point", "ConvInteger", [BYTES, BYTES[:, :, :3, :2], np.array(3, np.int8)]),
    *[pool(op, name) for op in POOLS for name in SHAPES],
    Case(
        "padding_counts", "AveragePool", [X2], pool("AveragePool", "all", count_include_pad=1).attrs
    ),
    Case("where", "MaxPool", [X2], {"kernel_shape": [2, 2]}, outputs=2, not_onnx="wrong places"),
    Case("bytes", "MaxPool", [BYTES], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case(
        "unsigned",
        "MaxPool",
        [BYTES.view(np.uint8)],
        {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1]},
        not_onnx="pads with numbers that bytes cannot hold",
    ),
    Case("rank", "MaxPool", [X2], {"kernel_shape": [2]}, fails="a kernel of 1 axes"),
    Case("size", "LRN", [normal(4, 4, 3, 2)], {"size": 3}),
    Case("even", "LRN", [normal(4, 4, 3, 2)], {"size": 2, "alpha": 0.1, "beta": 0.5, "bias": 2.0}),
    Case("no_size", "LRN", [X2], fails="size is 0"),
]
