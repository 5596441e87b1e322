"""Pictures of reports show the numbers of the reports."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
import planck.models
from planck import _core

matplotlib = pytest.importorskip("matplotlib", reason="plots need matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

SKEWED = "/relu/Relu_output_0"


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plots") / "digits.onnx"
    planck.models.write("digits", path, size="mini", trained=True)
    return path


@pytest.fixture(scope="module")
def feeds() -> dict[str, Any]:
    pixels = np.random.default_rng(0).random((32, 1, 8, 8)).astype(np.float32)
    return {"image": pixels}


@pytest.fixture(scope="module")
def calibration(digits: Path, feeds: dict[str, Any]) -> planck.Calibration:
    return planck.calibrate(digits, [feeds])


def labels(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_histogram_has_every_element_and_every_threshold(calibration: planck.Calibration) -> None:
    axes = calibration.plot.histogram(SKEWED)
    facts = calibration.histogram(SKEWED)
    drawn = sum(bar.get_height() for bar in axes.patches)
    assert drawn == facts["count"] - facts["zeros"] > 0
    left = min(bar.get_x() for bar in axes.patches)
    right = max(bar.get_x() + bar.get_width() for bar in axes.patches)
    assert left <= facts["min"] and facts["max"] <= right
    methods = [name for name, _ in _core.calibrators()]
    assert [label.split(":")[0] for label in labels(axes)] == methods
    row = next(r for r in calibration.table("percentile") if r.grid.name == SKEWED)
    assert f"percentile: {row.grid.threshold:.4g}, clips {row.clipped:.2g}" in labels(axes)
    thresholds = {line.get_xdata()[0] for line in axes.lines}
    assert row.grid.threshold in thresholds and -row.grid.threshold not in thresholds


def test_a_signed_tensor_has_both_ends(calibration: planck.Calibration) -> None:
    axes = calibration.plot.histogram("/fc1/Gemm_output_0", ["minmax"])
    low, high = sorted(line.get_xdata()[0] for line in axes.lines)
    assert low == -high
    assert sum(bar.get_height() for bar in axes.patches) > 0


def test_curves_are_those_of_the_calibration(calibration: planck.Calibration) -> None:
    axes = calibration.plot.kl(SKEWED)
    thresholds, divergences = calibration.divergence(SKEWED)
    least = thresholds[np.nanargmin(np.where(np.isfinite(divergences), divergences, np.inf))]
    assert labels(axes) == [f"least: {least:.4g}"]
    axes = calibration.plot.mse(SKEWED, methods=["minmax", "mse"])
    curve, minmax, mse = axes.lines
    assert (np.diff(curve.get_xdata()) > 0).all()
    assert np.allclose(
        curve.get_ydata(), calibration.error(SKEWED, curve.get_xdata().tolist()), rtol=0
    )
    assert mse.get_ydata()[0] <= minmax.get_ydata()[0]


def test_given_axes_are_drawn_on(calibration: planck.Calibration) -> None:
    figure, both = pyplot.subplots(2)
    assert calibration.plot.kl(SKEWED, axes=both[0]) is both[0]
    assert calibration.plot.mse(SKEWED, axes=both[1]) is both[1]
    assert pyplot.get_fignums() == [figure.number]


def test_ranges_of_channels(digits: Path, feeds: dict[str, Any]) -> None:
    calibration = planck.calibrate(digits, [feeds], per_channel=[SKEWED])
    axes = calibration.plot.channels(SKEWED)
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(
        calibration.channel_absmax(SKEWED).tolist()
    )
    pytest.importorskip("onnx")
    placement = planck.placement(digits, calibration.solve())
    weight = placement.weights[0]
    axes = placement.plot.weights(weight.name)
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(
        (127 * weight.scale).tolist()
    )
    with pytest.raises(planck.UsageError, match="no weight 'w' is quantised"):
        placement.plot.weights("w")


def test_sqnr_and_shares(
    digits: Path, feeds: dict[str, Any], calibration: planck.Calibration
) -> None:
    plan = planck.build(digits, precision="int8", scales=calibration.solve())
    report = planck.compare(plan, "double", feeds)
    axes = report.plot.sqnr()
    rows = [row for row in report.rows if row.floating]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [min(row.cumulative.sqnr_db, 160.0) for row in rows]
    assert f"limit {report.min_sqnr_db:g} dB" in labels(axes)
    shares = planck.int8_report(plan, feeds, runs=1)
    axes = shares.plot.shares()
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(shares.total)


def test_unknown_tensors(calibration: planck.Calibration) -> None:
    for picture in (calibration.plot.histogram, calibration.plot.kl, calibration.plot.mse):
        with pytest.raises(planck.UsageError, match="no_such"):
            picture("no_such")


def test_without_matplotlib(
    calibration: planck.Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(planck.UsageError, match=r"pip install \"planck\[plot\]\""):
        calibration.plot.kl(SKEWED)
