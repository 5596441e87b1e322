"""A small residual network that reads handwritten digits of 8 x 8 pixels, as torch exports it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planck.models._parts import gemm
from planck.models._vision import batch_norm, conv, relu
from planck.models._weights import Array, Generated
from planck.models._writer import GraphWriter, WeightType

SIDE, CLASSES = 8, 10
LEVELS = 16  # a pixel is a count of dots, 0 to 16, divided by 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Channels of the two stages, and the width of the hidden fully connected layer."""

    stages: tuple[int, int]
    hidden: int


CONFIGS = {
    "full": Config(stages=(32, 64), hidden=256),
    "mini": Config(stages=(16, 32), hidden=64),
}


def classifier(
    size: str, seed: int, opset: int | None, *, weights: WeightType = "fp32"
) -> GraphWriter:
    """Conv, a residual block, pooling, Conv, two fully connected layers; opset 13 by default.

    Input `image` f32 [B, 1, 8, 8] in 0..1, output `logits` f32 [B, 10]. Every Conv is followed by
    a BatchNormalization and, but for the end of the block, a Relu.
    """
    config = CONFIGS[size]
    first, second = config.stages
    w = GraphWriter("digits", 13 if opset is None else opset, Generated(seed), weights)
    x = w.input("image", "float32", ("batch", 1, SIDE, SIDE))
    x = relu(w, _conv_norm(w, x, "1", (1, first)))
    y = relu(w, _conv_norm(w, x, "2", (first, first)))
    y = _conv_norm(w, y, "3", (first, first))
    x = relu(w, w.node("Add", y, x))
    with w.scope("pool"):
        x = w.node("MaxPool", x, ceil_mode=0, kernel_shape=[2, 2], pads=[0] * 4, strides=[2, 2])
    x = relu(w, _conv_norm(w, x, "4", (first, second)))
    x = w.node("Flatten", x, axis=1)
    x = relu(w, gemm(w, x, "fc1", second * (SIDE // 2) ** 2, config.hidden))
    w.output(gemm(w, x, "fc2", config.hidden, CLASSES), "logits", "float32", ("batch", CLASSES))
    return w


def _conv_norm(w: GraphWriter, x: str, number: str, channels: tuple[int, int]) -> str:
    x = conv(w, x, f"conv{number}", channels, kernel=3)
    return batch_norm(w, x, f"bn{number}", channels[1], "scale")


def feeds(shape: tuple[int, ...], seed: int, size: str) -> dict[str, Array]:
    """Random pixels for shape = (batch,): about half of them empty, as in scanned digits."""
    if len(shape) != 1 or shape[0] < 1:
        raise ValueError(f"shape is {shape}, but must be (batch,) with batch >= 1")
    stream = np.random.Generator(np.random.PCG64(seed))
    dots = stream.integers(-LEVELS, LEVELS, size=(*shape, 1, SIDE, SIDE), endpoint=True)
    return {"image": (np.maximum(dots, 0) / LEVELS).astype(np.float32)}
