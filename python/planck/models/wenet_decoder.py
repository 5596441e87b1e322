"""The decoder of WeNet: scores the hypotheses of a beam against the encoder's output."""

from __future__ import annotations

import math

import numpy as np

from planck.models import _wenet
from planck.models._parts import (
    INT64_MAX,
    LayerNormSpelling,
    Style,
    linear,
    lookup,
    size_of,
    sliced,
)
from planck.models._weights import Array
from planck.models._wenet import BEAM, TABLE_ROWS, Config
from planck.models._writer import GraphWriter, WeightType

CTC_WEIGHT = 0.5
_TOKENS = 64  # of a hypothesis with its start and end
_IDS = 10  # feeds draw tokens and lengths below this

CONFIGS = {
    "full": Config(layers=6, width=256, heads=4, inner=2048, vocabulary=4233),
    "mini": Config(layers=2, width=64, heads=4, inner=256, vocabulary=128),
}


def decoder(
    size: str,
    seed: int,
    opset: int | None,
    *,
    layernorm: LayerNormSpelling = "exploded",
    weights: WeightType = "fp32",
    tokens: int | None = None,
) -> GraphWriter:
    """The decoder with its rescoring, opset 13 unless told otherwise, 12 at least.

    Inputs encoder_out f32 [B, T, D], encoder_out_lens i32 [B], hyps_pad_sos_eos
    i64 [B, 10, L + 1], hyps_lens_sos i32 [B, 10], ctc_score f32 [B, 10]; outputs decoder_out
    f32 [B, 10, L, V] and best_index i64 [B]. tokens declares L + 1 fixed; None leaves it open.
    """
    if tokens is not None:
        _check_tokens(tokens)
    config = CONFIGS[size]
    style = Style(layernorm=layernorm, epsilon=_wenet.EPSILON)
    w = _wenet.writer("wenet_decoder", opset, seed, weights)
    memory = w.input("encoder_out", "float32", ("B", "T", config.width))
    memory_lengths = w.input("encoder_out_lens", "int32", ("B",))
    hypotheses = w.input("hyps_pad_sos_eos", "int64", ("B", BEAM, tokens or "T2_PLUS_1"))
    lengths = w.input("hyps_lens_sos", "int32", ("B", BEAM))
    ctc_score = w.input("ctc_score", "float32", ("B", BEAM))

    batch, frames, width = (size_of(w, memory, axis) for axis in range(3))
    rows = w.node("Mul", batch, w.constant(BEAM, "int64"))
    mask = _wenet.valid_row(w, memory_lengths, frames)
    memory = _for_each_hypothesis(w, memory, rows, frames, width)
    mask = _for_each_hypothesis(w, mask, rows, 1, frames)
    steps = w.node("Sub", size_of(w, hypotheses, 2), w.constant(1, "int64"))
    columns = w.node("Add", steps, w.constant(1, "int64"))
    hypotheses = _wenet.resize(w, hypotheses, rows, columns)
    lengths = _wenet.resize(w, lengths, rows)
    given, asked = _columns(w, hypotheses, 0, -1), _columns(w, hypotheses, 1, INT64_MAX)
    with w.scope("decoder"):
        scores = _layers(w, given, lengths, (memory, mask), config, style)

    log_probs = w.node("LogSoftmax", scores, axis=2)
    vocabulary = size_of(w, log_probs, 2)
    log_probs = _wenet.resize(w, log_probs, rows, steps, vocabulary)
    score = _scores(w, log_probs, asked, lengths, steps)
    log_probs = _wenet.resize(w, log_probs, batch, BEAM, steps, vocabulary)
    score = _wenet.resize(w, score, batch, BEAM)
    score = w.node("Add", score, w.node("Mul", ctc_score, w.constant(CTC_WEIGHT)))
    best = w.node("ArgMax", score, axis=1, keepdims=0)
    decoded = tokens - 1 if tokens else "T2"
    w.output(log_probs, "decoder_out", "float32", ("B", BEAM, decoded, config.vocabulary))
    w.output(best, "best_index", "int64", ("B",))
    return w


def _for_each_hypothesis(w: GraphWriter, x: str, *sizes: str | int) -> str:
    """Repeat [B, X, Y] along axis 1, once for each hypothesis, and reshape to `sizes`."""
    x = w.node("Expand", x, w.integers("Expand", [1, 1, 1]))
    x = w.node("Tile", x, w.constant([1, BEAM, 1], "int64"))
    return _wenet.resize(w, x, *sizes)


def _columns(w: GraphWriter, x: str, start: int, end: int) -> str:
    """x[:, start:end]; the exporter slices both axes."""
    return sliced(w, sliced(w, x, 0, 0, INT64_MAX), 1, start, end)


def _layers(
    w: GraphWriter,
    tokens: str,
    lengths: str,
    memory: tuple[str, str],
    config: Config,
    style: Style,
) -> str:
    """Tokens i64 [B * N, L] and their lengths i32 [B * N] -> scores f32 [B * N, L, V].

    memory: f32 [B * N, T, D] and its mask bool [B * N, 1, T].
    """
    mask = _wenet.valid_row(w, lengths, size_of(w, tokens, 1))
    mask = w.node("And", mask, _causal(w, size_of(w, mask, 2)))
    with w.scope("embed"):
        x = lookup(w, "0", config.vocabulary, config.width, tokens)
        with w.scope("1"):
            x = w.node("Mul", x, w.constant(math.sqrt(config.width)))
            x = w.node("Add", x, _wenet.positions(w, size_of(w, tokens, 1), config.width))
    for layer in range(config.layers):
        with w.scope(f"decoders.{layer}"):
            x = _layer(w, x, mask, memory, config, style)
    x = _wenet.norm(w, x, "after_norm", config, style)
    return linear(w, x, "output_layer", config.width, config.vocabulary)


def _causal(w: GraphWriter, length: str) -> str:
    """bool [1, L, L]: true where the column is no later than the row."""
    places = _wenet.arange(w, length)
    columns = _wenet.expand(w, places, length, length)
    return w.unsqueeze(w.node("LessOrEqual", columns, w.unsqueeze(places, -1)), 0)


def _layer(
    w: GraphWriter, x: str, mask: str, memory: tuple[str, str], config: Config, style: Style
) -> str:
    """A pre-norm decoder layer on [B * N, L, D]; 141 nodes when exploded."""
    normal = _wenet.norm(w, x, "norm1", config, style)
    x = w.node("Add", x, _attention(w, "self_attn", normal, (normal, mask), config))
    normal = _wenet.norm(w, x, "norm2", config, style)
    x = w.node("Add", x, _attention(w, "src_attn", normal, memory, config))
    hidden = _wenet.norm(w, x, "norm3", config, style)
    with w.scope("feed_forward"):
        hidden = w.node("Relu", linear(w, hidden, "w_1", config.width, config.inner))
        hidden = linear(w, hidden, "w_2", config.inner, config.width)
    return w.node("Add", x, hidden)


def _attention(w: GraphWriter, module: str, x: str, memory: tuple[str, str], config: Config) -> str:
    """Attention from [B * N, L, D] to `memory` and its mask; 50 nodes."""
    keys, mask = memory
    with w.scope(module):
        query, key, value = _wenet.query_key_value(w, x, keys, config)
        query = w.node("Transpose", query, perm=[0, 2, 1, 3])
        return _wenet.attend(w, w.node("MatMul", query, key), value, mask, config)


def _scores(w: GraphWriter, log_probs: str, asked: str, lengths: str, steps: str) -> str:
    """The sum of f32 [B * N, L, V] at the tokens i64 [B * N, L] within the length -> [B * N]."""
    valid = w.node("Not", _wenet.padding(w, lengths, steps))
    # A masked token is looked up as token 0, and its score is masked afterwards.
    index = w.node("Mul", asked, w.node("Cast", valid, to=7))
    score = w.node("GatherElements", log_probs, w.unsqueeze(index, 2), axis=2)
    score = w.node("Mul", w.squeeze(score, 2), w.node("Cast", valid, to=1))
    return w.reduce("ReduceSum", score, 1, keep=False)


def feeds(
    shape: tuple[int, ...],
    seed: int,
    size: str,
    masked_row: bool = False,
    tokens: int = _TOKENS,
) -> dict[str, Array]:
    """One array per input, for shape (B, T); tokens is the width of the hypotheses, L + 1.

    encoder_out and ctc_score lie in [-1, 1), encoder_out_lens in [1, T), token ids and
    lengths of hypotheses in [0, 10); the last hypothesis is always empty. With `masked_row` the
    last sample has neither frames nor tokens.
    """
    batch, frames = _checked(shape, tokens)
    stream = np.random.Generator(np.random.PCG64(seed))
    memory = _wenet.uniform(stream, batch, frames, CONFIGS[size].width)
    memory_lengths = _wenet.lengths_below(stream, frames, batch, masked_row)
    hypotheses = stream.integers(0, _IDS, size=(batch, BEAM, tokens), dtype=np.int64)
    lengths = stream.integers(0, min(_IDS, tokens), size=(batch, BEAM), dtype=np.int32)
    lengths[-1, 0 if masked_row else -1 :] = 0
    return {
        "encoder_out": memory,
        "encoder_out_lens": memory_lengths,
        "hyps_pad_sos_eos": hypotheses,
        "hyps_lens_sos": lengths,
        "ctc_score": _wenet.uniform(stream, batch, BEAM),
    }


def _checked(shape: tuple[int, ...], tokens: int) -> tuple[int, int]:
    if len(shape) != 2 or shape[0] < 1 or shape[1] < 1:
        raise ValueError(
            f"shape is {shape}, but must be (batch, frames) with batch >= 1 and frames >= 1"
        )
    _check_tokens(tokens)
    return shape[0], shape[1]


def _check_tokens(tokens: int) -> None:
    if not 2 <= tokens <= TABLE_ROWS:
        raise ValueError(f"tokens is {tokens}, but must be 2 to {TABLE_ROWS}")
