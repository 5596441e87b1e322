"""CRNN, a recogniser of text in lines: convolutions, two bidirectional LSTM layers, CTC classes.

B. Shi, X. Bai, C. Yao, "An End-to-End Trainable Neural Network for Image-based Sequence Recognition
and Its Application to Scene Text Recognition", arXiv 1507.05717, as PyTorch's model exports.
Shapes in the docstrings: B batch, W width, T steps of time, D hidden units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planck.models._parts import linear
from planck.models._vision import batch_norm, pictures, relu
from planck.models._weights import Array, Generated
from planck.models._writer import GraphWriter, Reader, WeightType

HEIGHT = 32
CLASSES = 37  # letters, digits, and the blank of CTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Channels of the seven convolutions, and the hidden units of both LSTMs."""

    channels: tuple[int, ...]
    hidden: int


CONFIGS = {
    "full": Config(channels=(64, 128, 256, 256, 512, 512, 512), hidden=256),
    "mini": Config(channels=(8, 8, 16, 16, 24, 24, 24), hidden=20),
}
_NORMALISED = (2, 4, 6)  # convolutions with a BatchNormalization behind them
# Behind a convolution: strides of the pool and its padding in front of and behind the width.
_POOLS = {0: (2, 0), 1: (2, 0), 3: (1, 1), 5: (1, 1)}


def recogniser(
    size: str, seed: int, opset: int | None, *, weights: WeightType = "fp32"
) -> GraphWriter:
    """Log probabilities of the classes for each step, opset 17 unless told otherwise.

    Input `input` f32 [B, 1, 32, W], output `output` f32 [B, T, 37] with T = W / 4 + 1 for a W that
    is a multiple of 4.
    """
    config = CONFIGS[size]
    w = GraphWriter("crnn", 17 if opset is None else opset, Generated(seed), weights)
    x = w.input("input", "float32", ("batch", 1, HEIGHT, "width"))
    with w.scope("cnn"):
        x = _features(w, x, config.channels)
    x = w.node("Transpose", w.squeeze(x, 2), perm=[0, 2, 1])
    hidden = config.hidden
    for layer, (inputs, outputs) in enumerate(
        ((config.channels[-1], hidden), (hidden, CLASSES)),
    ):
        with w.scope(f"rnn.{layer}"):
            x = _bidirectional(w, x, inputs, hidden)
            x = linear(w, x, "embedding", 2 * hidden, outputs, "lecun")
    x = w.node("LogSoftmax", x, axis=2)
    w.output(x, "output", "float32", ("batch", "steps", CLASSES))
    return w


def _features(w: GraphWriter, x: str, channels: tuple[int, ...]) -> str:
    """[B, 1, 32, W] -> [B, channels[-1], 1, T]."""
    inputs = 1
    for index, outputs in enumerate(channels):
        last = index == len(channels) - 1
        side, pad = (2, 0) if last else (3, 1)
        with w.scope(f"conv{index}"):
            parameters = [
                w.parameter("weight", (outputs, inputs, side, side), "he"),
                w.parameter("bias", (outputs,), "bias"),
            ]
            x = w.node(
                "Conv",
                x,
                *parameters,
                dilations=[1, 1],
                group=1,
                kernel_shape=[side, side],
                pads=[pad] * 4,
                strides=[1, 1],
            )
        if index in _NORMALISED:
            x = batch_norm(w, x, f"batchnorm{index}", outputs, "scale")
        x = relu(w, x)
        if index in _POOLS:
            stride, beside = _POOLS[index]
            with w.scope(f"pooling{index}"):
                pads = [0, beside, 0, beside]
                x = w.node(
                    "MaxPool",
                    x,
                    ceil_mode=0,
                    kernel_shape=[2, 2],
                    pads=pads,
                    strides=[2, stride],
                )
        inputs = outputs
    return x


def _bidirectional(w: GraphWriter, x: str, inputs: int, hidden: int) -> str:
    """[B, T, inputs] -> [B, T, 2 D]: an LSTM in both directions, from states of zeros."""
    with w.scope("rnn"):
        x = w.node("Transpose", x, perm=[1, 0, 2])
        rows = 4 * hidden
        weights = [
            w.folded("LSTM", (2, rows, inputs), _stacked("weight_ih_l0", (rows, inputs))),
            w.folded("LSTM", (2, rows, hidden), _stacked("weight_hh_l0", (rows, hidden))),
            w.folded("LSTM", (2, 2 * rows), _biases(rows)),
        ]
        batch = w.node("Gather", w.node("Shape", x), w.constant(1, "int64"), axis=0)
        two, width = w.constant([2], "int64"), w.constant([hidden], "int64")
        extents = w.node("Concat", two, w.unsqueeze(batch, 0), width, axis=0)
        zeros = w.node("ConstantOfShape", extents, value=np.zeros(1, dtype=np.float32))
        y, _, _ = w.node_with_outputs(
            3, "LSTM", x, *weights, "", zeros, zeros, direction="bidirectional", hidden_size=hidden
        )
        y = w.node("Transpose", y, perm=[0, 2, 1, 3])
        y = w.node("Reshape", y, w.constant([0, 0, -1], "int64"))
        return w.node("Transpose", y, perm=[1, 0, 2])


def _iofc(gates: Array) -> Array:
    """Gates in PyTorch's order i, f, c, o -> those in ONNX's, along axis 0."""
    i, f, c, o = np.split(gates, 4)
    return np.concatenate([i, o, f, c])


def _stacked(name: str, shape: tuple[int, int]) -> Callable[[Reader], Array]:
    """Both directions of a parameter, [2, *shape]."""
    return lambda read: np.stack(
        [_iofc(read(name + end, shape, "lecun")) for end in ("", "_reverse")]
    )


def _biases(rows: int) -> Callable[[Reader], Array]:
    """Both biases of both directions, [2, 2 * rows]."""
    return lambda read: np.stack(
        [
            np.concatenate(
                [_iofc(read(f"bias_{k}_l0{end}", (rows,), "bias")) for k in ("ih", "hh")]
            )
            for end in ("", "_reverse")
        ]
    )


def feeds(shape: tuple[int, ...], seed: int, size: str) -> dict[str, Array]:
    """Smooth random grey lines for shape = (batch, 32, width), in -1..1.

    Errors: ValueError unless the height is 32 and the width a multiple of 4 from 8 on.
    """
    if len(shape) != 3 or shape[0] < 1 or shape[1] != HEIGHT or shape[2] < 8 or shape[2] % 4:
        raise ValueError(f"shape is {shape}, but must be (batch, 32, a multiple of 4 from 8 on)")
    return {"input": np.ascontiguousarray(np.tanh(pictures(shape, seed)[:, :1]))}
