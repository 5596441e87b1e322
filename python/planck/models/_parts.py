"""Node chains that several models share, spelled as the PyTorch exporter spells them.

Every function appends to a GraphWriter inside the current scope and returns value names. Shapes in
the docstrings: B batch, L length, D hidden, H heads, S = D / H. A size is an i64 scalar.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from planck.models._weights import Kind
from planck.models._writer import GraphWriter

LayerNormSpelling = Literal["exploded", "two_sub", "mul", "op"]
GeluOrder = Literal["half_last", "half_first"]

FLOAT_MIN = -3.4028234663852886e38
INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How the chains of a model are spelled.

    layernorm: "exploded" = 9 nodes and 2 Constants; "two_sub" = the mean subtracted twice and the
    scale as first factor; "mul" = Mul(x, x) for Pow; "op" = LayerNormalization (opset 17).
    gelu: "half_last" = (x * (1 + erf)) * 0.5; "half_first" = (x * 0.5) * (1 + erf).
    """

    layernorm: LayerNormSpelling = "exploded"
    gelu: GeluOrder = "half_last"
    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        for name, choices in (("layernorm", LayerNormSpelling), ("gelu", GeluOrder)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, but must be one of "
                    + ", ".join(map(repr, get_args(choices)))
                )


def linear(
    w: GraphWriter,
    x: str,
    module: str,
    inputs: int,
    outputs: int,
    kind: Kind = "weight",
    has_bias: bool = True,
    bias: Kind = "bias",
) -> str:
    """[..., inputs] -> [..., outputs]: MatMul by the transposed weight, then Add, bias first."""
    with w.scope(module):
        if not has_bias:
            return w.node("MatMul", x, w.transposed("weight", (outputs, inputs), kind))
        return affine(w, x, linear_parameters(w, inputs, outputs, kind, bias))


def linear_parameters(
    w: GraphWriter, inputs: int, outputs: int, kind: Kind = "weight", bias: Kind = "bias"
) -> tuple[str, str]:
    """Weight f32 [inputs, outputs] and bias f32 [outputs] of a Linear that may serve twice."""
    return w.transposed("weight", (outputs, inputs), kind), w.parameter("bias", (outputs,), bias)


def affine(w: GraphWriter, x: str, parameters: tuple[str, str]) -> str:
    """[..., inputs] -> [..., outputs] by the parameters of a Linear."""
    weight, bias = parameters
    return w.node("Add", bias, w.node("MatMul", x, weight))


def gemm(w: GraphWriter, x: str, module: str, inputs: int, outputs: int) -> str:
    """[B, inputs] -> [B, outputs]: on two dimensions a Linear is a Gemm; its weight has a name."""
    with w.scope(module):
        weight = w.parameter("weight", (outputs, inputs), "weight")
        bias = w.parameter("bias", (outputs,), "bias")
        return w.node("Gemm", x, weight, bias, alpha=1.0, beta=1.0, transB=1)


def lookup(w: GraphWriter, module: str, rows: int, width: int, ids: str) -> str:
    """Rows of the table `module` [rows, width] by i64 [...] -> f32 [..., width]."""
    with w.scope(module):
        return w.node("Gather", w.parameter("weight", (rows, width), "weight"), ids)


def layernorm(w: GraphWriter, x: str, module: str, width: int, style: Style) -> str:
    """LayerNorm over the last axis of [..., width], in the spelling of `style`."""
    with w.scope(module):
        return normalized(w, x, norm_parameters(w, width), style)


def norm_parameters(w: GraphWriter, width: int) -> tuple[str, str]:
    """Weight and bias f32 [width] of a LayerNorm that may serve twice."""
    return w.parameter("weight", (width,), "scale"), w.parameter("bias", (width,), "bias")


def normalized(w: GraphWriter, x: str, parameters: tuple[str, str], style: Style) -> str:
    """LayerNorm by given parameters, in the spelling of `style`."""
    weight, bias = parameters
    if style.layernorm == "op":
        if w.opset < 17:
            raise ValueError(f"layernorm='op' needs opset 17 or later, not {w.opset}")
        return w.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=style.epsilon)
    mean = w.reduce("ReduceMean", x, -1)
    centred = w.node("Sub", x, mean)
    if style.layernorm == "mul":
        square = w.node("Mul", centred, centred)
    else:
        square = w.node("Pow", centred, w.constant(2.0))
    variance = w.reduce("ReduceMean", square, -1)
    shifted = w.node("Add", variance, w.constant(style.epsilon))
    if style.layernorm == "two_sub":
        centred = w.node("Sub", x, mean)
    normal = w.node("Div", centred, w.node("Sqrt", shifted))
    two_sub = style.layernorm == "two_sub"
    scaled = w.node("Mul", *((weight, normal) if two_sub else (normal, weight)))
    return w.node("Add", scaled, bias)


def gelu(w: GraphWriter, x: str, style: Style) -> str:
    """GELU by erf: 5 nodes and 3 Constants, in the order of `style`."""
    erf = w.node("Erf", w.node("Div", x, w.constant(math.sqrt(2.0))))
    if style.gelu == "half_first":
        half = w.node("Mul", x, w.constant(0.5))
        return w.node("Mul", half, w.node("Add", erf, w.constant(1.0)))
    product = w.node("Mul", x, w.node("Add", erf, w.constant(1.0)))
    return w.node("Mul", product, w.constant(0.5))


def size_of(w: GraphWriter, x: str, axis: int) -> str:
    """One dimension of x as an i64 scalar: Shape, Constant, Gather."""
    return w.node("Gather", w.node("Shape", x), w.constant(axis, "int64"), axis=0)


def reshape(w: GraphWriter, x: str, *dims: str | int) -> str:
    """Reshape x; a dim is a number (an initializer) or the name of an i64 [1] value."""
    parts = [w.integers("Concat", [dim]) if isinstance(dim, int) else dim for dim in dims]
    return w.node("Reshape", x, w.node("Concat", *parts, axis=0))


def view(w: GraphWriter, x: str, *sizes: int) -> str:
    """Reshape [B, L, ...] to [B, L, *sizes], with B and L read from x at run time."""
    return reshape(w, x, *(w.unsqueeze(size_of(w, x, axis), 0) for axis in (0, 1)), *sizes)


def sliced(w: GraphWriter, x: str, axis: int, start: int, end: str | int, step: int = 1) -> str:
    """x[start:end:step] along `axis`, the bounds as Constants; `end` may be an i64 [1] value."""
    first = w.constant([start], "int64")
    last = w.constant([end], "int64") if isinstance(end, int) else end
    axes, steps = (w.constant([value], "int64") for value in (axis, step))
    return w.node("Slice", x, first, last, axes, steps)


def kept_sizes(w: GraphWriter, shape: str) -> str:
    """A shape i64 [rank] for Expand, each -1 turned into a 1, which keeps the size.

    An exporter writes this where it cannot prove the sizes positive; 5 nodes and a Constant.
    """
    one = np.ones(1, dtype=np.int64)
    ones = w.node("ConstantOfShape", w.node("Shape", shape), value=one)
    minus_ones = w.node("Mul", ones, w.constant(-1, "int64"))
    return w.node("Where", w.node("Equal", shape, minus_ones), ones, shape)


def attention(
    w: GraphWriter,
    queries: str,
    keys: str,
    mask: str,
    heads: int,
    size: int,
    widths: tuple[int, int],
    modules: tuple[str, str, str] = ("query", "key", "value"),
) -> str:
    """Multi-head attention from queries [B, Lq, Dq] to keys [B, Lk, Dk] -> [B, Lq, H * S].

    mask is added to the scores [B, H, Lq, Lk]; widths = (Dq, Dk); modules are the three Linears.
    56 nodes with their Constants.
    """
    inner = heads * size
    query = linear(w, queries, modules[0], widths[0], inner)
    key = view(w, linear(w, keys, modules[1], widths[1], inner), heads, size)
    # The exporter merges the two transposes of K into one.
    key = w.node("Transpose", key, perm=[0, 2, 3, 1])
    value = view(w, linear(w, keys, modules[2], widths[1], inner), heads, size)
    value = w.node("Transpose", value, perm=[0, 2, 1, 3])
    query = w.node("Transpose", view(w, query, heads, size), perm=[0, 2, 1, 3])
    scores = w.node("Div", w.node("MatMul", query, key), w.constant(math.sqrt(size)))
    scores = w.node("Add", scores, mask)
    # Before opset 13 an exporter writes the last axis as a positive number.
    probabilities = w.node("Softmax", scores, axis=3 if w.opset < 13 else -1)
    context = w.node("Transpose", w.node("MatMul", probabilities, value), perm=[0, 2, 1, 3])
    return view(w, context, inner)


def residual_norm(
    w: GraphWriter,
    x: str,
    residual: str,
    inputs: int,
    outputs: int,
    style: Style,
    number: str = "",
) -> str:
    """Linear `dense` [..., inputs] -> [..., outputs], plus the residual, then `LayerNorm`.

    number is appended to both module names.
    """
    x = w.node("Add", linear(w, x, f"dense{number}", inputs, outputs), residual)
    return layernorm(w, x, f"LayerNorm{number}", outputs, style)


def feed_forward(
    w: GraphWriter, x: str, width: int, inner: int, style: Style, prefix: str = ""
) -> str:
    """Linear, GELU, Linear, residual and LayerNorm on [..., width]; 24 nodes when exploded.

    prefix is put before the module names `intermediate` and `output`.
    """
    with w.scope(f"{prefix}intermediate"):
        hidden = linear(w, x, "dense", width, inner)
        with w.scope("intermediate_act_fn"):
            hidden = gelu(w, hidden, style)
    with w.scope(f"{prefix}output"):
        return residual_norm(w, hidden, x, inner, width, style)


def additive_mask(w: GraphWriter, mask: str, lowest: float) -> str:
    """i64 [B, L], 1 = valid -> f32 [B, 1, 1, L]: 0 where valid, `lowest` elsewhere."""
    wide = w.unsqueeze(w.unsqueeze(mask, 1), 2)
    invalid = w.node("Sub", w.constant(1.0), w.node("Cast", wide, to=1))
    return w.node("Mul", invalid, w.constant(lowest))


def encoder_block(
    w: GraphWriter, x: str, mask: str, heads: int, width: int, inner: int, style: Style
) -> str:
    """A post-norm transformer block on [B, L, width]; 94 nodes in the exploded spelling."""
    with w.scope("attention"):
        with w.scope("self"):
            context = attention(w, x, x, mask, heads, width // heads, (width, width))
        with w.scope("output"):
            x = residual_norm(w, context, x, width, width, style)
    return feed_forward(w, x, width, inner, style)
