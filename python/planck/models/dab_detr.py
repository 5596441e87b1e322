"""DAB-DETR with a ResNet-50: an object detector whose queries are boxes.

Goals: the graph as traced by a PyTorch exporter, with every chain that the original code needs only
because it handles lists of pictures and writes into slices. Non-goals: auxiliary outputs.
Shapes in the docstrings: B batch, H and W of the feature map, L = H * W, Q queries, D hidden.
Source: S. Liu et al., "DAB-DETR: Dynamic Anchor Boxes are Better Queries for DETR", ICLR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planck.models._parts import (
    LayerNormSpelling,
    Style,
    affine,
    layernorm,
    linear,
    linear_parameters,
    norm_parameters,
    normalized,
    size_of,
)
from planck.models._traced import (
    BOOL,
    END,
    FLOAT,
    INT64,
    assign,
    cut,
    dims,
    flatten,
    pad,
    pick,
    repeat,
    reshape,
    stack,
)
from planck.models._vision import (
    BATCHNORM_EPSILON,
    RESNETS,
    ResNetConfig,
    checked_shape,
    conv_attributes,
    pictures,
    resnet_body,
)
from planck.models._weights import Array, Generated, Kind
from planck.models._writer import Dim, GraphWriter, Reader, WeightType

BOX = 4  # x, y, width, height


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Hyper-parameters; `inner` is the width of the feed-forward parts, `image` (height, width)."""

    image: tuple[int, int]
    backbone: ResNetConfig
    layers: int  # of the encoder, and of the decoder
    width: int
    heads: int
    inner: int
    queries: int
    classes: int = 91


CONFIGS = {
    "full": Config(
        image=(800, 800),
        backbone=RESNETS["full"],
        layers=6,
        width=256,
        heads=8,
        inner=2048,
        queries=300,
    ),
    # Neither the picture nor its feature map is square: a swapped axis must not go unseen.
    "mini": Config(
        image=(128, 160),
        backbone=RESNETS["mini"],
        layers=2,
        width=64,
        heads=4,
        inner=256,
        queries=20,
    ),
}

Linear = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the decoder looks at: tokens and their positions [L, B, D], padding bool [B, L]."""

    tokens: str
    positions: str
    padding: str


def detector(
    size: str,
    seed: int,
    opset: int | None,
    *,
    layernorm: LayerNormSpelling = "exploded",
    weights: WeightType = "fp32",
    dynamic_batch: int = 0,
) -> GraphWriter:
    """DAB-DETR R50, opset 12 unless told otherwise.

    Input inputs f32 [1, 3, 800, 800], normalised; outputs pred_logits f32 [1, 300, 91] and
    pred_boxes f32 [1, 300, 4] = (cx, cy, w, h) in 0..1. With dynamic_batch = n the graph is that of
    a trace with n pictures: the batch axis is declared dynamic, but only n pictures will run.
    """
    if dynamic_batch < 0:
        raise ValueError(f"dynamic_batch is {dynamic_batch}, but must not be negative")
    config = CONFIGS[size]
    w = GraphWriter("dab_detr", 12 if opset is None else opset, Generated(seed), weights)
    batch: Dim = "batch_size" if dynamic_batch else 1
    style = Style(layernorm=layernorm, epsilon=1e-5)
    inputs = w.input("inputs", "float32", (batch, 3, *config.image))
    images, padding = _image_list(w, inputs, dynamic_batch or 1)
    with w.scope("backbone.0"):
        features, padding = _backbone(w, images, padding, config.backbone)
    with w.scope("backbone.1"):
        positions = _image_positions(w, padding, config.width // 2)
    with w.scope("input_proj"):
        features = _projection(w, features, (config.backbone.channels, config.width))
    logits, boxes = _transformer(w, features, padding, positions, config, style)
    w.output(logits, "pred_logits", "float32", (batch, config.queries, config.classes))
    w.output(boxes, "pred_boxes", "float32", (batch, config.queries, BOX))
    return w


def feeds(shape: tuple[int, ...], seed: int, size: str) -> dict[str, Array]:
    """Smooth random pictures for shape = (batch, height, width), normalised as ImageNet's."""
    return {"inputs": pictures(checked_shape(shape, CONFIGS[size].image), seed)}


# The list of pictures: each is padded to the largest, and a mask tells what is padding.


def _image_list(w: GraphWriter, images: str, count: int) -> tuple[str, str]:
    """f32 [B, 3, H, W] -> the same, padded to the largest, and padding bool [B, H, W]."""
    # The original walks over the batch anew for each axis, and the trace does so too.
    largest = [_largest(w, _unbind(w, images, count), axis) for axis in range(3)]
    padded, masks = [], []
    for image in _unbind(w, images, count):
        amounts = [w.node("Sub", largest[axis], size_of(w, image, axis)) for axis in range(3)]
        padded.append(pad(w, image, amounts, w.constant(0.0)))
        plane = w.node("Shape", pick(w, image, 0, 0))
        blank = w.node("ConstantOfShape", plane, value=np.zeros(1, dtype=np.int32))
        mask = pad(w, blank, amounts[1:], w.constant(1, "int32"))
        masks.append(w.node("Cast", mask, to=BOOL))
    return stack(w, padded), stack(w, masks)


def _unbind(w: GraphWriter, images: str, count: int) -> list[str]:
    return [w.squeeze(part, 0) for part in w.split(images, [1] * count, axis=0)]


def _largest(w: GraphWriter, images: Sequence[str], axis: int) -> str:
    """The largest size on `axis` as an i64 scalar; the maximum is taken of floats."""
    sizes = w.node("Cast", dims(w, *(size_of(w, image, axis) for image in images)), to=FLOAT)
    return w.node("Cast", w.reduce("ReduceMax", sizes, 0, keep=False), to=INT64)


# Features and their positions.


def _backbone(w: GraphWriter, images: str, padding: str, config: ResNetConfig) -> tuple[str, str]:
    """f32 [B, 3, 32 H, 32 W] -> features f32 [B, C, H, W] and padding bool [B, H, W]."""
    with w.scope("body"):
        features = resnet_body(w, images, config, _frozen_norm)
    target = dims(w, size_of(w, features, 2), size_of(w, features, 3))
    mask = w.node("Cast", w.unsqueeze(padding, 0), to=FLOAT)
    front = cut(w, w.node("Shape", mask), 0, 0, 2)
    sizes = w.node("Concat", front, w.node("Cast", target, to=INT64), axis=0)
    none = [w.constant([]), w.constant([])]  # regions and scales
    mask = w.node(
        "Resize",
        mask,
        *none,
        sizes,
        coordinate_transformation_mode="asymmetric",
        cubic_coeff_a=-0.75,
        mode="nearest",
        nearest_mode="floor",
    )
    return features, pick(w, w.node("Cast", mask, to=BOOL), 0, 0)


def _frozen_norm(w: GraphWriter, x: str, module: str, channels: int, kind: Kind) -> str:
    """A BatchNorm that is written out: x * scale + shift, of which the exporter folds both."""
    shape, wide = (channels,), (1, channels, 1, 1)

    def scale(read: Reader) -> Array:
        root = np.sqrt(read("running_var", shape, "variance") + np.float32(BATCHNORM_EPSILON))
        values: Array = read("weight", shape, kind) / root
        return values

    def shift(read: Reader) -> Array:
        mean = read("running_mean", shape, "bias")
        values: Array = read("bias", shape, "bias") - mean * scale(read)
        return values

    with w.scope(module):
        x = w.node("Mul", x, w.folded("Mul", wide, lambda read: scale(read).reshape(wide)))
        return w.node("Add", x, w.folded("Add", wide, lambda read: shift(read).reshape(wide)))


def _projection(w: GraphWriter, x: str, channels: tuple[int, int]) -> str:
    """A Conv 1x1 with bias: [B, channels[0], H, W] -> [B, channels[1], H, W]."""
    weight = w.parameter("weight", (channels[1], channels[0], 1, 1), "he")
    bias = w.parameter("bias", (channels[1],), "bias")
    return w.node("Conv", x, weight, bias, **conv_attributes(1, 1))


def _image_positions(w: GraphWriter, padding: str, features: int) -> str:
    """padding bool [B, H, W] -> f32 [B, 2 * features, H, W]: sines of y, then of x."""
    valid = w.node("Not", padding)
    places = []
    for axis in (1, 2):
        number = w.node("Cast", valid, to=FLOAT)
        number = w.node("CumSum", number, w.constant(axis, "int64"))
        last = w.node("Add", cut(w, number, axis, -1, END), w.constant(1e-6))
        places.append(w.node("Mul", w.node("Div", number, last), w.constant(2 * math.pi)))
    x, y = (_sines(w, place, 3, features, temperature=20.0) for place in reversed(places))
    return w.node("Transpose", w.node("Concat", y, x, axis=3), perm=[0, 3, 1, 2])


def _sines(w: GraphWriter, x: str, rank: int, features: int, temperature: float) -> str:
    """Angles of `rank` dimensions -> [..., features]: sine and cosine in turn, at falling speed."""
    step = w.node("Range", w.constant(0.0), w.constant(float(features)), w.constant(1.0))
    half = w.node("Cast", w.node("Div", step, w.constant(2.0)), to=INT64)
    double = w.node("Mul", w.node("Cast", half, to=FLOAT), w.constant(2.0))
    exponent = w.node("Div", double, w.constant(float(features)))
    speed = w.node("Pow", w.constant(temperature), exponent)
    angles = w.node("Div", w.unsqueeze(x, rank), speed)
    sine = w.node("Sin", cut(w, angles, rank, 0, END, 2))
    cosine = w.node("Cos", cut(w, angles, rank, 1, END, 2))
    pairs = [w.unsqueeze(wave, rank + 1) for wave in (sine, cosine)]
    return flatten(w, w.node("Concat", *pairs, axis=rank + 1), rank)


# The transformer, on [L, B, D] and [Q, B, D].


def _transformer(
    w: GraphWriter, features: str, padding: str, positions: str, config: Config, style: Style
) -> tuple[str, str]:
    """Features and positions f32 [B, D, H, W] -> logits [B, Q, classes], boxes [B, Q, 4]."""
    with w.scope("transformer"):
        batch = size_of(w, features, 0)
        tokens, places = (
            w.node("Transpose", flatten(w, x, 2), perm=[2, 0, 1]) for x in (features, positions)
        )
    queries = w.parameter("refpoint_embed.weight", (config.queries, BOX), "unit")
    with w.scope("transformer"):
        anchors = repeat(w, w.unsqueeze(queries, 1), 1, batch, 1)
        padding = w.node("Flatten", padding, axis=1)
        with w.scope("encoder"):
            tokens = _encoder(w, tokens, places, padding, config, style)
        memory = _Memory(tokens, places, padding)
    box_head = _mlp_parameters(
        w, "bbox_embed", (config.width, config.width, config.width, BOX), last="weight"
    )
    with w.scope("transformer", "decoder"):
        states, references = _decoder(w, anchors, memory, box_head, config, style)
    return _heads(w, states, references, box_head, config)


def _encoder(
    w: GraphWriter, x: str, positions: str, padding: str, config: Config, style: Style
) -> str:
    query_scale = _mlp_parameters(w, "query_scale", (config.width,) * 3)
    for layer in range(config.layers):
        scaled = w.node("Mul", positions, _mlp(w, x, "query_scale", query_scale))
        with w.scope(f"layers.{layer}"):
            with w.scope("self_attn"):
                attended = _self_attention(w, w.node("Add", x, scaled), x, padding, config)
            x = _norm(w, w.node("Add", x, attended), "norm1", config, style)
            x = _norm(w, w.node("Add", x, _feed_forward(w, x, config)), "norm2", config, style)
    return x


def _norm(w: GraphWriter, x: str, module: str, config: Config, style: Style) -> str:
    return layernorm(w, x, module, config.width, style)


def _feed_forward(w: GraphWriter, x: str, config: Config) -> str:
    """Linear, PReLU with one slope, Linear."""
    x = linear(w, x, "linear1", config.width, config.inner, "lecun")
    with w.scope("activation"):
        # The exporter unsqueezes the slope to fit three dimensions, then folds that.
        slope = w.folded("PRelu", (1, 1), lambda read: read("weight", (1,), "slope")[None])
        x = w.node("PRelu", x, slope)
    return linear(w, x, "linear2", config.inner, config.width, "lecun")


def _self_attention(w: GraphWriter, placed: str, x: str, padding: str, config: Config) -> str:
    """Attention with packed weights: queries and keys of x with its positions, values of x."""
    width = config.width
    queries, keys, values = (
        _packed_linear(w, source, part, width) for part, source in enumerate((placed, placed, x))
    )
    return _attention(w, queries, keys, values, (width, width), config.heads, padding)


def _packed_linear(w: GraphWriter, x: str, part: int, width: int) -> str:
    """A Linear whose weight and bias are the `part`-th third of in_proj_weight and in_proj_bias."""
    rows = slice(part * width, (part + 1) * width)

    def weight(read: Reader) -> Array:
        return read("in_proj_weight", (3 * width, width), "lecun")[rows].T

    def bias(read: Reader) -> Array:
        return read("in_proj_bias", (3 * width,), "bias")[rows]

    parameters = (w.folded("MatMul", (width, width), weight), w.folded("Add", (width,), bias))
    return affine(w, x, parameters)


def _attention(
    w: GraphWriter,
    queries: str,
    keys: str,
    values: str,
    widths: tuple[int, int],
    heads: int,
    padding: str | None = None,
    *,
    shifted: bool = False,
) -> str:
    """Attention from queries [N, B, Dk] to keys [L, B, Dk] and values [L, B, D] -> [N, B, D].

    widths = (Dk, D); padding bool [B, L] is true where a key does not count; with `shifted` the
    softmax is of the scores less their maximum.
    """
    key_width, width = widths
    length, batch = size_of(w, queries, 0), size_of(w, queries, 1)
    queries = w.node("Mul", queries, w.constant((key_width // heads) ** -0.5))
    rows = w.node("Mul", batch, w.constant(heads, "int64"))
    queries = reshape(w, queries, length, rows, key_width // heads)
    queries = w.node("Transpose", queries, perm=[1, 0, 2])
    keys = reshape(w, keys, -1, rows, key_width // heads)
    source = size_of(w, w.node("Transpose", keys, perm=[1, 0, 2]), 1)
    values = reshape(w, values, -1, rows, width // heads)
    values = w.node("Transpose", values, perm=[1, 0, 2])
    # The exporter merges the two transposes of the keys into one.
    scores = w.node("MatMul", queries, w.node("Transpose", keys, perm=[1, 2, 0]))
    by_head = (batch, heads, length, source)
    if padding is not None:
        scores = _masked(w, reshape(w, scores, *by_head), padding)
        scores = reshape(w, scores, rows, length, source)
    if shifted:
        scores = w.node("Sub", scores, w.reduce("ReduceMax", scores, -1))
    shares = w.node("Softmax", scores, axis=2 if w.opset < 13 else -1)
    context = w.node("Transpose", w.node("MatMul", shares, values), perm=[1, 0, 2])
    result = linear(w, reshape(w, context, length, batch, width), "out_proj", width, width, "lecun")
    # The mean over heads, which the module also returns and nobody reads.
    total = w.reduce("ReduceSum", reshape(w, shares, *by_head), 1, keep=False)
    w.node("Div", total, w.constant(float(heads)))
    return result


def _masked(w: GraphWriter, scores: str, padding: str) -> str:
    """Scores f32 [B, heads, N, L] with -inf where padding bool [B, L] is true."""
    wide = w.unsqueeze(w.unsqueeze(padding, 1), 2)
    return w.node("Where", w.node("Cast", wide, to=BOOL), w.constant(-math.inf), scores)


def _mlp_parameters(
    w: GraphWriter, module: str, widths: Sequence[int], last: Kind = "lecun"
) -> list[Linear]:
    """The Linears of an MLP that serves several times; `last` is the kind of the last weight."""
    layers = []
    for index in range(len(widths) - 1):
        kind: Kind = "he" if index < len(widths) - 2 else last
        with w.scope(module, f"layers.{index}"):
            layers.append(linear_parameters(w, widths[index], widths[index + 1], kind))
    return layers


def _mlp(w: GraphWriter, x: str, module: str, layers: Sequence[Linear]) -> str:
    """Linears with ReLU between them."""
    with w.scope(module):
        for index, parameters in enumerate(layers):
            if index:
                x = w.node("Relu", x)
            with w.scope(f"layers.{index}"):
                x = affine(w, x, parameters)
    return x


# The decoder: queries are boxes [Q, B, 4] that every layer moves.


def _decoder(
    w: GraphWriter,
    anchors: str,
    memory: _Memory,
    box_head: Sequence[Linear],
    config: Config,
    style: Style,
) -> tuple[str, str]:
    """States f32 [layers, B, Q, D] and the boxes that each layer began with [layers, B, Q, 4]."""
    width = config.width
    count, batch = size_of(w, anchors, 0), size_of(w, anchors, 1)
    zero = np.zeros(1, dtype=np.float32)
    x = w.node("ConstantOfShape", dims(w, count, batch, width), value=zero)
    boxes = w.node("Sigmoid", anchors)
    shared = _shared_parameters(w, width)
    with w.scope("norm"):
        final_norm = norm_parameters(w, width)
    states, references = [], []
    for layer in range(config.layers):
        references.append(boxes)
        corner = cut(w, boxes, 2, 0, BOX)
        sines = _box_sines(w, corner, width // 2)
        query_positions = _mlp(w, sines, "ref_point_head", shared["ref_point_head"])
        sines = cut(w, sines, 2, 0, width)
        if layer > 0:
            sines = w.node("Mul", sines, _mlp(w, x, "query_scale", shared["query_scale"]))
        sines = _modulated(w, sines, x, corner, shared["ref_anchor_head"], width)
        with w.scope(f"layers.{layer}"):
            x = _decoder_self_attention(w, x, query_positions, config, style)
            first = query_positions if layer == 0 else None
            x = _cross_attention(w, x, memory, sines, first, config, style)
            x = _norm(w, w.node("Add", x, _feed_forward(w, x, config)), "norm3", config, style)
        boxes = _moved(w, _mlp(w, x, "bbox_embed", box_head), 3, boxes)
        with w.scope("norm"):
            states.append(normalized(w, x, final_norm, style))
    batch_first = [
        w.node("Transpose", stack(w, parts), perm=[0, 2, 1, 3]) for parts in (states, references)
    ]
    return batch_first[0], batch_first[1]


def _shared_parameters(w: GraphWriter, width: int) -> dict[str, list[Linear]]:
    """The MLPs that all layers of the decoder share."""
    widths = {
        "query_scale": (width, width, width),
        "ref_point_head": (2 * width, width, width),
        "ref_anchor_head": (width, width, 2),
    }
    return {module: _mlp_parameters(w, module, sizes) for module, sizes in widths.items()}


def _box_sines(w: GraphWriter, boxes: str, features: int) -> str:
    """Boxes [Q, B, 4] -> [Q, B, 4 * features], in the order y, x, width, height."""
    waves = []
    for index in (0, 1, 2, 3):
        angle = w.node("Mul", pick(w, boxes, 2, index), w.constant(2 * math.pi))
        waves.append(_sines(w, angle, 2, features, temperature=10000.0))
    x, y, *extent = waves
    return w.node("Concat", y, x, *extent, axis=2)


def _modulated(
    w: GraphWriter, sines: str, x: str, boxes: str, head: Sequence[Linear], width: int
) -> str:
    """The sines of y [Q, B, :D/2] by a learned height over the box's, those of x by the width."""
    reference = w.node("Sigmoid", _mlp(w, x, "ref_anchor_head", head))
    for part, (start, end) in enumerate(((width // 2, END), (0, width // 2))):
        ratio = w.node("Div", pick(w, reference, 2, part), pick(w, boxes, 2, 2 + part))
        values = w.node("Mul", cut(w, sines, 2, start, end), w.unsqueeze(ratio, 2))
        sines = assign(w, sines, 3, start, end, values)
    return sines


def _decoder_self_attention(
    w: GraphWriter, x: str, positions: str, config: Config, style: Style
) -> str:
    """x [Q, B, D] after attention among the queries, the residual and norm1."""
    width = config.width
    content, place, key, key_place, values = (
        linear(w, source, f"sa_{module}_proj", width, width, "sharp")
        for module, source in (
            ("qcontent", x),
            ("qpos", positions),
            ("kcontent", x),
            ("kpos", positions),
            ("v", x),
        )
    )
    queries, keys = w.node("Add", content, place), w.node("Add", key, key_place)
    with w.scope("self_attn"):
        attended = _attention(w, queries, keys, values, (width, width), config.heads, shifted=True)
    return _norm(w, w.node("Add", x, attended), "norm1", config, style)


def _cross_attention(
    w: GraphWriter,
    x: str,
    memory: _Memory,
    sines: str,
    positions: str | None,
    config: Config,
    style: Style,
) -> str:
    """x [Q, B, D] after attention to the memory, the residual and norm2.

    `positions` are added to the content of the first layer only.
    """
    width = config.width
    queries, keys, values, key_places = (
        linear(w, source, f"ca_{module}_proj", width, width, "sharp")
        for module, source in (
            ("qcontent", x),
            ("kcontent", memory.tokens),
            ("v", memory.tokens),
            ("kpos", memory.positions),
        )
    )
    shapes = [(size_of(w, content, 0), size_of(w, content, 1)) for content in (queries, keys)]
    if positions is not None:
        queries = w.node(
            "Add", queries, linear(w, positions, "ca_qpos_proj", width, width, "sharp")
        )
        keys = w.node("Add", keys, key_places)
    sines = linear(w, sines, "ca_qpos_sine_proj", width, width, "sharp")
    queries = _joined(w, queries, sines, shapes[0], config)
    keys = _joined(w, keys, key_places, shapes[1], config)
    widths = (2 * width, width)
    with w.scope("cross_attn"):
        attended = _attention(
            w, queries, keys, values, widths, config.heads, memory.padding, shifted=True
        )
    return _norm(w, w.node("Add", x, attended), "norm2", config, style)


def _joined(
    w: GraphWriter, content: str, place: str, shape: tuple[str, str], config: Config
) -> str:
    """Two values [N, B, D], head by head one after the other -> [N, B, 2 D]; shape = (N, B)."""
    size = config.width // config.heads
    parts = [reshape(w, x, *shape, config.heads, size) for x in (content, place)]
    return reshape(w, w.node("Concat", *parts, axis=3), *shape, 2 * config.width)


def _moved(w: GraphWriter, offsets: str, rank: int, boxes: str) -> str:
    """sigmoid(offsets + inverse sigmoid of boxes), written into a slice that is the whole axis."""
    total = w.node("Add", cut(w, offsets, rank - 1, 0, BOX), _inverse_sigmoid(w, boxes))
    offsets = assign(w, offsets, rank, 0, BOX, total)
    return w.node("Sigmoid", cut(w, offsets, rank - 1, 0, BOX))


def _inverse_sigmoid(w: GraphWriter, x: str) -> str:
    """log(max(x, 1e-3) / max(1 - x, 1e-3)) of x in 0..1."""
    x = w.node("Min", w.node("Max", x, w.constant(0.0)), w.constant(1.0))
    upper = w.node("Clip", x, w.constant(1e-3), "")
    lower = w.node("Clip", w.node("Sub", w.constant(1.0), x), w.constant(1e-3), "")
    return w.node("Log", w.node("Div", upper, lower))


def _heads(
    w: GraphWriter, states: str, references: str, box_head: Sequence[Linear], config: Config
) -> tuple[str, str]:
    """Logits and boxes of all layers, of which the last one's are taken by the index -1."""
    # The decoder holds the box head too; for a parameter of two modules the exporter adds Identity.
    tied = [(weight, w.node("Identity", bias)) for weight, bias in box_head]
    boxes = _moved(w, _mlp(w, states, "bbox_embed", tied), 4, references)
    # As the original begins: it keeps logits away from zero, where a relative error says nothing.
    logits = linear(w, states, "class_embed", config.width, config.classes, "lecun", bias="rare")
    return pick(w, logits, 0, -1), pick(w, boxes, 0, -1)
