"""BERT: the encoder with its pooler, a classifier, and a chain of blocks for compile-time tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planck.models._parts import (
    FLOAT_MIN,
    LayerNormSpelling,
    Style,
    additive_mask,
    encoder_block,
    gemm,
    layernorm,
    linear,
    lookup,
    size_of,
    sliced,
)
from planck.models._weights import Array, Generated
from planck.models._writer import GraphWriter, WeightType

POSITIONS = 512
CLS, SEP = 101, 102
_DUMMY_LENGTH = 16  # the length an exporter records where it was not told that the axis varies


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Hyper-parameters of a BERT encoder; `inner` is the width of the feed-forward part."""

    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    positions: int = POSITIONS


CONFIGS = {
    "full": Config(layers=12, width=768, heads=12, inner=3072, vocabulary=21128),
    "mini": Config(layers=2, width=64, heads=4, inner=256, vocabulary=512),
}


def encoder(
    size: str,
    seed: int,
    opset: int | None,
    *,
    layernorm: LayerNormSpelling = "exploded",
    weights: WeightType = "fp32",
) -> GraphWriter:
    """BERT base as an encoder, opset 12 unless told otherwise.

    Inputs input_ids, attention_mask, token_type_ids i64 [B, L]; outputs last_hidden_state
    f32 [B, L, D] and pooler_output f32 [B, D]. The declared shape of last_hidden_state is wrong on
    purpose: as in the published export only its first axis is dynamic.
    """
    config = CONFIGS[size]
    w = GraphWriter("bert_encoder", 12 if opset is None else opset, Generated(seed), weights)
    inputs = token_inputs(w)
    hidden = trunk(w, inputs, config, Style(layernorm=layernorm), FLOAT_MIN)
    pooled = _pooler(w, hidden, config.width)
    dims = ("batch_size", _DUMMY_LENGTH, config.width)
    w.output(hidden, "last_hidden_state", "float32", dims)
    w.output(pooled, "pooler_output", "float32", ("batch_size", config.width))
    return w


def classifier(
    size: str,
    seed: int,
    opset: int | None,
    *,
    labels: int = 3,
    layernorm: LayerNormSpelling = "exploded",
    weights: WeightType = "fp16",
) -> GraphWriter:
    """BERT base as a classifier of sequences, opset 12 unless told otherwise.

    Inputs input_ids, attention_mask, token_type_ids i64 [B, L]; output logits f32 [B, labels].
    Weights are stored in half precision and cast to f32 unless told otherwise.
    """
    if labels < 1:
        raise ValueError(f"labels is {labels}, but must be at least 1")
    config = CONFIGS[size]
    w = GraphWriter("bert_classifier", 12 if opset is None else opset, Generated(seed), weights)
    inputs = token_inputs(w)
    with w.scope("bert"):
        hidden = trunk(w, inputs, config, Style(layernorm=layernorm), FLOAT_MIN)
        pooled = _pooler(w, hidden, config.width)
    logits = gemm(w, pooled, "classifier", config.width, labels)
    w.output(logits, "logits", "float32", ("batch_size", labels))
    return w


def _pooler(w: GraphWriter, hidden: str, width: int) -> str:
    """The first token of f32 [B, L, D] through a Linear and Tanh -> f32 [B, D]."""
    with w.scope("pooler"):
        first = w.node("Gather", hidden, w.constant(0, "int64"), axis=1)
        pooled = gemm(w, first, "dense", width, width)
        with w.scope("activation"):
            return w.node("Tanh", pooled)


def block_chain(blocks: int, width: int, heads: int, seed: int) -> GraphWriter:
    """A narrow encoder of `blocks` blocks with a Linear head, opset 11.

    Inputs as for the encoder, output logit f32 [B, L, 1].
    """
    if blocks < 1 or heads < 1 or width < 1 or width % heads:
        raise ValueError(
            f"blocks is {blocks}, width {width}, heads {heads}, but all must be positive "
            "and width a multiple of heads"
        )
    config = Config(
        layers=blocks,
        width=width,
        heads=heads,
        inner=4 * width,
        vocabulary=CONFIGS["mini"].vocabulary,
    )
    w = GraphWriter("blocks", 11, Generated(seed))
    style = Style(gelu="half_first", epsilon=1e-5)
    hidden = trunk(w, token_inputs(w), config, style, lowest=-10000.0)
    logit = linear(w, hidden, "head", width, 1)
    w.output(logit, "logit", "float32", ("batch_size", "length", 1))
    return w


def token_inputs(w: GraphWriter) -> tuple[str, str, str]:
    """Declare input_ids, attention_mask, token_type_ids i64 [B, L], in this order."""
    dims = ("batch_size", "length")
    ids, mask, types = (
        w.input(name, "int64", dims) for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    return ids, mask, types


def trunk(
    w: GraphWriter, inputs: tuple[str, str, str], config: Config, style: Style, lowest: float
) -> str:
    """Embeddings and blocks: (ids, mask, types) i64 [B, L] -> f32 [B, L, D].

    lowest is what the mask adds to the scores of invalid positions.
    """
    ids, mask, types = inputs
    added = additive_mask(w, mask, lowest)
    with w.scope("embeddings"):
        x = _embeddings(w, ids, types, config, style)
    for layer in range(config.layers):
        with w.scope("encoder", f"layer.{layer}"):
            x = encoder_block(w, x, added, config.heads, config.width, config.inner, style)
    return x


def _embeddings(w: GraphWriter, ids: str, types: str, config: Config, style: Style) -> str:
    positions = np.arange(config.positions, dtype=np.int64)[None]
    length = w.unsqueeze(size_of(w, ids, 1), 0)
    position_ids = sliced(w, w.buffer("position_ids", positions), 1, 0, length)
    words = lookup(w, "word_embeddings", config.vocabulary, config.width, ids)
    segments = lookup(w, "token_type_embeddings", 2, config.width, types)
    x = w.node("Add", words, segments)
    places = lookup(w, "position_embeddings", config.positions, config.width, position_ids)
    return layernorm(w, w.node("Add", x, places), "LayerNorm", config.width, style)


def feeds(
    shape: tuple[int, ...],
    seed: int,
    vocabulary: int,
    masked_row: bool = False,
    shortest: int = 1,
) -> dict[str, Array]:
    """Token feeds i64 [B, L]: [CLS] ... [SEP], then padding by 0 under an empty mask.

    Row 0 is full, the others have a random length in [shortest, L]. About half of the rows have
    segment 1 in the second half of their valid tokens. With `masked_row` the last row is all
    padding.
    """
    batch, length = _checked(shape)
    stream = np.random.Generator(np.random.PCG64(seed))
    valid = stream.integers(shortest, length, size=batch, endpoint=True)
    valid[0] = length
    two_segments = stream.random(batch) < 0.5
    ids = stream.integers(0, vocabulary, size=(batch, length), dtype=np.int64)
    ids[np.arange(batch), valid - 1] = SEP
    ids[:, 0] = CLS  # after [SEP]: a row of one token is [CLS] alone
    if masked_row:
        valid[-1] = 0
    place = np.arange(length)[None]
    mask = place < valid[:, None]
    second = mask & (place >= (valid[:, None] + 1) // 2) & two_segments[:, None]
    return {
        "input_ids": np.where(mask, ids, 0),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": second.astype(np.int64),
    }


def _checked(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2 or shape[0] < 1 or not 1 <= shape[1] <= POSITIONS:
        raise ValueError(
            f"shape is {shape}, but must be (batch, length) with batch >= 1 and "
            f"1 <= length <= {POSITIONS}"
        )
    return shape[0], shape[1]
