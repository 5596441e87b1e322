"""Ops that move elements and compute nothing: indices, ranges and axes that must be refused."""

import numpy as np
from harness import Case, ints, normal, scalar

X = normal(3, 4, 5)
V = normal(6)
N = np.arange(12, dtype=np.int64).reshape(3, 4)
END = 2**63 - 1
RANGE = r"index 3 is outside \[-3, 3\)"

SLICES = {
    "positive": (ints(1, 0), ints(3, 2), ints(0, 1), None),
    "negative": (ints(-3), ints(-1), ints(-1), None),
    "clamped": (ints(-100, 1), ints(100, END), ints(0, 2), None),
    "steps": (ints(0), ints(END), ints(2), ints(2)),
    "backwards": (ints(-1), ints(-END), ints(1), ints(-1)),
    "backwards_steps": (ints(4), ints(0), ints(2), ints(-3)),
    "nothing": (ints(3), ints(1), ints(1), None),
    "without_axes": (ints(1, 1), ints(2, 3), None, None),
    "int32": (np.array([1], np.int32), np.array([2], np.int32), np.array([0], np.int32), None),
}

GATHER = [
    Case("rows", "Gather", [X, ints(2, 0, -1)]),
    Case("matrix", "Gather", [X, np.array([[0, -1], [4, 2]])], {"axis": 2}),
    Case("scalar", "Gather", [X, scalar(1)], {"axis": 1}),
    Case("none", "Gather", [X, np.zeros((0, 2), np.int64)]),
    Case("int32", "Gather", [X, np.array([1], np.int32)], {"axis": -1}),
    Case("too_large", "Gather", [X, ints(3)], fails=RANGE),
    Case("too_small", "Gather", [X, ints(-4)], fails=r"index -4 is outside \[-3, 3\)"),
    Case("extreme", "Gather", [X, ints(-(2**63))], fails="is outside"),
    Case("bad_axis", "Gather", [X, ints(0)], {"axis": 3}, fails=r"axis 3 is outside \[-3, 3\)"),
    Case("float_index", "Gather", [X, normal(1)], fails="expected s32 or s64"),
    Case("last", "GatherElements", [X, np.zeros((3, 4, 2), np.int64)], {"axis": 2}),
    Case("mixed", "GatherElements", [N, np.array([[0, -1, 2, 1], [2, 0, 0, -3]])]),
    Case("too_large", "GatherElements", [N, np.full((1, 4), 3)], fails=RANGE),
    Case("rank", "GatherElements", [N, ints(0)], fails="expected rank 2"),
    Case("points", "GatherND", [X, np.array([[0, 1, 2], [2, 3, -1]])]),
    Case("slices", "GatherND", [X, np.array([[[0, 1]], [[2, -1]]])]),
    Case("batch", "GatherND", [X, np.array([[1], [0], [3]])], {"batch_dims": 1}),
    Case("too_large", "GatherND", [X, np.array([[3]])], fails=RANGE),
    Case("too_wide", "GatherND", [X, np.array([[0, 0, 0, 0]])], fails="expected 1 to 3"),
    Case("bad_batch", "GatherND", [X, np.array([[0]])], {"batch_dims": 2}, fails="batch_dims 2"),
]

SHAPES = [
    Case("all", "Shape", [X]),
    Case("part", "Shape", [X], {"start": 1, "end": -1}),
    Case("clamped", "Shape", [X], {"start": -9, "end": 9}),
    Case("nothing", "Shape", [X], {"start": 2, "end": 1}),
    Case("count", "Size", [X]),
    Case("plain", "Reshape", [X, ints(6, 10)]),
    Case("open", "Reshape", [X, ints(0, -1, 2)]),
    Case("scalar", "Reshape", [normal(1, 1), ints()]),
    Case("zero", "Reshape", [normal(0, 3), ints(3, 0)], {"allowzero": 1}),
    Case("two_open", "Reshape", [X, ints(-1, -1)], fails="two -1"),
    Case("count", "Reshape", [X, ints(7, 9)], fails="no view"),
    Case("indivisible", "Reshape", [X, ints(7, -1)], fails="do not divide by 7"),
    Case("negative", "Reshape", [X, ints(-2, 30)], fails="-2 is no extent"),
    Case("beyond", "Reshape", [X, ints(60, 1, 1, 0)], fails="copies an extent"),
    Case("overflow", "Reshape", [X, ints(2**62, 4)], fails="64 bits|no view"),
    *[Case(f"axis{a}", "Flatten", [X], {"axis": a}) for a in [0, 1, 3, -1]],
    Case("bad_axis", "Flatten", [X], {"axis": 4}, fails=r"axis 4 is outside \[-3, 3\)"),
    Case("axes", "Squeeze", [normal(1, 3, 1), ints(-1, 0)]),
    Case("all", "Squeeze", [normal(1, 3, 1)]),
    Case("not_one", "Squeeze", [X, ints(1)], fails="axis 1 has extent 4"),
    Case("axes", "Unsqueeze", [X, ints(0, -1)]),
    Case("twice", "Unsqueeze", [X, ints(0, -5)], fails="axis 0 is given twice"),
    Case("beyond", "Unsqueeze", [X, ints(4)], fails=r"axis 4 is outside \[-4, 4\)"),
    Case("reversed", "Transpose", [X]),
    Case("perm", "Transpose", [X], {"perm": [1, 0, 2]}),
    Case("bad_perm", "Transpose", [X], {"perm": [0, 1, 1]}, fails="no permutation of 3 axes"),
    Case("short_perm", "Transpose", [X], {"perm": [0, 1]}, fails="no permutation of 3 axes"),
    Case("far_perm", "Transpose", [X], {"perm": [0, 1, -1]}, fails="no permutation of 3 axes"),
]

PARTS = [
    Case("first", "Concat", [N, N[:1]], {"axis": 0}),
    Case("last", "Concat", [X, normal(3, 4, 2), normal(3, 4, 0)], {"axis": -1}),
    Case("one", "Concat", [X], {"axis": 1}),
    Case("extents", "Concat", [X, normal(2, 4, 5)], {"axis": 1}, fails="differ on axis 0"),
    Case("ranks", "Concat", [X, V], {"axis": 0}, fails="expected rank 3"),
    Case("types", "Concat", [X, N[..., None]], {"axis": 0}, fails="expected f32"),
    Case("lengths", "Split", [X, ints(1, 3)], {"axis": 1}, outputs=2),
    Case("even", "Split", [V], {"num_outputs": 3}, outputs=3),
    Case("uneven", "Split", [X], {"axis": 2, "num_outputs": 2}, outputs=2),
    Case("by_outputs", "Split", [V], outputs=2, not_onnx="since opset 18 num_outputs is due"),
    Case("sum", "Split", [V, ints(2, 3)], outputs=2, fails="add up to 5, expected 6"),
    Case("negative", "Split", [V, ints(7, -1)], outputs=2, fails="is negative"),
    Case("count", "Split", [V], {"num_outputs": 3}, outputs=2, fails="num_outputs is 3"),
    *[Case(name, "Slice", [X, *given]) for name, given in SLICES.items()],
    Case("step_zero", "Slice", [X, ints(0), ints(1), ints(0), ints(0)], fails="a step is 0"),
    Case("lengths", "Slice", [X, ints(0), ints(1, 2)], fails="differ in length"),
    Case("twice", "Slice", [X, ints(0, 0), ints(1, 1), ints(0, -3)], fails="given twice"),
    Case(
        "tiny_step", "Slice", [V, ints(4), ints(-END), ints(0), ints(-(2**63))], not_onnx="overflow"
    ),
    Case("extend", "Expand", [normal(3, 1), ints(2, 1, 4)]),
    Case("keeps", "Expand", [normal(3, 4), ints(1, 1)]),
    Case("empty", "Expand", [normal(3, 1), ints(3, 0)]),
    Case("misfit", "Expand", [normal(3), ints(2)], fails="do not broadcast"),
    Case("negative", "Expand", [normal(3), ints(-1)], fails="-1 is no extent"),
    Case("huge", "Expand", [normal(1), ints(2**40)], fails="max_tensor_bytes"),
    Case("each", "Tile", [N, ints(2, 3)]),
    Case("none", "Tile", [N, ints(0, 3)]),
    Case("count", "Tile", [N, ints(2)], fails="1 repeats for"),
    Case("negative", "Tile", [N, ints(-1, 1)], fails="-1 is no extent"),
    Case("huge", "Tile", [N, ints(2**50, 1)], fails="max_tensor_bytes"),
    Case("overflow", "Tile", [N, ints(2**62, 2**62)], fails="max_tensor_bytes|64 bits"),
    Case("constant", "Pad", [X, ints(0, 1, 2, 1, 0, 1), scalar(1.5, np.float32)]),
    Case("zero", "Pad", [X, ints(0, 1, 2, 1, 0, 1)]),
    Case("axes", "Pad", [X, ints(1, 2), None, ints(-1)]),
    *[
        Case(mode, "Pad", [X, ints(1, 1, 2, 2, 0, 1)], {"mode": mode})
        for mode in ["edge", "reflect"]
    ],
    Case("wrap", "Pad", [X, ints(1, 1, 2, 2, 0, 1)], {"mode": "wrap"}),
    Case("crop", "Pad", [X, ints(-1, 0, 1, 0, -2, -1)], not_onnx="NumPy cannot pad by less than 0"),
    Case("too_much", "Pad", [V, ints(-4, -4)], fails="negative extent|extent -2"),
    Case("count", "Pad", [X, ints(1, 1)], fails="2 pads for 3 axes"),
    Case("mode", "Pad", [V, ints(1, 1)], {"mode": "mirror"}, fails="mode 'mirror'"),
    Case("huge", "Pad", [V, ints(2**40, 0)], fails="max_tensor_bytes"),
]

MADE = [
    Case("default", "ConstantOfShape", [ints(2, 3)]),
    Case("ones", "ConstantOfShape", [ints(2, 0)], {"value": 1.0, "dtype": 7}),
    Case("scalar", "ConstantOfShape", [ints()], {"value": -1.5}),
    Case("bools", "ConstantOfShape", [ints(3)], {"value": 1.0, "dtype": 9}),
    Case("negative", "ConstantOfShape", [ints(2, -3)], fails="negative extent"),
    Case("huge", "ConstantOfShape", [ints(2**31, 2**31)], fails="max_tensor_bytes"),
    Case("overflow", "ConstantOfShape", [ints(2**62, 2**62)], fails="max_tensor_bytes|64 bits"),
    Case("up", "Range", [scalar(1), scalar(10), scalar(3)]),
    Case("down", "Range", [scalar(10), scalar(1), scalar(-4)]),
    Case("nothing", "Range", [scalar(3), scalar(1), scalar(1)]),
    Case("floats", "Range", [scalar(v, np.float32) for v in [0.5, 3, 0.7]]),
    Case("zero", "Range", [scalar(1), scalar(3), scalar(0)], fails="step is 0"),
    Case("endless", "Range", [scalar(0), scalar(END), scalar(1)], fails="max_tensor_bytes"),
    Case("nan", "Range", [scalar(v, np.float32) for v in [0, np.nan, 1]], fails="has no length"),
    Case("last", "TopK", [X, ints(2)], outputs=2),
    Case("smallest", "TopK", [X, ints(3)], {"axis": 1, "largest": 0}, outputs=2),
    Case("all", "TopK", [N, ints(4)], outputs=2),
    Case("none", "TopK", [X, ints(0)], outputs=2),
    Case("ties", "TopK", [np.array([1, 3, 3, 1, 3], np.float32), ints(4)], outputs=2),
    Case("too_many", "TopK", [X, ints(6)], outputs=2, fails="has fewer elements"),
    Case("negative", "TopK", [X, ints(-1)], outputs=2, fails="negative extent|outside"),
    Case("matrix", "NonZero", [np.array([[0, 1], [2, 0]], np.float32)]),
    Case("bools", "NonZero", [N > 5]),
    Case("nothing", "NonZero", [np.zeros((2, 3), np.float32)]),
    Case("last", "OneHot", [ints(0, 2, -1, 7), scalar(3), np.array([0, 1], np.float32)]),
    Case("first", "OneHot", [N[:2] % 3, scalar(3), ints(5, 9)], {"axis": 0}),
    Case("depth", "OneHot", [ints(0), scalar(-3), ints(0, 1)], fails="negative"),
    *[Case(f"upper{k}", "Trilu", [X, scalar(k)]) for k in [0, 1, -2]],
    *[Case(f"lower{k}", "Trilu", [X, scalar(k)], {"upper": 0}) for k in [0, 2, -1]],
    Case("far", "Trilu", [N, scalar(END)], not_onnx="it converts k to 32 bits"),
    Case("vector", "Trilu", [V], fails="expected rank 2 or more"),
]

CASES = [*GATHER, *SHAPES, *PARTS, *MADE]
