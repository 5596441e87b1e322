"""`planck.models.report`: a plan beside ONNX Runtime on the feeds of its model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planck import models
from planck.models import _report

pytest.importorskip("onnxruntime")

GRID = [(b, t) for b in (1, 4, 16) for t in (16, 64, 256)]


class Echo:
    """Stands in for a plan: gives what ONNX Runtime gives, `error` added to the floats."""

    def __init__(self, path: Path, reference: Callable[..., dict[str, Any]], error: float) -> None:
        self.report = {"model": str(path)}
        self.runs = 0
        self._path, self._reference, self._error = path, reference, error

    def run(self, feeds: dict[str, Any], out: dict[str, Any] | None = None) -> dict[str, Any]:
        self.runs += 1
        if out is None:
            out = self._reference(self._path, feeds)
            for value in out.values():
                if value.dtype == np.float32:
                    value += self._error
        return out


def report(plan: Any, name: str, **options: Any) -> list[str]:
    return models.report(plan, name, size="mini", **options).splitlines()


def test_grids() -> None:
    assert _report.GATES["wenet_encoder"].shapes == _report.GATES["wenet_decoder"].shapes == GRID
    assert _report.GATES["vilbert"].shapes == [(8,), (16,), (32,), (64,), (128,), (256,)]
    detector = _report.GATES["dab_detr"]
    assert detector.grid("full") == [(1, 800, 800)] and detector.grid("mini") == [(1, 128, 160)]
    assert [shape[0] for shape in _report.GATES["bert_encoder"].grid("mini")] == [
        *(1, 8, 16, 32, 64, 128, 256)
    ]


def test_counted_samples() -> None:
    gate = _report.GATES["dab_detr"]
    first, *others = gate.feeds("dab_detr", "mini", (1, 128, 160), 0, samples=3)
    assert len(others) == 2
    expected = models.feeds("dab_detr", (1, 128, 160), 5, "mini")["inputs"]
    assert np.array_equal(first["inputs"], expected)
    assert gate.samples - gate.uncounted == 100


def test_wenet_grid(model_path: Callable[..., Path], reference: Any) -> None:
    plan = Echo(model_path("wenet_encoder"), reference, 0.0)
    lines = report(plan, "wenet_encoder", warmups=1, runs=2)
    rows = [line.split() for line in lines[1:10]]
    assert [(int(row[0]), int(row[1])) for row in rows] == GRID
    assert all(row[4:8] == ["0.000e+00"] * 4 for row in rows)
    assert all("Bad" not in row and "Good" in row for row in rows)
    assert plan.runs == len(GRID) * (1 + 1 + 2)


@pytest.mark.parametrize("name", ["wenet_encoder", "wenet_decoder"])
def test_wenet_errors_are_seen(name: str, model_path: Callable[..., Path], reference: Any) -> None:
    plan = Echo(model_path(name), reference, 0.5)
    (row,) = report(plan, name, shapes=[(2, 16)], runs=1)[1:2]
    assert row.split()[4] == "5.000e-01"
    assert "Bad" in row and "Good" not in row


def test_vilbert(model_path: Callable[..., Path], reference: Any) -> None:
    plan = Echo(model_path("vilbert"), reference, 0.0)
    head, *rows = report(plan, "vilbert", shapes=[(1,), (3,)], warmups=0, runs=1)
    assert head.split()[-1] == "<1e-3"
    assert [int(row.split()[0]) for row in rows] == [1, 3]
    assert all(row.endswith("0.000e+00   yes") for row in rows)


def test_dab_detr(
    model_path: Callable[..., Path], reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = replace(_report.GATES["dab_detr"], samples=7)
    monkeypatch.setitem(_report.GATES, "dab_detr", gate)
    plan = Echo(model_path("dab_detr"), reference, 0.0)
    _, *rows, last = report(plan, "dab_detr", warmups=0, runs=1)
    assert len(rows) == 4 and all(row.endswith("100.000%  Good") for row in rows)
    assert last.startswith("2 images")


def test_bert(model_path: Callable[..., Path], reference: Any) -> None:
    plan = Echo(model_path("bert_encoder"), reference, 0.0)
    _, *rows, last = report(plan, "bert_encoder", shapes=[(1, 4), (2, 4)], runs=1)
    assert [row.split()[:2] for row in rows] == [["1", "4"], ["2", "4"]] and "5%" in last


def test_bad_arguments(model_path: Callable[..., Path], reference: Any, tmp_path: Path) -> None:
    plan = Echo(model_path("vilbert"), reference, 0.0)
    with pytest.raises(ValueError, match="'minilm' has no table; the models with one are vilbert"):
        report(plan, "minilm")
    with pytest.raises(ValueError, match="warmups is 10 and runs 0"):
        report(plan, "vilbert", runs=0)
    with pytest.raises(ValueError, match="a report needs the ONNX file: pass model="):
        report(plan, "vilbert", model=tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="shape is"):
        report(plan, "vilbert", shapes=[(1, 2)])


def test_missing_onnxruntime(
    monkeypatch: pytest.MonkeyPatch, model_path: Callable[..., Path], reference: Any
) -> None:
    plan = Echo(model_path("vilbert"), reference, 0.0)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="reference of a report needs the package onnxruntime"):
        report(plan, "vilbert")
