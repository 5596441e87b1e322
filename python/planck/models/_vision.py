"""What the vision models share: convolutions, the ResNet body, generated pictures.

Shapes in the docstrings: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planck.models._weights import Array, Kind
from planck.models._writer import GraphWriter

BATCHNORM_EPSILON = 1e-5
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)  # of ImageNet, by channel
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
_OCTAVES = ((4, 1.0), (16, 0.6), (48, 0.4), (160, 0.2))  # cells per side, contrast

# norm(w, x, module, channels, kind of the scale) -> value
Norm = Callable[[GraphWriter, str, str, int, Kind], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetConfig:
    """Blocks per stage, and the channels of the stem; the output has 32 times as many."""

    blocks: tuple[int, int, int, int]
    stem: int

    @property
    def channels(self) -> int:
        """Channels of the body's output."""
        return 32 * self.stem


RESNETS = {
    "full": ResNetConfig(blocks=(3, 4, 6, 3), stem=64),
    "mini": ResNetConfig(blocks=(2, 2, 2, 2), stem=8),
}


def conv(
    w: GraphWriter, x: str, module: str, channels: tuple[int, int], kernel: int, stride: int = 1
) -> str:
    """A square Conv without bias, [B, channels[0], H, W] -> [B, channels[1], H', W']."""
    with w.scope(module):
        weight = w.parameter("weight", (channels[1], channels[0], kernel, kernel), "he")
        return w.node("Conv", x, weight, **conv_attributes(kernel, stride))


def conv_attributes(kernel: int, stride: int) -> dict[str, int | list[int]]:
    """Attributes of a Conv with a square kernel that is centred on every output."""
    return {
        "dilations": [1, 1],
        "group": 1,
        "kernel_shape": [kernel, kernel],
        "pads": [kernel // 2] * 4,
        "strides": [stride, stride],
    }


def batch_norm(w: GraphWriter, x: str, module: str, channels: int, kind: Kind) -> str:
    """BatchNormalization in inference mode over the channels of [B, C, H, W]."""
    shape = (channels,)
    with w.scope(module):
        parameters = [
            w.parameter("weight", shape, kind),
            w.parameter("bias", shape, "bias"),
            w.parameter("running_mean", shape, "bias"),
            w.parameter("running_var", shape, "variance"),
        ]
        mode = {"training_mode": 0} if w.opset >= 14 else {}
        return w.node(
            "BatchNormalization", x, *parameters, epsilon=BATCHNORM_EPSILON, momentum=0.9, **mode
        )


def resnet_body(w: GraphWriter, x: str, config: ResNetConfig, norm: Norm) -> str:
    """The layers of a ResNet v1.5 before pooling: [B, 3, H, W] -> [B, C, H/32, W/32]."""
    x = conv(w, x, "conv1", (3, config.stem), kernel=7, stride=2)
    x = relu(w, norm(w, x, "bn1", config.stem, "scale"))
    with w.scope("maxpool"):
        x = w.node(
            "MaxPool", x, ceil_mode=0, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]
        )
    inputs = config.stem
    for stage, blocks in enumerate(config.blocks):
        inner = config.stem << stage
        for block in range(blocks):
            with w.scope(f"layer{stage + 1}.{block}"):
                stride = 2 if stage > 0 and block == 0 else 1
                x = _bottleneck(w, x, (inputs, inner), stride, norm)
            inputs = 4 * inner
    return x


def _bottleneck(w: GraphWriter, x: str, channels: tuple[int, int], stride: int, norm: Norm) -> str:
    """Convolutions 1x1, 3x3 with the stride, 1x1, plus x; a 1x1 convolution fits x if need be."""
    inputs, inner = channels
    outputs = 4 * inner
    y = relu(w, norm(w, conv(w, x, "conv1", (inputs, inner), 1), "bn1", inner, "scale"))
    y = relu(w, norm(w, conv(w, y, "conv2", (inner, inner), 3, stride), "bn2", inner, "scale"))
    y = norm(w, conv(w, y, "conv3", (inner, outputs), 1), "bn3", outputs, "residual_scale")
    if inputs != outputs or stride != 1:
        with w.scope("downsample"):
            x = conv(w, x, "0", (inputs, outputs), 1, stride)
            x = norm(w, x, "1", outputs, "scale")
    return relu(w, w.node("Add", y, x))


def relu(w: GraphWriter, x: str) -> str:
    """Relu, in a scope of its own."""
    with w.scope("relu"):
        return w.node("Relu", x)


def pictures(shape: tuple[int, ...], seed: int) -> Array:
    """Smooth random pictures in ImageNet's normalisation, f32 [B, 3, H, W]."""
    batch, height, width = shape
    stream = np.random.Generator(np.random.PCG64(seed))
    light = np.full((batch, 3, height, width), 0.5, dtype=np.float32)
    for cells, contrast in _OCTAVES:
        grid = stream.random((batch, 3, cells, cells), dtype=np.float32) - np.float32(0.5)
        rows, columns = _interpolation(height, cells), _interpolation(width, cells)
        light += np.float32(contrast) * (rows @ grid @ columns.T)
    return (light.clip(0, 1) - MEAN[:, None, None]) / DEVIATION[:, None, None]


def _interpolation(size: int, cells: int) -> Array:
    """The matrix f32 [size, cells] that interpolates linearly between the cells."""
    place = np.linspace(0, cells - 1, size, dtype=np.float32)[:, None]
    distance = np.abs(place - np.arange(cells, dtype=np.float32))
    return np.maximum(np.float32(1) - distance, np.float32(0))


def checked_shape(shape: tuple[int, ...], image: tuple[int, int]) -> tuple[int, int, int]:
    """shape as (batch, height, width). Errors: ValueError unless the picture has the one size."""
    if len(shape) != 3 or shape[0] < 1 or shape[1:] != image:
        height, width = image
        raise ValueError(f"shape is {shape}, but must be (batch, {height}, {width}), batch >= 1")
    return shape[0], shape[1], shape[2]
