"""What did not become int8, and why: the report, its command, and that it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
from planck.cli import main
from planck.int8_report import PARTS, part_of

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

F = np.float32
GRID = {"scale": F(0.1), "zero": np.uint8(128)}
WEIGHTS = {
    "w": np.random.default_rng(0).integers(-127, 128, (16, 16)).astype(np.int8),
    "w_scale": np.full(16, 0.01, F),
    "w_zero": np.zeros(16, np.int8),
    "w_float": np.random.default_rng(1).standard_normal((16, 16)).astype(F),
}
FEEDS = {"x": np.random.default_rng(2).standard_normal((8, 16)).astype(F)}
Q = ("QuantizeLinear", ["x", "scale", "zero"], "q")
DQ = ("DequantizeLinear", ["q", "scale", "zero"], "d")
WDQ = ("DequantizeLinear", ["w", "w_scale", "w_zero"], "wd", {"axis": 1})


def model(*nodes: tuple[Any, ...], prefix: str = "") -> bytes:
    """A model from "x" f32[N,16] to "y"; each node is (op, inputs, output, attributes)."""
    made = [
        helper.make_node(op, inputs, [output], f"{prefix}{output}", **(more[0] if more else {}))
        for op, inputs, output, *more in nodes
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 16)) for name in ("x", "y")
    ]
    constants = [
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in {**GRID, **WEIGHTS}.items()
    ]
    graph = helper.make_graph(made, "graph", ports[:1], ports[1:], constants)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def report_of(*nodes: tuple[Any, ...]) -> planck.Int8Report:
    return planck.int8_report(planck.build(model(*nodes)), FEEDS, runs=1)


def said(report: planck.Int8Report) -> dict[str, tuple[str, str]]:
    return {row.node: (row.kind, row.reason) for row in report.rows}


def test_an_integer_product_leaves_its_input_alone() -> None:
    report = report_of(Q, DQ, WDQ, ("MatMul", ["d", "wd"], "y"))
    reason = "what it reads, an input of the model or a constant, is float"
    assert said(report) == {"q": ("conversion", reason)}
    assert report.steps["integer products"] == 1 and report.steps["float products"] == 0
    assert 0 < report.share("integer products") < 1
    assert sum(report.share(part) for part in PARTS) == pytest.approx(1)


def test_a_product_without_a_grid_stays_float() -> None:
    report = report_of(Q, DQ, ("MatMul", ["d", "w_float"], "y"))
    assert said(report)["y"] == ("float product", "its weights lie on no grid of bytes")
    assert said(report)["q"][0] == "conversion"
    assert report.share("integer products") == 0


def test_a_float_model_has_nothing_quantised() -> None:
    report = report_of(("MatMul", ["x", "w_float"], "y"))
    assert said(report) == {"y": ("float product", "its input is not quantised")}


def test_a_pair_for_an_op_of_floats() -> None:
    report = report_of(Q, DQ, ("Softmax", ["d"], "y"))
    reason = "quantised for Softmax alone, which computes in floats"
    assert said(report) == {"d": ("pair", reason)}
    assert report.steps["conversions"] == 1


def test_a_residual_of_bytes_is_no_pair() -> None:
    """Softmax cannot store bytes; the product reads what the conversion behind it stored."""
    report = report_of(
        Q,
        DQ,
        WDQ,
        ("MatMul", ["d", "wd"], "m"),
        ("Softmax", ["x"], "s"),
        ("QuantizeLinear", ["s", "scale", "zero"], "sq"),
        ("DequantizeLinear", ["sq", "scale", "zero"], "sd"),
        ("Add", ["m", "sd"], "y"),
    )
    assert said(report)["sq"] == ("conversion", "Softmax stores floats alone")
    assert all(row.kind == "conversion" for row in report.rows)


def test_floats_that_others_read_too() -> None:
    report = report_of(
        ("Relu", ["x"], "r"),
        ("QuantizeLinear", ["r", "scale", "zero"], "q"),
        DQ,
        WDQ,
        ("MatMul", ["d", "wd"], "m"),
        ("Add", ["m", "r"], "a"),
        ("Softmax", ["a"], "y"),
    )
    assert said(report)["q"] == ("conversion", "the floats of Relu have other readers")


def test_what_a_placement_kept_float(model_path: Any) -> None:
    path = model_path("bert_encoder")
    names = planck.build(path).tensors
    scales = planck.Scales.from_ranges(dict.fromkeys(names, 4.0))
    plan = planck.build(path, precision="int8", scales=scales)
    before = plan.sha256
    report = planck.int8_report(plan)
    assert plan.sha256 == before
    rows = said(report)
    assert rows["/pooler/dense/Gemm"] == (
        "float product",
        "its result is an output: logits or a head",
    )
    attention = next(row for row in report.rows if row.op == "planck.Attention")
    assert attention.reason == "both operands are computed in the run"
    assert {row.step for row in report.rows if row.kind == "float product"} == {
        i for i, step in enumerate(plan.steps) if part_of(step) == "float products"
    }


def test_steps_say_what_they_read_and_write() -> None:
    plan = planck.build(model(Q, DQ, WDQ, ("MatMul", ["d", "wd"], "y")))
    first, second = plan.steps
    assert (first.reads, first.writes, first.after) == (("f32[N,16]",), ("u8[N,16]",), ())
    assert second.reads[:2] == ("u8[N,16]", "s8[256]")
    assert (second.writes, second.after) == (("f32[N,16]",), (0,))


def test_estimates_are_marked_and_follow_sizes() -> None:
    plan = planck.build(model(Q, DQ, WDQ, ("MatMul", ["d", "wd"], "y")))
    one = plan._core.step_bytes({})
    assert one[0] == 16 * (4 + 1)  # floats in, bytes out
    assert plan._core.step_bytes({"N": 8})[0] == 8 * one[0]
    report = planck.int8_report(plan, sizes={"N": 8})
    assert not report.measured and report.runs == 0 and report.gigabytes_per_second > 0
    assert "estimated from bytes alone" in report.verdict
    data = json.loads(report.to_json())
    assert data["measured"] is False and data["microseconds"]["integer products"] > 0
    with pytest.raises(planck.UsageError, match=r"sizes\['N'\] is -1"):
        planck.int8_report(plan, sizes={"N": -1})


def test_bad_calls(tmp_path: Path) -> None:
    plan = planck.build(model(Q, DQ, WDQ, ("MatMul", ["d", "wd"], "y")))
    with pytest.raises(planck.UsageError, match="runs is 0"):
        planck.int8_report(plan, FEEDS, runs=0)
    with pytest.raises(planck.FeedError, match="x"):
        planck.int8_report(plan, {})
    with pytest.raises(planck.FileError):
        planck.int8_report(plan).to_json(tmp_path / "no" / "report.json")


def test_names_of_strangers_are_harmless() -> None:
    evil = "<script>\x1b[31m"
    plan = planck.build(model(Q, DQ, ("MatMul", ["d", "w_float"], "y"), prefix=evil))
    report = planck.int8_report(plan, FEEDS, runs=1)
    assert any(row.node == f"{evil}y" for row in report.rows)
    assert "\x1b" not in str(report)
    html = report._repr_html_()
    assert "<script" not in html and "&lt;script&gt;" in html and "\x1b" not in html


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, plan = tmp_path / "model.onnx", tmp_path / "model.plan"
    source.write_bytes(model(Q, DQ, ("MatMul", ["d", "w_float"], "y")))
    planck.build(source).save(plan)
    np.savez(tmp_path / "feeds.npz", **FEEDS)
    record, page = tmp_path / "lint.json", tmp_path / "lint.html"
    feeds = ["--feeds", str(tmp_path / "feeds.npz")]
    more = ["--json", str(record), "--html", str(page)]
    assert main(["lint", str(source), *feeds, *more]) == 0
    shown = capsys.readouterr().out
    assert "its weights lie on no grid of bytes" in shown and "median of 5 runs" in shown
    data = json.loads(record.read_text())
    assert data["kind"] == "planck.int8_report" and data["measured"] and data["ok"]
    assert "no grid of bytes" in page.read_text()
    assert main(["lint", str(plan), "--min-share", "0.5"]) == 1  # a plan keeps its refusals
    shown = capsys.readouterr().out
    assert "estimates" in shown and "its weights lie on no grid of bytes" in shown
    assert main(["lint", str(plan), "--min-share", "2"]) == 2
    assert main(["lint", str(plan), "--calib", "x.json"]) == 2
    assert main(["lint", str(source), "--calib", "x.json"]) == 2


def test_the_command_builds_int8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(
        model(
            ("MatMul", ["x", "w_float"], "m"),
            ("Relu", ["m"], "r"),
            ("MatMul", ["r", "w_float"], "y"),
        )
    )
    scales = planck.calibrate(source, [FEEDS]).solve()
    (tmp_path / "scales.json").write_text(scales.to_json())
    arguments = ["lint", str(source), "--int8", "--calib", str(tmp_path / "scales.json")]
    assert main([*arguments, "--shape", "x=8x16"]) == 0
    shown = capsys.readouterr().out
    assert "integer products      1" in shown and "logits or a head" in shown
