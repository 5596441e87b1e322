"""ResNet-50 v1.5, a classifier of pictures, as torchvision's model exports."""

from __future__ import annotations

from planck.models._parts import gemm
from planck.models._vision import (
    RESNETS,
    batch_norm,
    checked_shape,
    pictures,
    resnet_body,
)
from planck.models._weights import Array, Generated
from planck.models._writer import GraphWriter, WeightType

CLASSES = 1000
IMAGES = {"full": (224, 224), "mini": (64, 64)}


def classifier(
    size: str, seed: int, opset: int | None, *, weights: WeightType = "fp32"
) -> GraphWriter:
    """ResNet-50 in inference mode, opset 12 unless told otherwise.

    Input `input` f32 [B, 3, H, W], output `output` f32 [B, 1000]; the picture is 224 x 224, in
    mini 64 x 64. Every Conv is followed by a BatchNormalization: nothing was fused by the exporter.
    """
    config, (height, width) = RESNETS[size], IMAGES[size]
    w = GraphWriter("resnet50", 12 if opset is None else opset, Generated(seed), weights)
    x = w.input("input", "float32", ("batch", 3, height, width))
    x = resnet_body(w, x, config, batch_norm)
    with w.scope("avgpool"):
        x = w.node("GlobalAveragePool", x)
    x = w.node("Flatten", x, axis=1)
    x = gemm(w, x, "fc", config.channels, CLASSES)
    w.output(x, "output", "float32", ("batch", CLASSES))
    return w


def feeds(shape: tuple[int, ...], seed: int, size: str) -> dict[str, Array]:
    """Smooth random pictures for shape = (batch, height, width), normalised as ImageNet's."""
    return {"input": pictures(checked_shape(shape, IMAGES[size]), seed)}
