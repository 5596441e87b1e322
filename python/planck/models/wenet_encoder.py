"""The encoder of WeNet: a conformer over filter-bank frames with a CTC head and its best tokens."""

from __future__ import annotations

import math

import numpy as np

from planck.models import _wenet
from planck.models._parts import LayerNormSpelling, Style, linear, size_of, sliced
from planck.models._weights import Array
from planck.models._wenet import BEAM, TABLE_ROWS, Config
from planck.models._writer import GraphWriter, WeightType

MELS = 80
_FEWEST_FRAMES = 7  # the two convolutions leave one frame
_SUBSAMPLED_MELS = ((MELS - 1) // 2 - 1) // 2
_KERNEL = 15

CONFIGS = {
    "full": Config(layers=12, width=256, heads=4, inner=2048, vocabulary=4233),
    "mini": Config(layers=2, width=64, heads=4, inner=256, vocabulary=128),
}


def encoder(
    size: str,
    seed: int,
    opset: int | None,
    *,
    layernorm: LayerNormSpelling = "exploded",
    weights: WeightType = "fp32",
) -> GraphWriter:
    """The encoder, opset 13 unless told otherwise, 12 at least.

    Inputs speech f32 [B, T, 80], speech_lengths i32 [B]; outputs encoder_out f32 [B, T', D],
    encoder_out_lens i32 [B], ctc_log_probs f32 [B, T', V], beam_log_probs f32 [B, T', 10] and
    beam_log_probs_idx i64 [B, T', 10], with T' = ((T - 1) // 2 - 1) // 2.
    """
    config = CONFIGS[size]
    style = Style(layernorm=layernorm, epsilon=_wenet.EPSILON)
    w = _wenet.writer("wenet_encoder", opset, seed, weights)
    speech = w.input("speech", "float32", ("B", "T", MELS))
    lengths = w.input("speech_lengths", "int32", ("B",))
    with w.scope("encoder"):
        mask = _wenet.valid_row(w, lengths, size_of(w, speech, 1))
        x = _normalised(w, speech)
        with w.scope("embed"):
            x, positions = _subsampled(w, x, config)
            mask = sliced(w, sliced(w, mask, 2, 0, -2, 2), 2, 0, -2, 2)
        for layer in range(config.layers):
            with w.scope(f"encoders.{layer}"):
                x = _block(w, x, mask, positions, config, style)
        x = _wenet.norm(w, x, "after_norm", config, style)
    count = w.reduce("ReduceSum", w.node("Cast", w.squeeze(mask, 1), to=7), 1, keep=False)
    with w.scope("ctc"):
        scores = linear(w, x, "ctc_lo", config.width, config.vocabulary)
        log_probs = w.node("LogSoftmax", scores, axis=2)
    count = w.node("Cast", count, to=6)
    best = w.node_with_outputs(
        2, "TopK", log_probs, w.constant([BEAM], "int64"), axis=2, largest=1, sorted=1
    )
    w.output(x, "encoder_out", "float32", ("B", "T_OUT", config.width))
    w.output(count, "encoder_out_lens", "int32", ("B",))
    w.output(log_probs, "ctc_log_probs", "float32", ("B", "T_OUT", config.vocabulary))
    w.output(best[0], "beam_log_probs", "float32", ("B", "T_OUT", BEAM))
    w.output(best[1], "beam_log_probs_idx", "int64", ("B", "T_OUT", BEAM))
    return w


def _normalised(w: GraphWriter, speech: str) -> str:
    """Global mean and inverse deviation of every mel band."""
    with w.scope("global_cmvn"):
        centred = w.node("Sub", speech, w.parameter("mean", (MELS,), "bias"))
        return w.node("Mul", centred, w.parameter("istd", (MELS,), "scale"))


def _subsampled(w: GraphWriter, x: str, config: Config) -> tuple[str, str]:
    """f32 [B, T, 80] -> frames f32 [B, T', D] and their positions f32 [1, T', D]."""
    width = config.width
    x = w.unsqueeze(x, 1)
    with w.scope("conv"):
        x = w.node("Relu", _conv(w, x, "0", (width, 1, 3, 3), stride=2))
        x = w.node("Relu", _conv(w, x, "2", (width, width, 3, 3), stride=2))
    batch, channels, frames, bands = (size_of(w, x, axis) for axis in range(4))
    x = w.node("Transpose", x, perm=[0, 2, 1, 3])
    x = _wenet.resize(w, x, batch, frames, w.node("Mul", channels, bands))
    with w.scope("out"):
        x = linear(w, x, "0", width * _SUBSAMPLED_MELS, width)
    with w.scope("pos_enc"):
        x = w.node("Mul", x, w.constant(math.sqrt(width)))
        return x, _wenet.positions(w, size_of(w, x, 1), width)


def _conv(
    w: GraphWriter,
    x: str,
    module: str,
    shape: tuple[int, ...],
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
) -> str:
    """A convolution by a weight of `shape` [out, in / groups, ...] with a bias."""
    spatial = len(shape) - 2
    with w.scope(module):
        return w.node(
            "Conv",
            x,
            w.parameter("weight", shape, "weight"),
            w.parameter("bias", shape[:1], "bias"),
            dilations=[1] * spatial,
            group=groups,
            kernel_shape=list(shape[2:]),
            pads=[pad] * (2 * spatial),
            strides=[stride] * spatial,
        )


def _block(w: GraphWriter, x: str, mask: str, positions: str, config: Config, style: Style) -> str:
    """A conformer block on [B, T', D] with mask bool [B, 1, T']; 157 nodes when exploded."""
    x = _half_feed_forward(w, x, "_macaron", config, style)
    normal = _wenet.norm(w, x, "norm_mha", config, style)
    with w.scope("self_attn"):
        attended = _attention(w, normal, mask, positions, config)
    x = w.node("Add", x, attended)
    normal = _wenet.norm(w, x, "norm_conv", config, style)
    with w.scope("conv_module"):
        convolved = _convolution(w, normal, mask, config)
    x = w.node("Add", x, convolved)
    x = _half_feed_forward(w, x, "", config, style)
    return _wenet.norm(w, x, "norm_final", config, style)


def _half_feed_forward(w: GraphWriter, x: str, suffix: str, config: Config, style: Style) -> str:
    """x + 0.5 * (LayerNorm, Linear, Swish, Linear)."""
    hidden = _wenet.norm(w, x, f"norm_ff{suffix}", config, style)
    with w.scope(f"feed_forward{suffix}"):
        hidden = _swish(w, linear(w, hidden, "w_1", config.width, config.inner))
        hidden = linear(w, hidden, "w_2", config.inner, config.width)
    return w.node("Add", x, w.node("Mul", hidden, w.constant(0.5)))


def _swish(w: GraphWriter, x: str) -> str:
    with w.scope("activation"):
        return w.node("Mul", x, w.node("Sigmoid", x))


def _attention(w: GraphWriter, x: str, mask: str, positions: str, config: Config) -> str:
    """Self-attention on [B, T', D] with a second product of scores, for the positions."""
    query, key, value = _wenet.query_key_value(w, x, x, config)
    places = linear(w, positions, "linear_pos", config.width, config.width, has_bias=False)
    places = _wenet.heads(w, places, size_of(w, positions, 0), config)
    places = w.node("Transpose", places, perm=[0, 2, 3, 1])
    scores = [
        w.node("MatMul", _biased_query(w, query, name, config), keys)
        for name, keys in (("pos_bias_u", key), ("pos_bias_v", places))
    ]
    return _wenet.attend(w, w.node("Add", *scores), value, mask, config)


def _biased_query(w: GraphWriter, query: str, name: str, config: Config) -> str:
    """Query [B, T', H, S] plus a parameter [H, S] -> [B, H, T', S]."""
    bias = w.parameter(name, (config.heads, config.size), "weight")
    return w.node("Transpose", w.node("Add", query, bias), perm=[0, 2, 1, 3])


def _convolution(w: GraphWriter, x: str, mask: str, config: Config) -> str:
    """GLU, depthwise convolution and Swish along the frames of [B, T', D]; padding is zero."""
    width = config.width
    x = _without_padding(w, w.node("Transpose", x, perm=[0, 2, 1]), mask)
    x = _conv(w, x, "pointwise_conv1", (2 * width, width, 1))
    # Since opset 18 Split has to be told that the parts are equal.
    parts = {"num_outputs": 2} if w.opset >= 18 else {}
    value, gate = w.node_with_outputs(2, "Split", x, axis=1, **parts)
    x = w.node("Mul", value, w.node("Sigmoid", gate))
    x = _conv(w, x, "depthwise_conv", (width, 1, _KERNEL), pad=_KERNEL // 2, groups=width)
    x = _conv(w, _swish(w, x), "pointwise_conv2", (width, width, 1))
    return w.node("Transpose", _without_padding(w, x, mask), perm=[0, 2, 1])


def _without_padding(w: GraphWriter, x: str, mask: str) -> str:
    """[B, D, T'] with 0 where mask bool [B, 1, T'] is false."""
    return _wenet.filled(w, x, w.node("Not", mask), 0.0)


def feeds(
    shape: tuple[int, ...], seed: int, size: str, masked_row: bool = False
) -> dict[str, Array]:
    """Speech f32 [B, T, 80] in [-1, 1) and its lengths i32 [B] in [1, T), for shape (B, T).

    The size changes nothing. With `masked_row` the last length is 0.
    """
    longest = 4 * TABLE_ROWS
    if len(shape) != 2 or shape[0] < 1 or not _FEWEST_FRAMES <= shape[1] <= longest:
        raise ValueError(
            f"shape is {shape}, but must be (batch, frames) with batch >= 1 and "
            f"{_FEWEST_FRAMES} <= frames <= {longest}"
        )
    batch, frames = shape
    stream = np.random.Generator(np.random.PCG64(seed))
    return {
        "speech": _wenet.uniform(stream, batch, frames, MELS),
        "speech_lengths": _wenet.lengths_below(stream, frames, batch, masked_row),
    }
