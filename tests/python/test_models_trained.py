"""Trained weights in place of generated ones, and the network that reads digits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planck import models

onnx = pytest.importorskip("onnx")

TRAINED = ["digits", "bert_classifier", "wenet_encoder", "vilbert"]


def nodes(path: Path) -> Any:
    return onnx.load(str(path)).graph


def initializers(path: Path) -> dict[str, Any]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in nodes(path).initializer}


@pytest.mark.parametrize("name", TRAINED)
def test_only_the_numbers_change(name: str, tmp_path: Path) -> None:
    models.write(name, tmp_path / "generated", "mini")
    models.write(name, tmp_path / "trained", "mini", trained=True)
    generated, trained = nodes(tmp_path / "generated"), nodes(tmp_path / "trained")
    assert list(generated.node) == list(trained.node)
    assert list(generated.input) == list(trained.input)
    assert list(generated.output) == list(trained.output)
    before, after = initializers(tmp_path / "generated"), initializers(tmp_path / "trained")
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    floats = [k for k, v in before.items() if v.dtype.kind == "f" and not k.endswith("pe")]
    assert all(not np.array_equal(before[name], after[name]) for name in floats)


def test_half_precision_loses_nothing(tmp_path: Path) -> None:
    for kind in ("fp16", "fp32"):
        models.write("bert_classifier", tmp_path / kind, "mini", trained=True, weights=kind)
    half, single = (
        [x for x in initializers(tmp_path / kind).values() if x.dtype.kind == "f"]
        for kind in ("fp16", "fp32")
    )
    for a, b in zip(half, single, strict=True):
        np.testing.assert_array_equal(a.astype(np.float32), b)


def test_the_seed_changes_nothing(tmp_path: Path) -> None:
    for seed in (0, 7):
        models.write("digits", tmp_path / str(seed), "mini", seed, trained=True)
    assert (tmp_path / "0").read_bytes() == (tmp_path / "7").read_bytes()


@pytest.mark.parametrize(
    ("name", "size", "trained", "message"),
    [
        ("bert_classifier", "full", True, "no trained weights 'bert_classifier' in size 'full'"),
        (
            "resnet50",
            "mini",
            True,
            "in size 'mini' there are bert_classifier, digits, digits_qat",
        ),
        ("vilbert", "mini", "qat", "no trained weights 'vilbert_qat'"),
        ("digits", "mini", "../digits", "no trained weights 'digits_../digits'"),
    ],
)
def test_weights_that_are_not_there(
    name: str, size: models.Size, trained: bool | str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        models.write(name, tmp_path / "x.onnx", size, trained=trained)
    assert not list(tmp_path.iterdir())


def test_another_shape_than_was_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"was trained as \[3, 64\], but this graph wants \[5, 64"):
        models.write("bert_classifier", tmp_path / "x", "mini", trained=True, labels=5)


def test_packaged_models_take_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it has no size, trained"):
        models.write("magika", tmp_path / "x.onnx", "mini", trained=True)


@pytest.mark.parametrize("size", ["full", "mini"])
def test_census_of_digits(size: models.Size) -> None:
    assert models.build("digits", size).census() == Counter(
        Conv=4, BatchNormalization=4, Relu=5, Add=1, MaxPool=1, Flatten=1, Gemm=2
    )


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_digits_run_in_onnxruntime(opset: int, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    models.write("digits", tmp_path / "x.onnx", "full", opset=opset)
    onnx.checker.check_model(str(tmp_path / "x.onnx"), full_check=True)
    session = ort.InferenceSession(str(tmp_path / "x.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, models.feeds("digits", (3,), seed=1))
    assert logits.shape == (3, 10)
    assert np.isfinite(logits).all()
    assert logits.std() > 0


@pytest.mark.parametrize("shape", [(), (0,), (2, 8)])
def test_digits_feeds_refuse_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be \\(batch,\\) with batch >= 1"):
        models.feeds("digits", shape)
