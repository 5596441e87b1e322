"""`planck bench --table`: the published tables on small models, beside real and fake engines."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import planck
from planck.cli import main, tables
from planck.cli.measure import Latency
from planck.cli.peers import REFERENCE, Problem

pytest.importorskip("onnxruntime")


def table(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON and text of a table of the small models."""
    code = main(["bench", "--size", "mini", "--rounds", "1", *arguments, "--json", "-"])
    printed = capsys.readouterr()
    assert code in (0, 1), printed.err
    data = json.loads(printed.out)
    assert data["kind"] == "planck.table" and data["size"] == "mini"
    assert data["ok"] is (code == 0) is all(model["good"] for model in data["models"])
    return code, data, printed.err


def test_bert(capsys: pytest.CaptureFixture[str]) -> None:
    _, data, text = table(capsys, "--table", "bert", "--grid", "1x4,2x4", "--peers", "onnxruntime")
    (model,) = data["models"]
    ours, peer = model["engines"]
    assert (ours["engine"], peer["engine"]) == ("planck", "onnxruntime")
    assert [(row["batch"], row["length"]) for row in peer["rows"]] == [(1, 4), (2, 4)]
    assert all(row["ms"] > 0 for row in ours["rows"] + peer["rows"])
    assert ours["latency_ms"]["2x4"]["runs"] >= tables.LEAST
    assert model["gflop"]["2x4"] == pytest.approx(2 * model["gflop"]["1x4"], rel=0.2)
    assert "bert_encoder by planck" in text and "within 5%" in text


def test_vilbert(capsys: pytest.CaptureFixture[str]) -> None:
    code, data, text = table(capsys, "--table", "vilbert", "--grid", "1,2", "--peers", "")
    assert code == 0
    (ours,) = data["models"][0]["engines"]
    assert [row["batch"] for row in ours["rows"]] == [1, 2]
    assert all(row["close"] and row["valid_abs"] < 1e-4 for row in ours["rows"])
    assert "loss/score" in text and "vilbert by planck" in text


def test_wenet(capsys: pytest.CaptureFixture[str]) -> None:
    code, data, text = table(capsys, "--table", "wenet", "--grid", "2x16", "--peers", "")
    assert code == 0
    encoder, decoder = data["models"]
    assert (encoder["model"], decoder["model"]) == ("wenet_encoder", "wenet_decoder")
    for model in (encoder, decoder):
        (row,) = model["engines"][0]["rows"]
        assert (row["batch"], row["length"], row["a1"], row["r1"]) == (2, 16, 0, 0)
        assert row["a0"] < 1e-3
    assert text.count("  bs   sl") == 2 and "planck contest" in text


def test_dab_detr(capsys: pytest.CaptureFixture[str]) -> None:
    _, data, text = table(capsys, "--table", "dab_detr", "--samples", "2", "--peers", "")
    (model,) = data["models"]
    assert list(model["gflop"]) == ["1x128x160"]
    logits, boxes = model["engines"][0]["rows"]
    assert (logits["output"], boxes["output"]) == ("pred_logits", "pred_boxes")
    assert logits["soft"] > 0.99 and boxes["absolute"]["max"] < 3e-3
    assert "2 images" in text and "relative: |x - ref| / (|ref| + 1e-05)" in text


class Fake:
    """An engine of another process: the reference by Planck itself, others a constant too large."""

    def __init__(self, name: str, problem: Problem) -> None:
        self._plan = planck.build(problem.path)
        self._error = 0.0 if name == REFERENCE else 1.0
        self.latency = Latency(name, "1", self.outputs(problem.feeds))

    def round(self, runs: int) -> list[float]:
        return [2.0] * runs

    def outputs(self, feeds: Any) -> Any:
        return {key: value + self._error for key, value in self._plan.run(feeds).items()}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def worker(name: str, problem: Problem, warmups: int) -> Iterator[Fake]:
        if name == "openvino":
            raise planck.UsageError("openvino cannot run this model: no Erf")
        yield Fake(name, problem)

    monkeypatch.setattr(tables, "worker", worker)


@pytest.mark.usefixtures("fakes")
def test_each_engine_has_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    code, data, text = table(capsys, "--table", "vilbert", "--grid", "1")
    assert code == 0, "the verdict is about Planck alone"
    ours, peer = data["models"][0]["engines"]
    assert ours["rows"][0]["max_abs"] == 0 and ours["good"]
    assert peer["rows"][0]["max_abs"] == pytest.approx(1.0)
    assert peer["rows"][0]["ms"] == 2000
    assert "openvino is left out: openvino cannot run this model: no Erf" in text
    (line,) = [line for line in text.splitlines() if line.startswith("1 ") and "2000" in line]
    assert line.split()[4] == "2000.000"


@pytest.mark.usefixtures("fakes")
def test_a_slow_batch_is_bad(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Slow(tables.Here):
        def round(self, runs: int) -> list[float]:
            return [len(self._feeds["input_ids"]) ** 2 * 1e-3] * runs

    monkeypatch.setattr(tables, "Here", Slow)
    code, data, text = table(
        capsys, "--table", "bert", "--grid", "1x2,2x2", "--peers", "onnxruntime"
    )
    assert code == 1
    ours, peer = data["models"][0]["engines"]
    assert not ours["good"] and peer["good"]
    assert "FAILED: planck: bert_encoder bad" in text


@pytest.mark.usefixtures("fakes")
def test_absent_peers_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    _, data, text = table(capsys, "--table", "bert", "--grid", "1x2")
    assert [engine["engine"] for engine in data["models"][0]["engines"]] == ["planck"]
    assert "onnxruntime is not installed and left out" in text
    assert "openvino is not installed and left out" in text
    assert main(["bench", "--table", "wenet"]) == 2
    assert "pip install onnxruntime" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "bench needs a model or a plan"),
        (["x.onnx", "--table", "bert"], "'x.onnx' has no use"),
        (["--table", "gpt"], "invalid choice: 'gpt'"),
        (["--table", "bert", "--peers", "abacus"], "no peer 'abacus'"),
        (["--table", "bert", "--size", "mini", "--grid", "1x"], "'1x' is no list of shapes"),
        (["--table", "bert", "--size", "mini", "--grid", "0x4"], "'0x4' is no list of shapes"),
        (["--table", "bert", "--size", "mini", "--grid", "4"], "--grid has 4: shape is"),
    ],
)
def test_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_nothing_stays_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table(capsys, "--table", "bert", "--grid", "1x2", "--peers", "")
    assert not list(tmp_path.iterdir())
