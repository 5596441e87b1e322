"""CRNN: the raw graph's counts, values in ONNX Runtime, steps without copies, refused shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import planck
from planck import models

ort = pytest.importorskip("onnxruntime")


def test_raw_census() -> None:
    census = models.build("crnn").census()
    layers = Counter(Conv=7, BatchNormalization=3, Relu=7, MaxPool=4, LSTM=2, LogSoftmax=1)
    assert {op: census[op] for op in layers} == layers


@pytest.mark.parametrize("opset", [12, 17])
def test_agrees_and_copies_nothing(opset: int, tmp_path: Path) -> None:
    path = tmp_path / "crnn.onnx"
    models.write("crnn", path, "mini", opset=opset)
    plan = planck.build(path, fallback="error")
    assert Counter(step.family for step in plan.steps) == Counter(
        conv=7, channelwise=4, linear=4, recurrent=2, softmax=1
    )
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in ((1, 32, 40), (3, 32, 100)):
        feeds = models.feeds("crnn", shape, size="mini")
        (want,) = session.run(None, feeds)
        got = plan.run(feeds)["output"]
        assert got.shape == (shape[0], shape[2] // 4 + 1, 37)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_every_tensor_agrees_with_double(model_path: Callable[..., Path]) -> None:
    plan = planck.build(model_path("crnn", "mini"))
    feeds = models.feeds("crnn", (2, 32, 24), size="mini")
    assert planck.compare(plan, "double", feeds).ok


@pytest.mark.parametrize("shape", [(1, 32), (1, 48, 32), (1, 32, 6), (0, 32, 32), (1, 32, 4)])
def test_refused_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(batch, 32, a multiple of 4 from 8 on\)"):
        models.feeds("crnn", shape)
