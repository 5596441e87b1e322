"""ResNet-50: the raw graph's counts and layout, its bytes, values in ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planck import models

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def run(path: Path, feeds: dict[str, Any]) -> Any:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, feeds)
    return output


def test_raw_census() -> None:
    assert models.build("resnet50").census() == Counter(
        Conv=53, BatchNormalization=53, Relu=49, Add=16, MaxPool=1, GlobalAveragePool=1,
        Flatten=1, Gemm=1,
    )  # fmt: skip


def test_parameters_have_the_names_of_torchvision() -> None:
    tensors = {t.name: t for t in models.build("resnet50").initializers}
    statistics = [name for name in tensors if ".running_" in name]
    learned = sum(t.nbytes // 4 for t in tensors.values()) - sum(
        tensors[name].nbytes // 4 for name in statistics
    )
    assert learned == 25_557_032
    assert len(statistics) == 106
    assert tensors["conv1.weight"].shape == (64, 3, 7, 7)
    assert tensors["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert tensors["layer4.2.bn3.running_var"].shape == (2048,)
    assert tensors["fc.weight"].shape == (1000, 2048)


def test_the_stride_is_in_the_3x3_convolution() -> None:
    """Version 1.5; version 1 has it in the first convolution of a block."""
    convs = [node for node in models.build("resnet50").nodes if node.op == "Conv"]
    strided = [node for node in convs if node.attributes["strides"] == [2, 2]]
    names = [node.name for node in strided]
    assert names == [
        "/conv1/Conv",
        *(
            f"/layer{stage}.0/{part}/Conv"
            for stage in (2, 3, 4)
            for part in ("conv2", "downsample/0")
        ),
    ]
    assert all(
        node.attributes["kernel_shape"] == [3, 3] for node in strided if "conv2" in node.name
    )


@pytest.mark.parametrize("size", ["full", "mini"])
def test_every_conv_is_followed_by_batchnorm(size: models.Size) -> None:
    nodes = models.build("resnet50", size).nodes
    readers = {value: node for node in nodes for value in node.inputs}
    convs = [node for node in nodes if node.op == "Conv"]
    assert {readers[node.outputs[0]].op for node in convs} == {"BatchNormalization"}


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for index, seed in enumerate([5, 5, 6]):
        models.write("resnet50", tmp_path / str(index), "mini", seed)
    first, again, other = ((tmp_path / str(i)).read_bytes() for i in range(3))
    assert first == again
    assert first != other


@pytest.mark.parametrize("opset", range(11, 19))
def test_opsets_agree(opset: int, tmp_path: Path) -> None:
    models.write("resnet50", tmp_path / "plain.onnx", "mini")
    models.write("resnet50", tmp_path / "other.onnx", "mini", opset=opset)
    onnx.checker.check_model(onnx.load(tmp_path / "other.onnx"), full_check=True)
    feeds = models.feeds("resnet50", (2, 64, 64), size="mini")
    want, got = (run(tmp_path / f"{name}.onnx", feeds) for name in ("plain", "other"))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(("size", "side"), [("mini", 64), ("full", 224)])
def test_outputs_are_sane(size: models.Size, side: int, model_path: Callable[..., Path]) -> None:
    path = model_path("resnet50", size)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    feeds = models.feeds("resnet50", (3, side, side), size=size)
    logits = run(path, feeds)
    assert logits.shape == (3, 1000)
    assert np.isfinite(logits).all()
    assert 0.02 < logits.std() < 20
    assert logits.std(axis=0).mean() > logits.std() / 100  # the picture is not lost on the way
    alone = run(path, {"input": feeds["input"][1:2]})
    np.testing.assert_allclose(alone[0], logits[1], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opset": 19}, "opset is 19, but must be 11 to 18"),
        ({"size": "tiny"}, "size is 'tiny'"),
        ({"weights": "int8"}, "weights is 'int8'"),
        ({"layernorm": "op"}, "no option 'layernorm'; the options are weights"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        models.write(**{"name": "resnet50", "path": tmp_path / "m", "size": "mini", **arguments})


@pytest.mark.parametrize("shape", [(1, 224), (0, 224, 224), (1, 64, 64)])
def test_bad_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(batch, 224, 224\)"):
        models.feeds("resnet50", shape)
