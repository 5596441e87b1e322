"""What tracing makes of tensor code: slices, sizes as tensors, padding, assignment to a slice.

Goals: the chains of a PyTorch exporter at opset 11 and later, node by node, for code that handles
shapes in Python. Non-goals: short graphs; whatever depends on shapes alone is left to fold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planck.models._parts import kept_sizes, size_of
from planck.models._writer import GraphWriter

END = 2**63 - 1  # where x[2:] ends
FLOAT, INT64, BOOL = 1, 7, 9  # element types as Cast names them


def dims(w: GraphWriter, *sizes: str | int) -> str:
    """i64 [len(sizes)] out of i64 scalars and numbers: an Unsqueeze for each scalar, Concat."""
    parts = [
        w.integers("Concat", [size]) if isinstance(size, int) else w.unsqueeze(size, 0)
        for size in sizes
    ]
    return w.node("Concat", *parts, axis=0)


def reshape(w: GraphWriter, x: str, *sizes: str | int) -> str:
    """x.view(*sizes); a size is an i64 scalar or a number."""
    return w.node("Reshape", x, dims(w, *sizes))


def pick(w: GraphWriter, x: str, axis: int, index: int) -> str:
    """x[..., index] on `axis`, which goes away: Constant, Gather."""
    return w.node("Gather", x, w.constant(index, "int64"), axis=axis)


def cut(w: GraphWriter, x: str, axis: int, start: int, end: int = END, step: int = 1) -> str:
    """x[start:end:step] on `axis`: four Constants, Slice."""
    bounds = [w.constant([value], "int64") for value in (start, end, axis, step)]
    return w.node("Slice", x, *bounds)


def flatten(w: GraphWriter, x: str, start: int) -> str:
    """x.flatten(start): Shape, Slice, Concat with -1, Reshape."""
    front = cut(w, w.node("Shape", x), 0, 0, start)
    return w.node("Reshape", x, w.node("Concat", front, w.integers("Concat", [-1]), axis=0))


def stack(w: GraphWriter, parts: Sequence[str]) -> str:
    """torch.stack on axis 0: an Unsqueeze each, Concat."""
    return w.node("Concat", *(w.unsqueeze(part, 0) for part in parts), axis=0)


def repeat(w: GraphWriter, x: str, *counts: str | int) -> str:
    """x.repeat(*counts): Expand by ones to the rank of the counts, then Tile."""
    repeats = dims(w, *counts)
    one = np.ones(1, dtype=np.int64)
    ones = w.node("ConstantOfShape", w.node("Shape", repeats), value=one)
    return w.node("Tile", w.node("Expand", x, ones), repeats)


def pad(w: GraphWriter, x: str, amounts: Sequence[str], value: str) -> str:
    """Append amounts[i] (i64 scalars) copies of `value` at the end of axis i of x.

    The amounts come as (begin, end) pairs from the last axis on, are filled up with zeros, here
    none, and are turned into ONNX's order by way of a matrix.
    """
    pairs = []
    for amount in reversed(amounts):
        pairs += [w.constant([0], "int64"), w.unsqueeze(amount, 0)]
    given = w.node("Concat", *pairs, axis=0)
    length = w.node("Gather", w.node("Shape", given), w.constant([0], "int64"), axis=0)
    rank = w.constant(len(amounts), "int64")
    missing = w.node("Sub", w.node("Mul", rank, w.constant(2, "int64")), length)
    zeros = w.node("ConstantOfShape", missing, value=np.zeros(1, dtype=np.int64))
    flat = w.node("Concat", w.node("Cast", given, to=INT64), zeros, axis=0)
    matrix = w.node("Reshape", flat, w.constant([-1, 2], "int64"))
    flipped = cut(w, matrix, 0, -1, -END, -1)
    turned = w.node("Transpose", flipped, perm=[1, 0])
    pads = w.node("Reshape", turned, w.constant([-1], "int64"))
    return w.node("Pad", x, w.node("Cast", pads, to=INT64), value, mode="constant")


def assign(w: GraphWriter, x: str, rank: int, start: int, end: int, values: str) -> str:
    """x[..., start:end] = values, for x of `rank` dimensions: an index for each element, ScatterND.

    values has the shape of the slice.
    """
    last = rank - 1
    grids = []
    for axis in range(rank):
        places = w.node(
            "Range", w.constant(0, "int64"), size_of(w, x, axis), w.constant(1, "int64")
        )
        if axis == last:
            places = cut(w, places, 0, start, end)
        shape = [-1 if other == axis else 1 for other in range(rank)]
        grids.append(w.node("Reshape", places, w.constant(shape, "int64")))
    total = grids[0]
    for grid in grids[1:]:
        total = w.node("Add", total, grid)
    shape_of_indices = w.node("Shape", total)
    columns = [
        w.unsqueeze(w.node("Expand", grid, kept_sizes(w, shape_of_indices)), rank) for grid in grids
    ]
    indices = w.node("Concat", *columns, axis=rank)
    # No axis is left unindexed, so the rest of the shape is empty.
    rest = cut(w, w.node("Shape", x), 0, rank)
    updates = w.node("Reshape", values, w.node("Concat", shape_of_indices, rest, axis=0))
    return w.node("ScatterND", x, indices, updates)
