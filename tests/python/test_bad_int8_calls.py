"""Calls about int8 that cannot be right: the class of the error, the name in it, nothing lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
import planck.models
from planck import Calibration, Scales, TensorScale

onnx = pytest.importorskip("onnx")

HEADER = b"TRT-8600-EntropyCalibration2\n"
FEEDS = planck.models.feeds("bert_encoder", (32, 5), size="mini")
IDS = FEEDS["input_ids"]


@pytest.fixture(scope="module")
def bert(model_path: Callable[..., Path]) -> Path:
    return model_path("bert_encoder")


@pytest.fixture(scope="module")
def calibrated(bert: Path) -> Calibration:
    return planck.calibrate(bert, [FEEDS])


@pytest.fixture(autouse=True)
def nothing_lost(calibrated: Calibration) -> Any:
    """Whatever fails, the calibration is the same after it and still gives scales."""
    before = calibrated.to_bytes()
    yield
    assert calibrated.to_bytes() == before
    assert calibrated.solve().names == calibrated.names


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({k: v for k, v in FEEDS.items() if k != "attention_mask"}, "'attention_mask' is missing"),
        ({**FEEDS, "length": IDS}, "the model has no input 'length'"),
        ({**FEEDS, "input_ids": IDS.astype(np.float32)}, "input 'input_ids': wrong dtype"),
        ({**FEEDS, "input_ids": IDS[0]}, "input 'input_ids': rank 1 instead of 2"),
        ({**FEEDS, "attention_mask": IDS[:1]}, "input 'attention_mask': 'batch_size' is 1"),
    ],
)
def test_feeds_that_the_model_does_not_take(bert: Path, feeds: Any, text: str) -> None:
    with pytest.raises(planck.FeedError, match=text) as error:
        planck.calibrate(bert, [FEEDS, feeds])
    assert "in batch 1 of the calibration data" in str(error.value)


def test_no_samples(bert: Path) -> None:
    with pytest.raises(planck.CalibrationError, match="gave no batch"):
        planck.calibrate(bert, [])
    with pytest.raises(planck.CalibrationError, match="1 batches of 0 samples"):
        planck.calibrate(bert, [{name: array[:0] for name, array in FEEDS.items()}])


def test_few_samples_are_warned_of(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "planck"):
        planck.calibrate(bert, [{name: array[:31] for name, array in FEEDS.items()}])
        assert "calibrated on 31 samples; fewer than 32" in caplog.text
        caplog.clear()
        planck.calibrate(bert, [FEEDS])
        assert "fewer than" not in caplog.text


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("percentile", [0, -1, 100.5, float("nan")])
def test_percentiles_outside_of_0_to_100(
    bert: Path, calibrated: Calibration, percentile: float
) -> None:
    text = f"percentile is {percentile:g}; expected more than 0, at most 100"
    with pytest.raises(planck.UsageError, match=text):
        planck.calibrate(bert, [FEEDS], "percentile", percentile=percentile)
    with pytest.raises(planck.UsageError, match=text):
        calibrated.solve("percentile", percentile=percentile)


def test_unknown_methods(bert: Path, calibrated: Calibration) -> None:
    text = "method is 'entrpy'; expected one of auto, entropy, minmax"
    with pytest.raises(planck.UsageError, match=text):
        planck.calibrate(bert, [FEEDS], "entrpy")  # type: ignore[arg-type]
    with pytest.raises(planck.UsageError, match=text):
        calibrated.solve("entrpy")


def test_merging_what_does_not_belong_together(
    bert: Path, calibrated: Calibration, model_path: Callable[..., Path]
) -> None:
    other = planck.calibrate(model_path("bert_encoder", seed=3), [FEEDS])
    with pytest.raises(planck.CalibrationError, match="the model's hash is"):
        calibrated.merge(other)
    with pytest.raises(planck.CalibrationError, match="nonfinite is error here, ignore there"):
        calibrated.merge(planck.calibrate(bert, [FEEDS], nonfinite="ignore"))
    with pytest.raises(planck.UsageError, match="not Scales: scales alone have no histograms"):
        calibrated.merge(calibrated.solve())  # type: ignore[arg-type]


def test_solving_scales_without_histograms(bert: Path, calibrated: Calibration) -> None:
    scales = calibrated.solve()
    with pytest.raises(planck.UsageError, match="have no histograms to solve by 'minmax'"):
        scales.solve("minmax")
    with pytest.raises(planck.UsageError, match="have no histograms to solve"):
        planck.build(bert, precision="int8", calibration=scales)
    with pytest.raises(planck.UsageError, match="calibration is str; expected"):
        planck.build(bert, precision="int8", calibration="model.calibration")


# --- scales --------------------------------------------------------------------------------------


def test_caches_that_cover_no_tensor(bert: Path) -> None:
    known = "/encoder/layer.0/intermediate/dense/MatMul_output_0"
    cache = HEADER + known.replace("output", "outpt").encode() + b": 3c010204\n"
    with pytest.raises(planck.CalibrationError, match="covers no tensor") as error:
        planck.import_scales(cache, model=bert)
    assert known in str(error.value)
    with pytest.raises(planck.CalibrationError, match=f"the nearest names.*'{known}x'"):
        planck.build(bert, precision="int8", scales=Scales.from_ranges({known + "x": 1.0}))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scales_that_cannot_be(scale: float) -> None:
    with pytest.raises(planck.CalibrationError, match=f"tensor 'x' has the scale {scale}"):
        TensorScale("x", [scale], [0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bits", "text"), [("bf800000", "-1"), ("7fc00000", "nan"), ("7f800000", "inf")]
)
def test_scales_of_a_cache_that_cannot_be(bits: str, text: str) -> None:
    with pytest.raises(planck.CalibrationError, match=f"the scale of 'x' is {text}"):
        planck.import_scales(HEADER + b"x: " + bits.encode() + b"\n")


def test_a_zero_in_a_cache_is_a_dead_tensor() -> None:
    scales = planck.import_scales(HEADER + b"x: 00000000\n")
    assert scales["x"].note == "dead" and scales["x"].scale[0] == 1
    assert any("have the scale 0" in note for note in scales.notes)


def test_zero_points_that_cannot_be() -> None:
    for dtype, point in (("u8", 256), ("u8", -1), ("s8", 128)):
        with pytest.raises(planck.CalibrationError, match=f"'x' has the zero point {point}"):
            TensorScale("x", [1.0], [point], dtype)  # type: ignore[arg-type]
    with pytest.raises(planck.CalibrationError, match="'x' has zero points of type float64"):
        TensorScale("x", [1.0], [0.5])  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "axis"), [(64, 7), (64, 0), (64, -9), (63, 1)])
def test_grids_that_do_not_fit_their_weight(
    bert: Path, calibrated: Calibration, count: int, axis: int
) -> None:
    scales = dict(calibrated.solve())
    weight = planck.placement(bert, scales).weights[0].name
    steps, points = np.full(count, 0.01), np.zeros(count, int)
    scales[weight] = TensorScale(weight, steps, points, "s8", axis)
    text = f"{weight}' does not fit it: {count} scales of s8 along axis {axis} for 64 channels"
    with pytest.raises(planck.CalibrationError, match=text):
        planck.build(bert, precision="int8", scales=scales)
    with pytest.raises(planck.CalibrationError, match=text):
        planck.quantize(bert, scales)
    scales[weight] = TensorScale(weight, np.full(64, 0.01), np.zeros(64, int), "s8", -1)
    assert planck.placement(bert, scales).weights[0].axis == 1  # -1 is the last


def test_axes_that_an_activation_does_not_have(bert: Path, calibrated: Calibration) -> None:
    scales = dict(calibrated.solve())
    name = planck.placement(bert, scales).activations[0].name
    scales[name] = TensorScale(name, np.full(64, 0.1), np.zeros(64, int), "s8", 3)
    with pytest.raises(planck.CalibrationError, match=f"{name} lies along axis 3; .* has 3 axes"):
        planck.placement(bert, scales)


def test_ranges_of_a_training_that_bind_nothing(bert: Path, tmp_path: Path) -> None:
    ranges = {
        "decoder.out._input_quantizer._amax": np.float32(1),
        "decoder.out._weight_quantizer._amax": np.ones((64, 1), np.float32),
    }
    np.savez(tmp_path / "qat.npz", **ranges)  # type: ignore[arg-type]
    with pytest.raises(planck.CalibrationError, match="no weight belongs to"):
        planck.import_scales(tmp_path / "qat.npz", model=bert)


# --- models that are quantised already -----------------------------------------------------------


def dequantised(element: int, scale: Any, zero: Any = None, **attributes: int) -> bytes:
    """x [6, 4] of a type of ONNX through one DequantizeLinear."""
    arrays = {"scale": np.asarray(scale, np.float32)} | ({} if zero is None else {"zero": zero})
    helper = onnx.helper
    node = helper.make_node("DequantizeLinear", ["x", *arrays], ["y"], "dq", **attributes)
    x = helper.make_tensor_value_info("x", element, [6, 4])
    y = helper.make_tensor_value_info("y", 1, None)
    constants = [onnx.numpy_helper.from_array(a, n) for n, a in arrays.items()]
    graph = helper.make_graph([node], "dq", [x], [y], constants)
    opsets = [helper.make_opsetid("", 21)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return data


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (dequantised(1, 1.0), "reads f32.6,4., nothing quantized"),
        (dequantised(3, np.ones(4), axis=5), "axis 5 is outside"),
        (dequantised(3, np.ones(3), axis=1), "scales .3. for s8.6,4. along axis 1, expected .4."),
        (dequantised(3, np.ones((6, 3)), axis=1, block_size=2), "expected .6,2."),
        (dequantised(3, 1.0, np.uint8(1)), "input 2 is u8.., expected s8"),
    ],
)
def test_files_that_break_the_rules_of_onnx(model: bytes, text: str) -> None:
    """What a file holds is its own fault, not that of a call: GraphError, with the node."""
    with pytest.raises(planck.GraphError, match=text) as error:
        planck.build(model, precision="int8")
    assert "dq (DequantizeLinear)" in str(error.value)


# --- precisions ----------------------------------------------------------------------------------


def test_int8_without_scales(bert: Path) -> None:
    with pytest.raises(planck.PrecisionError, match="needs scales") as error:
        planck.build(bert, precision="int8")
    assert str(bert) in str(error.value)


def test_the_search_for_precisions_is_not_there_yet(bert: Path) -> None:
    """`max_drop`, `metric` and `data` come with it; until then it is refused by its name."""
    with pytest.raises(planck.PrecisionError, match="'auto' has no kernels yet"):
        planck.build(bert, precision="auto")
    with pytest.raises(TypeError, match="max_drop"):
        planck.build(bert, precision="auto", max_drop=0.01)  # type: ignore[call-arg]
