"""What the encoder and the decoder of WeNet share; opset 13 unless told otherwise.

Shapes: B batch, N hypotheses a sample, T frames, L tokens, D width, H heads, S = D / H.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planck.models._parts import (
    Style,
    kept_sizes,
    layernorm,
    linear,
    reshape,
    size_of,
    sliced,
)
from planck.models._weights import Array, Generated
from planck.models._writer import GraphWriter, WeightType

BEAM = 10
TABLE_ROWS = 5000  # the longest sequence that the position table covers
EPSILON = 1e-5
_OPSET, _FIRST_OPSET = 13, 12  # GreaterOrEqual and LessOrEqual are as old as opset 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Hyper-parameters; `inner` is the width of the feed-forward parts."""

    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int

    @property
    def size(self) -> int:
        """The width of one head."""
        return self.width // self.heads


def writer(name: str, opset: int | None, seed: int, weights: WeightType) -> GraphWriter:
    """A writer whose Unsqueeze takes its axes from a Constant. Errors: ValueError, opset 11."""
    opset = _OPSET if opset is None else opset
    w = GraphWriter(name, opset, Generated(seed), weights, constant_axes=True)
    if opset < _FIRST_OPSET:
        raise ValueError(f"{name} needs opset {_FIRST_OPSET} or later, not {opset}")
    return w


def resize(w: GraphWriter, x: str, *sizes: str | int) -> str:
    """Reshape x to sizes: numbers, or i64 scalars of the graph."""
    return reshape(w, x, *(w.unsqueeze(s, 0) if isinstance(s, str) else s for s in sizes))


# Masks.


def padding(w: GraphWriter, lengths: str, longest: str) -> str:
    """Lengths i32 [B] and an i64 scalar T -> bool [B, T], true beyond the length; 26 nodes."""
    batch = size_of(w, lengths, 0)
    row = w.unsqueeze(arange(w, longest), 0)
    places = expand(w, row, batch, longest)
    lengths = w.node("Cast", w.unsqueeze(lengths, -1), to=7)
    return w.node("GreaterOrEqual", places, lengths)


def valid_row(w: GraphWriter, lengths: str, longest: str) -> str:
    """Lengths i32 [B] and an i64 scalar T -> bool [B, 1, T], true within the length; 29 nodes."""
    return w.node("Not", w.unsqueeze(padding(w, lengths, longest), 1))


def arange(w: GraphWriter, length: str) -> str:
    """0, 1, ... below an i64 scalar."""
    return w.node("Range", w.constant(0, "int64"), length, w.constant(1, "int64"))


def expand(w: GraphWriter, x: str, *sizes: str) -> str:
    """Broadcast x to i64 scalars, guarded against -1; 14 nodes for two sizes."""
    shape = w.node("Concat", *(w.unsqueeze(size, 0) for size in sizes), axis=0)
    shape = w.node("Reshape", shape, w.constant([-1], "int64"))
    return w.node("Expand", x, kept_sizes(w, shape))


def filled(w: GraphWriter, x: str, where: str, value: float) -> str:
    """x with `value` where the bool is true; the Cast to bool changes nothing."""
    chosen = w.node("Cast", where, to=9)
    return w.node("Where", chosen, w.constant(value), x)


# Layers.


def norm(w: GraphWriter, x: str, module: str, config: Config, style: Style) -> str:
    """LayerNorm of [..., D]."""
    return layernorm(w, x, module, config.width, style)


def heads(w: GraphWriter, x: str, batch: str, config: Config) -> str:
    """[B, L, D] -> [B, L, H, S]; batch is B as an i64 scalar."""
    return resize(w, x, batch, -1, config.heads, config.size)


def query_key_value(
    w: GraphWriter, queries: str, keys: str, config: Config
) -> tuple[str, str, str]:
    """Queries [B, Lq, D], keys [B, Lk, D] -> q [B, Lq, H, S], k [B, H, S, Lk], v [B, H, Lk, S].

    The transpose of q is left to the caller. 23 nodes.
    """
    width = config.width
    projected = [
        linear(w, x, f"linear_{name}", width, width)
        for x, name in ((queries, "q"), (keys, "k"), (keys, "v"))
    ]
    batch = size_of(w, queries, 0)
    query, key, value = (heads(w, x, batch, config) for x in projected)
    # The exporter merges the two transposes of K into one.
    key = w.node("Transpose", key, perm=[0, 2, 3, 1])
    return query, key, w.node("Transpose", value, perm=[0, 2, 1, 3])


def attend(w: GraphWriter, scores: str, value: str, mask: str, config: Config) -> str:
    """Scores [B, H, Lq, Lk], values [B, H, Lk, S], bool mask [B, 1 or Lq, Lk] -> [B, Lq, D].

    Softmax of a row without any valid key is NaN, which the second Where turns into 0. 25 nodes.
    """
    scores = w.node("Div", scores, w.constant(math.sqrt(config.size)))
    wide = w.node("Cast", w.unsqueeze(mask, 1), to=7)
    invalid = w.node("Equal", wide, w.constant(0, "int64"))
    probabilities = w.node("Softmax", filled(w, scores, invalid, -math.inf), axis=-1)
    probabilities = filled(w, probabilities, invalid, 0.0)
    context = w.node("MatMul", probabilities, value)
    context = w.node("Transpose", context, perm=[0, 2, 1, 3])
    context = resize(w, context, size_of(w, value, 0), -1, config.width)
    return linear(w, context, "linear_out", config.width, config.width)


def positions(w: GraphWriter, length: str, width: int) -> str:
    """The first rows of the sin/cos table `pe` -> f32 [1, length, width]; length is a scalar."""
    table = w.buffer("pe", position_table(width))
    return sliced(w, table, 1, 0, w.unsqueeze(length, 0))


def position_table(width: int) -> Array:
    """f32 [1, 5000, width]: sine in even, cosine in odd columns, wavelengths up to 2 pi 10000."""
    rates = np.exp(np.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = np.arange(TABLE_ROWS)[:, None] * rates
    table = np.stack([np.sin(angles), np.cos(angles)], axis=2)
    return table.reshape(1, TABLE_ROWS, width).astype(np.float32)


# Feeds.


def uniform(stream: np.random.Generator, *shape: int) -> Array:
    """f32 [shape] in [-1, 1)."""
    values: Array = stream.random(shape, dtype=np.float32) * np.float32(2) - np.float32(1)
    return values


def lengths_below(stream: np.random.Generator, longest: int, batch: int, empty: bool) -> Array:
    """i32 [batch] in [1, longest), at least 1; with `empty` the last one is 0."""
    lengths = stream.integers(1, max(longest, 2), size=batch, dtype=np.int32)
    if empty:
        lengths[-1] = 0
    return lengths
