"""ViLBERT: a text and a vision stream joined by co-attention, with a score for every region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planck.models import bert
from planck.models._parts import (
    LayerNormSpelling,
    Style,
    additive_mask,
    attention,
    encoder_block,
    feed_forward,
    layernorm,
    linear,
    lookup,
    residual_norm,
    size_of,
)
from planck.models._weights import Array, Generated
from planck.models._writer import GraphWriter, WeightType

Arange = Literal["range", "nonzero"]

TOKENS, REGIONS = 20, 100
FEATURES, BOX = 2048, 5
_FEWEST_REGIONS = 10
_SHORTEST_TEXT = 2  # [CLS] [SEP]
_LOWEST = -10000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Hyper-parameters of one stream; `inner` is the width of the feed-forward part."""

    layers: int
    width: int
    heads: int
    inner: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Hyper-parameters; the last `connections` layers of both streams follow a connection each."""

    text: Stream
    vision: Stream
    connections: int
    bi_width: int
    bi_heads: int
    vocabulary: int
    positions: int = bert.POSITIONS


CONFIGS = {
    "full": Config(
        text=Stream(layers=12, width=768, heads=12, inner=3072),
        vision=Stream(layers=6, width=1024, heads=8, inner=1024),
        connections=6,
        bi_width=1024,
        bi_heads=8,
        vocabulary=30522,
    ),
    "mini": Config(
        text=Stream(layers=2, width=64, heads=4, inner=256),
        vision=Stream(layers=2, width=64, heads=2, inner=64),
        connections=2,
        bi_width=64,
        bi_heads=2,
        vocabulary=512,
    ),
}


def grounding(
    size: str,
    seed: int,
    opset: int | None,
    *,
    arange: Arange = "range",
    layernorm: LayerNormSpelling = "exploded",
    weights: WeightType = "fp32",
) -> GraphWriter:
    """ViLBERT with its grounding head, opset 11 unless told otherwise.

    Inputs question i64 [B, 20], features f32 [B, 100, 2048], spatials f32 [B, 100, 5],
    segment_ids i64 [B, 20], input_mask i64 [B, 20], image_mask i64 [B, 100]; output vision_logit
    f32 [B, 100, 1]. arange: Range, or ConstantOfShape and NonZero as exporters wrote it before
    opset 11. LayerNorm has epsilon 1e-5, written by hand ("two_sub") 1e-12.
    """
    if arange not in ("range", "nonzero"):
        raise ValueError(f"arange is {arange!r}, but must be 'range' or 'nonzero'")
    config = CONFIGS[size]
    style = Style(
        layernorm=layernorm,
        gelu="half_first",
        epsilon=1e-12 if layernorm == "two_sub" else 1e-5,
    )
    w = GraphWriter("vilbert", 11 if opset is None else opset, Generated(seed), weights)
    question = w.input("question", "int64", ("batch_size", TOKENS))
    features = w.input("features", "float32", ("batch_size", REGIONS, FEATURES))
    spatials = w.input("spatials", "float32", ("batch_size", REGIONS, BOX))
    segments = w.input("segment_ids", "int64", ("batch_size", TOKENS))
    text_mask = w.input("input_mask", "int64", ("batch_size", TOKENS))
    image_mask = w.input("image_mask", "int64", ("batch_size", REGIONS))
    with w.scope("bert"):
        masks = additive_mask(w, text_mask, _LOWEST), additive_mask(w, image_mask, _LOWEST)
        with w.scope("embeddings"):
            text = _text_embeddings(w, question, segments, config, style, arange)
        with w.scope("v_embeddings"):
            vision = _region_embeddings(w, features, spatials, config.vision.width, style)
        with w.scope("encoder"):
            vision = _streams(w, (text, vision), masks, config, style)
    logit = _head(w, vision, image_mask, config.vision.width)
    w.output(logit, "vision_logit", "float32", ("batch_size", REGIONS, 1))
    return w


def _head(w: GraphWriter, vision: str, image_mask: str, width: int) -> str:
    """Regions f32 [B, 100, width] and their mask i64 [B, 100] -> f32 [B, 100, 1]."""
    logit = linear(w, vision, "vil_logit", width, 1)
    valid = w.node("Cast", image_mask, to=1)
    lowered = w.node("Mul", w.node("Sub", w.constant(1.0), valid), w.constant(_LOWEST))
    # The second Cast changes nothing: the original converts to the type of the parameters.
    return w.node("Add", logit, w.node("Cast", w.unsqueeze(lowered, 2), to=1))


def _text_embeddings(
    w: GraphWriter, ids: str, segments: str, config: Config, style: Style, arange: Arange
) -> str:
    """ids and segments i64 [B, 20] -> f32 [B, 20, D]."""
    width = config.text.width
    places = w.unsqueeze(_arange(w, size_of(w, ids, 1), arange), 0)
    places = w.node("Expand", places, w.node("Shape", ids))
    words = lookup(w, "word_embeddings", config.vocabulary, width, ids)
    positions = lookup(w, "position_embeddings", config.positions, width, places)
    types = lookup(w, "token_type_embeddings", 2, width, segments)
    x = w.node("Add", w.node("Add", words, positions), types)
    return layernorm(w, x, "LayerNorm", width, style)


def _arange(w: GraphWriter, length: str, form: Arange) -> str:
    """0, 1, ... below the i64 scalar `length`, as i64 [length]."""
    if form == "range":
        return w.node("Range", w.constant(0, "int64"), length, w.constant(1, "int64"))
    one = np.ones(1, dtype=np.int64)
    ones = w.node("ConstantOfShape", w.unsqueeze(length, 0), value=one)
    return w.squeeze(w.node("Transpose", w.node("NonZero", ones), perm=[1, 0]), 1)


def _region_embeddings(
    w: GraphWriter, features: str, spatials: str, width: int, style: Style
) -> str:
    """Features f32 [B, 100, 2048] and boxes f32 [B, 100, 5] -> f32 [B, 100, width]."""
    image = linear(w, features, "image_embeddings", FEATURES, width)
    place = linear(w, spatials, "image_location_embeddings", BOX, width)
    return layernorm(w, w.node("Add", image, place), "LayerNorm", width, style)


def _streams(
    w: GraphWriter,
    embedded: tuple[str, str],
    masks: tuple[str, str],
    config: Config,
    style: Style,
) -> str:
    """Both streams (text, vision) through all layers -> vision f32 [B, 100, Dv].

    What only the text stream would read after the last connection is absent.
    """
    text, vision = embedded
    before = config.text.layers - config.connections
    for layer in range(before):
        text = _layer(w, f"layer.{layer}", text, masks[0], config.text, style)
    for k in range(config.connections):
        last = k == config.connections - 1
        with w.scope(f"c_layer.{k}"):
            contexts = _co_attention(w, (text, vision), masks, config, with_text=not last)
            vision, text = _connection_output(w, contexts, (text, vision), config, style)
        vision = _layer(w, f"v_layer.{k}", vision, masks[1], config.vision, style)
        if not last:
            text = _layer(w, f"layer.{before + k}", text, masks[0], config.text, style)
    return vision


def _layer(w: GraphWriter, name: str, x: str, mask: str, stream: Stream, style: Style) -> str:
    with w.scope(name):
        return encoder_block(w, x, mask, stream.heads, stream.width, stream.inner, style)


def _co_attention(
    w: GraphWriter,
    inputs: tuple[str, str],
    masks: tuple[str, str],
    config: Config,
    with_text: bool,
) -> tuple[str, str | None]:
    """Each stream asks the other: contexts (of vision, of text) f32 [B, L, bi_width].

    The modules end in 1 for vision and in 2 for text.
    """
    text, vision = inputs
    widths = config.text.width, config.vision.width
    heads, size = config.bi_heads, config.bi_width // config.bi_heads
    of_text = None
    with w.scope("biattention"):
        if with_text:
            names = ("query2", "key1", "value1")
            of_text = attention(w, text, vision, masks[1], heads, size, widths, names)
        names = ("query1", "key2", "value2")
        of_vision = attention(w, vision, text, masks[0], heads, size, widths[::-1], names)
    return of_vision, of_text


def _connection_output(
    w: GraphWriter,
    contexts: tuple[str, str | None],
    inputs: tuple[str, str],
    config: Config,
    style: Style,
) -> tuple[str, str]:
    """Residual, LayerNorm and feed-forward of both streams -> (vision, text).

    contexts are (of vision, of text); without a context the text comes back as it is.
    """
    text, vision = inputs
    for_vision, for_text = contexts
    inner, wide, narrow = config.bi_width, config.vision, config.text
    with w.scope("biOutput"):
        vision = residual_norm(w, for_vision, vision, inner, wide.width, style, "1")
        if for_text is not None:
            text = residual_norm(w, for_text, text, inner, narrow.width, style, "2")
    vision = feed_forward(w, vision, wide.width, wide.inner, style, "v_")
    if for_text is not None:
        text = feed_forward(w, text, narrow.width, narrow.inner, style, "t_")
    return vision, text


def feeds(
    shape: tuple[int, ...], seed: int, vocabulary: int, masked_row: bool = False
) -> dict[str, Array]:
    """One array per input, for shape (batch,).

    Tokens are [CLS] ... [SEP], padded with 0; 10 to 100 regions are valid, row 0 has all 20
    tokens and 100 regions. Features are non-negative with a heavy tail. Region 0 stands for the
    image: the mean of the other valid features, and the box (0, 0, 1, 1, 1). With `masked_row`
    nothing in the last row is valid.
    """
    batch = _checked(shape)
    tokens = bert.feeds((batch, TOKENS), seed, vocabulary, masked_row, _SHORTEST_TEXT)
    stream = np.random.Generator(np.random.PCG64([seed, 1]))  # the tokens have the stream `seed`
    valid = stream.integers(_FEWEST_REGIONS, REGIONS, size=batch, endpoint=True)
    valid[0] = REGIONS
    if masked_row:
        valid[-1] = 0
    mask = np.arange(REGIONS) < valid[:, None]
    return {
        "question": tokens["input_ids"],
        "features": _features(stream, mask),
        "spatials": _boxes(stream, mask),
        "segment_ids": tokens["token_type_ids"],
        "input_mask": tokens["attention_mask"],
        "image_mask": mask.astype(np.int64),
    }


def _features(stream: np.random.Generator, mask: Array) -> Array:
    """f32 [B, 100, 2048]: log-normal, a third of it zero; region 0 is the mean of the others."""
    shape = (*mask.shape, FEATURES)
    values: Array = np.exp(stream.standard_normal(shape, dtype=np.float32) - np.float32(1.0))
    values *= stream.random(shape, dtype=np.float32) > 1 / 3
    values *= mask[..., None]
    others = np.maximum(mask.sum(axis=1) - 1, 1)
    values[:, 0] = values[:, 1:].sum(axis=1) / others[:, None]
    return values


def _boxes(stream: np.random.Generator, mask: Array) -> Array:
    """f32 [B, 100, 5]: x1, y1, x2, y2 as fractions of the image, and the area."""
    corners = np.sort(stream.random((*mask.shape, 2, 2)), axis=2)
    corners[:, 0] = [[0, 0], [1, 1]]
    corners *= mask[..., None, None]
    sides = corners[:, :, 1] - corners[:, :, 0]
    boxes = np.concatenate(
        [corners.reshape(*mask.shape, 4), sides.prod(axis=2, keepdims=True)], axis=2
    )
    return boxes.astype(np.float32)


def targets(feeds: Mapping[str, Array], seed: int = 0) -> Array:
    """What a sample asks for: f32 [B, 100, 1], the overlap of each region with a reference box.

    feeds: of this model. The reference is a valid region of the sample other than the whole image,
    chosen by `seed`; overlap is intersection over union, 0 for regions that are not valid.

    >>> import numpy as np, planck.models
    >>> overlap = targets(planck.models.feeds("vilbert", (2,), size="mini"))
    >>> overlap.shape, float(overlap[:, 1:].max())
    ((2, 100, 1), 1.0)
    """
    boxes = feeds["spatials"]
    count = feeds["image_mask"].sum(axis=1)
    stream = np.random.Generator(np.random.PCG64([seed, 2]))
    chosen = stream.integers(1, np.maximum(count, 2))
    return overlaps(boxes, boxes[np.arange(len(boxes)), chosen])


def overlaps(boxes: Array, references: Array) -> Array:
    """Intersection over union of regions [B, N, 4 or 5] with a box [B, 4 or 5] -> f32 [B, N, 1].

    Regions without an area overlap by 0.
    """
    boxes, reference = boxes.astype(np.float64), references.astype(np.float64)[:, None]
    common = _area(
        np.maximum(boxes[..., :2], reference[..., :2]),
        np.minimum(boxes[..., 2:4], reference[..., 2:4]),
    )
    union = _area(boxes[..., :2], boxes[..., 2:4]) + _area(reference[..., :2], reference[..., 2:4])
    union -= common
    overlap: Array = common / np.where(union > 0, union, 1)
    return overlap.astype(np.float32)[..., None]


def _area(low: Array, high: Array) -> Array:
    """Of boxes from corners [..., 2] -> [...]; 0 where a corner is on the wrong side."""
    area: Array = np.maximum(high - low, 0).prod(axis=-1)
    return area


def _checked(shape: tuple[int, ...]) -> int:
    if len(shape) != 1 or shape[0] < 1:
        raise ValueError(f"shape is {shape}, but must be (batch,) with batch >= 1")
    return shape[0]
