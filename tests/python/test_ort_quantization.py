"""Quantisation scripts written for ONNX Runtime: the same text on both, and what is refused."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planck
import planck.models
from planck.ort import quantization

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

SAMPLES = [planck.models.feeds("digits", (16,), size="mini", seed=seed) for seed in range(4)]
TEST = planck.models.feeds("digits", (64,), size="mini", seed=9)
SCRIPT = """
class Reader(quantization.CalibrationDataReader):
    def __init__(self):
        self.feeds = iter(samples)

    def get_next(self):
        return next(self.feeds, None)

quantization.quantize_static(
    model,
    output,
    Reader(),
    quant_format=quantization.QuantFormat.QDQ,
    per_channel=True,
    activation_type=quantization.QuantType.QInt8,
    weight_type=quantization.QuantType.QInt8,
    calibrate_method=quantization.CalibrationMethod.MinMax,
    nodes_to_exclude=exclude,
)
"""


@pytest.fixture(scope="module")
def digits(model_path: Callable[..., Path]) -> Path:
    return model_path("digits", trained=True)


def ops(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("module", ["onnxruntime.quantization", "planck.ort.quantization"])
def test_one_script_for_both(module: str, digits: Path, tmp_path: Path) -> None:
    names = {
        "quantization": importlib.import_module(module),
        "samples": SAMPLES,
        "model": str(digits),
        "output": str(tmp_path / "int8.onnx"),
        "exclude": ["/fc2/Gemm"],
    }
    exec(SCRIPT, names)
    assert "QuantizeLinear" in ops(tmp_path / "int8.onnx")
    want = planck.build(digits).run(TEST)["logits"]
    session = ort.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    ours = planck.build(tmp_path / "int8.onnx", precision="int8").run(TEST)["logits"]
    [theirs] = session.run(["logits"], TEST)
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.95
    # Random pictures lie near the borders between digits.
    assert (ours.argmax(axis=1) == want.argmax(axis=1)).mean() > 0.85


def test_readers_of_onnxruntime_have_no_length(digits: Path) -> None:
    """Theirs raise NotImplementedError where a length is asked for."""
    names: dict[str, Any] = {
        "quantization": importlib.import_module("onnxruntime.quantization"),
        "samples": SAMPLES,
    }
    exec(SCRIPT.split("\nquantization.")[0], names)
    seen: list[float] = []
    calibration = planck.calibrate(
        digits, names["Reader"](), progress=lambda stage, done: seen.append(done)
    )
    assert calibration.samples == 64 and len(seen) == 4


def test_choices_by_name_and_type(digits: Path, tmp_path: Path) -> None:
    def quantised(**options: Any) -> set[str]:
        out = tmp_path / "int8.onnx"
        quantization.quantize_static(digits, out, iter(SAMPLES), **options)
        graph = onnx.load(out).graph
        scaled = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
        weighted = [n for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
        return {n.name for n in weighted if n.input[1] in scaled}

    everything = quantised()
    convolutions = quantised(op_types_to_quantize=["Conv"])
    assert convolutions and convolutions < everything
    assert all("conv" in name for name in convolutions)
    assert quantised(nodes_to_exclude=sorted(convolutions)) == everything - convolutions
    assert "/fc2/Gemm" not in everything  # logits
    assert quantised(nodes_to_quantize=["/fc2/Gemm"]) == {"/fc2/Gemm"}


def test_dynamic(tmp_path: Path, model_path: Callable[..., Path]) -> None:
    bert = model_path("bert_encoder")
    quantization.quantize_dynamic(bert, tmp_path / "int8.onnx")
    assert "DynamicQuantizeLinear" in ops(tmp_path / "int8.onnx")
    feeds = planck.models.feeds("bert_encoder", (2, 6), size="mini")
    planck.build(tmp_path / "int8.onnx").run(feeds)
    quantization.quant_pre_process(bert, tmp_path / "same.onnx")
    assert ops(tmp_path / "same.onnx") == ops(bert)


def test_what_is_not_written(
    digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    static = quantization.quantize_static
    out = tmp_path / "int8.onnx"
    for options, text in (
        ({"quant_format": quantization.QuantFormat.QOperator}, "quant_format is QuantFormat.QOp"),
        ({"weight_type": quantization.QuantType.QInt4}, "weight_type is QuantType.QInt4"),
        ({"activation_type": quantization.QuantType.QInt16}, "QInt8 and QuantType.QUInt8"),
        ({"calibrate_method": quantization.CalibrationMethod.Distribution}, "calibrate_method"),
    ):
        with pytest.raises(planck.UnsupportedError, match=text) as error:
            static(digits, out, iter(SAMPLES), **options)
        assert "NOT_IMPLEMENTED" in str(error.value) and not out.exists()
    with caplog.at_level(logging.WARNING, "planck"):
        static(
            digits, out, iter(SAMPLES), reduce_range=True, nodes_to_exclude=["/nothing"],
            extra_options={"WeightSymmetric": True},
        )  # fmt: skip
    for text in ("reduce_range=True has no effect", "no node '/nothing'", "WeightSymmetric=True"):
        assert text in caplog.text
    with pytest.raises(planck.FileError, match="cannot write"):
        static(digits, tmp_path / "no" / "where.onnx", iter(SAMPLES))
