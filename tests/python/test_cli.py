"""The command line: results, JSON, exit codes, and names that must not do harm."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
import planck.models
from planck.cli import main
from planck.cli.bench import parse_gate
from planck.cli.build import broken_contract
from planck.cli.show import Table, clean, json_text, plain_text

SHAPE = "input_ids=2x6"
ESCAPE = "\x1b"
HOSTILE = "\x1b[31m[bold red]x[/bold red]<script>\r\n\u202e\x07"


@pytest.fixture(scope="module")
def model(model_path: Callable[..., Path]) -> Path:
    return model_path("bert_encoder")


@pytest.fixture(scope="module")
def plan(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "bert.plan"
    planck.build(model).save(path)
    return path


@pytest.fixture(scope="module")
def feeds(plan: Path) -> Path:
    path = plan.with_name("feeds.npz")
    np.savez(path, **planck.models.feeds("bert_encoder", (2, 6), size="mini"))
    return path


def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m planck` in a pipe; escape sequences and tracebacks are wrong everywhere."""
    done = subprocess.run(
        [sys.executable, "-m", "planck", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )
    assert ESCAPE not in done.stdout + done.stderr
    assert "PLANCK_TRACEBACK" in environment or "Traceback" not in done.stderr
    return done


def result(path: Path, kind: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text())
    assert data["schema"] == 1 and data["kind"] == kind and data["ok"] is True
    return data


def test_build(model: Path, tmp_path: Path) -> None:
    out, record = tmp_path / "x.plan", tmp_path / "x.json"
    done = call("build", model, "-o", out, "--strict", "--json", record)
    assert done.returncode == 0, done.stderr
    assert "223 ONNX nodes -> 18 steps" in done.stdout and "attention" in done.stdout
    data = result(record, "planck.build")
    assert data["plan_bytes"] == out.stat().st_size
    assert data["sha256"] == planck.load(out).sha256
    assert sum(row["steps"] for row in data["kernels"]) == data["steps"] == 18


def test_build_by_default_writes_beside_the_model(model: Path, tmp_path: Path) -> None:
    beside = tmp_path / "bert.onnx"
    beside.write_bytes(model.read_bytes())
    assert main(["build", str(beside), "--disable", "gelu", "--threads", "1"]) == 0
    assert planck.load(tmp_path / "bert.plan").threads >= 1


def test_run(plan: Path, model: Path, feeds: Path, tmp_path: Path) -> None:
    out, record = tmp_path / "out.npz", tmp_path / "r.json"
    done = call("run", plan, "--feeds", feeds, "--out", out, "--repeat", 2, "--json", record)
    assert done.returncode == 0 and "last_hidden_state  float32  [2,6,64]" in done.stdout
    with np.load(feeds) as given, np.load(out) as saved:
        for name, array in planck.build(model).run(dict(given)).items():
            assert np.array_equal(saved[name], array)
    rows = result(record, "planck.run")["outputs"]
    assert [row["shape"] for row in rows] == [[2, 6, 64], [2, 64]] and rows[0]["nan"] == 0


def test_random_feeds_are_seeded_and_fit_by_symbols(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        arguments = ["run", model, "--shape", SHAPE, "--seed", 3, "--out", tmp_path / name]
        assert main([str(argument) for argument in arguments]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_compare(plan: Path, tmp_path: Path) -> None:
    page, record = tmp_path / "page.html", tmp_path / "r.json"
    done = call(
        *("compare", plan, "--shape", SHAPE, "--worst", 3, "--html", page, "--json", record)
    )
    assert done.returncode == 0, done.stderr
    assert "No bad layer" in done.stdout and "latency" in done.stdout
    data = result(record, "planck.compare")
    assert len(data["tensors"]) == 182 and data["batch"] == 2
    assert [row["name"] for row in data["per_output"]] == ["last_hidden_state", "pooler_output"]
    text = page.read_text()
    assert "default-src 'none'" in text and "<script" not in text and text.count("<tr>") == 7


def test_compare_with_onnxruntime(plan: Path, model: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = call(
        *("compare", plan, "--shape", SHAPE, "--reference", "onnxruntime", "--model", model)
    )
    assert done.returncode == 0, done.stderr
    assert "onnxruntime  latency" in done.stdout


def test_mismatch_is_exit_code_1(plan: Path, feeds: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.npz"
    assert main(["run", str(plan), "--feeds", str(feeds), "--out", str(wrong)]) == 0
    with np.load(wrong) as saved:
        np.savez(wrong, **{name: array * np.float32(0.9) for name, array in saved.items()})
    done = call("compare", plan, "--feeds", feeds, "--reference", wrong, "--json", "-")
    assert done.returncode == 1
    data = json.loads(done.stdout)  # nothing but JSON on stdout; the table is on stderr
    assert data["ok"] is False and data["first_bad"] == "last_hidden_state"
    assert "FAILED" in done.stderr
    assert main(["compare", str(plan), "--feeds", str(feeds), "--min-sqnr", "200"]) == 1
    assert main(["compare", str(plan), "--feeds", str(feeds), "--reference", str(plan)]) == 0


def test_bench(plan: Path, tmp_path: Path) -> None:
    record = tmp_path / "b.json"
    common = ("bench", plan, "--shape", SHAPE, "--rounds", 1)
    done = call(*common, "--max-latency", 10000, "--json", record)
    assert done.returncode == 0, done.stderr
    data = result(record, "planck.bench")
    times = data["engines"][0]["latency_ms"]
    assert 0 < times["min"] <= times["median"] <= times["p90"] <= times["p99"] <= times["max"]
    assert data["gate"]["statistic"] == "median" and data["batch"] == 2
    done = call(*common, "--max-latency", "p99=0.000001")
    assert done.returncode == 1 and "FAILED: p99" in done.stdout


def test_bench_beside_a_peer(plan: Path, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    record = tmp_path / "b.json"
    done = call(
        *("bench", plan, "--shape", SHAPE, "--rounds", 1, "--peers", "onnxruntime"),
        *("--model", model, "--json", record),
    )
    assert done.returncode == 0, done.stderr
    ours, peer = result(record, "planck.bench")["engines"]
    assert (ours["engine"], peer["engine"]) == ("planck", "onnxruntime")
    assert peer["runs"] > 0 and peer["difference"] < 1e-4


def test_inspect(plan: Path, model: Path, tmp_path: Path) -> None:
    record = tmp_path / "i.json"
    done = call("inspect", plan, "--layers", "--tensors", "--json", record)
    assert done.returncode == 0, done.stderr
    data = result(record, "planck.inspect")
    loaded = planck.load(plan)
    assert data["file"]["sha256"] == loaded.sha256
    assert data["file"]["bytes"] == plan.stat().st_size
    assert data["file"]["format"].startswith("1.")
    assert [s["kind"] for s in data["file"]["sections"]] == ["metadata", "graph", "weights"]
    assert len(data["steps"]) == 18 and len(data["tensors"]) == 182
    assert {node for step in data["steps"] for node in step["nodes"]} == set(loaded.nodes)
    assert "slower by arithmetic" in done.stdout
    done = call("inspect", model, "--graph")
    assert done.returncode == 0 and "planck.Attention(" in done.stdout


def test_foreign_plan_says_so(plan: Path) -> None:
    if planck.load(plan).isa == "portable":
        pytest.skip("no plan is foreign to this machine")
    done = call("inspect", plan, PLANCK_MAX_ISA="portable")
    assert done.returncode == 0 and "portable: packed again" in done.stdout


def test_doctor() -> None:
    done = call("doctor", "--json", "-")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["self_test"]["ok"] and data["packages"]["numpy"] == np.__version__
    assert data["device"]["cores"] >= 1 and "PLANCK_THREADS" in done.stderr
    assert call("doctor", PLANCK_MAX_ISA="nonsense").returncode == 2


def test_doctor_of_a_broken_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise planck.InternalError("nothing works")

    monkeypatch.setattr("planck.build", fail)
    assert main(["doctor"]) == 1
    assert "FAILED: self-test: InternalError: nothing works" in capsys.readouterr().out


def stored(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(members: dict[str, bytes]) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return into.getvalue()


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, [], "COMMAND"),
        (2, ["frobnicate"], "invalid choice"),
        (2, ["run", "{plan}", "--unknown"], "unrecognized arguments: --unknown"),
        (2, ["build", "{plan}", "--precision", "int7"], "invalid choice: 'int7'"),
        (2, ["build", "{model}", "--threads", "0"], "'0' is not a whole number"),
        (2, ["build", "{model}", "--disable", "nothing"], "no pass is called 'nothing'"),
        (2, ["build", "{model}", "-o", "{model}"], "overwrite"),
        (1, ["build", "{model}", "--precision", "int8"], "then --int8 --calib FILE"),
        (2, ["build", "{model}", "-o", "-"], "not to stdout"),
        (2, ["build", "{model}", "-o", "/dev/full"], "free some space"),
        (3, ["build", "{plan}", "-o", "x.plan"], "no ONNX model but a plan of Planck"),
        (2, ["build", "missing.onnx"], "cannot open 'missing.onnx'"),
        (2, ["run", "/dev/null"], "not a regular file"),
        (3, ["build", "{cut_model}"], "truncated or damaged"),
        (3, ["inspect", "{cut_plan}"], "the plan is truncated"),
        (3, ["run", "{text}"], "no ONNX model"),
        (2, ["run", "{plan}", "--precision", "fp32"], "decided when a plan is built"),
        (2, ["inspect", "{plan}", "--graph"], "--layers"),
        (2, ["run", "{plan}"], "such as --shape input_ids=1x32"),
        (2, ["run", "{plan}", "--shape", "ids=1x2"], "one of input_ids, attention_mask"),
        (2, ["run", "{plan}", "--shape", "input_ids=1x-2"], "planck COMMAND --help"),
        (2, ["run", "{plan}", "--shape", "input_ids=4"], "has rank 2"),
        (2, ["run", "{plan}", "--shape", "input_ids"], "has no '='"),
        (2, ["run", "{plan}", "--shape", SHAPE, "--range", "9:0"], "is no range"),
        (2, ["run", "{plan}", "--shape", SHAPE, "--range", "0:1e30"], "is outside int64"),
        (3, ["run", "{plan}", "--shape", SHAPE, "--range", "token_type_ids=0:9"], "index"),
        (3, ["run", "{plan}", "--shape", "input_ids=1x513"], "do not broadcast"),
        (4, ["run", "{plan}", "--shape", "input_ids=1x9999999999"], "the limit is"),
        (2, ["run", "{plan}", "--feeds", "missing.npz"], "cannot open"),
        (2, ["run", "{plan}", "--feeds", "/dev/zero"], "not a regular file"),
        (2, ["run", "{plan}", "--feeds", "{text}"], "is no .npz file"),
        (2, ["run", "{plan}", "--feeds", "{cut_feeds}"], "is no .npz file"),
        (2, ["run", "{plan}", "--feeds", "{objects}"], "not plain numbers"),
        (4, ["run", "{plan}", "--feeds", "{huge}"], "the limit is"),
        (2, ["run", "{plan}", "--feeds", "{short}"], "promises 800 bytes"),
        (2, ["run", "{plan}", "--feeds", "{negative}"], "the shape (-4,)"),
        (4, ["run", "{plan}", "--feeds", "{many}"], "1025 arrays"),
        (2, ["run", "{plan}", "--feeds", "{other}"], "planck inspect MODEL_OR_PLAN lists"),
        (2, ["run", "{plan}", "--input", "input_ids={text}"], "no usable .npy"),
        (2, ["run", "{plan}", "--feeds", "{feeds}", "--out", "no/where.npz"], "cannot write"),
        (2, ["run", "{plan}", "--feeds", "{feeds}", "--json", "no/where"], "cannot write"),
        (2, ["compare", "{plan}", "--feeds", "{feeds}", "--reference", "x"], "OTHER.plan"),
        (2, ["compare", "{plan}", "--feeds", "{feeds}", "--reference", "{other}"], "no tensor"),
        (2, ["compare", "{plan}", "--shape", SHAPE, "--reference", "onnxruntime"], "--model"),
        (2, ["bench", "{plan}", "--shape", SHAPE, "--peers", "abacus"], "no peer 'abacus'"),
        (2, ["bench", "{plan}", "--shape", SHAPE, "--peers", "onnxruntime"], "--model"),
        (2, ["bench", "{plan}", "--shape", SHAPE, "--max-latency", "p50=1"], "STATISTIC=MS"),
    ],
)
def test_errors(
    code: int,
    arguments: list[str],
    words: str,
    model: Path,
    plan: Path,
    feeds: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One block on stderr with the reason, the code, and no traceback; nothing on stdout."""
    files = {
        "cut_model": stored(tmp_path / "cut.onnx", model.read_bytes()[:99999]),
        "cut_plan": stored(tmp_path / "cut.plan", plan.read_bytes()[:9999]),
        "text": stored(tmp_path / "text.onnx", b"This is a text."),
        "cut_feeds": stored(tmp_path / "cut.npz", feeds.read_bytes()[:300]),
        "objects": stored(tmp_path / "o.npz", archive({"x.npy": npy("'|O'", "(1,)", b"x" * 8)})),
        "huge": stored(tmp_path / "h.npz", archive({"x.npy": npy("'<f4'", f"({10**12},)")})),
        "short": stored(tmp_path / "s.npz", archive({"x.npy": npy("'<f4'", "(200,)")})),
        "negative": stored(tmp_path / "n.npz", archive({"x.npy": npy("'<f4'", "(-4,)")})),
        "many": stored(tmp_path / "m.npz", archive({f"{i}.npy": b"" for i in range(1025)})),
        "other": stored(tmp_path / "x.npz", archive({"other.npy": npy("'<f4'", "(1,)", b"0000")})),
    }
    given = {"model": model, "plan": plan, "feeds": feeds, **files}
    assert main([argument.format(**given) for argument in arguments]) == code
    printed = capsys.readouterr()
    block = printed.err[printed.err.index("error: ") :]
    assert words in block and "\n  code      " in block and "Traceback" not in printed.err
    if "--out" not in arguments and "--json" not in arguments:
        assert not printed.out


def test_missing_package_says_what_to_install(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["bench", str(plan), "--shape", SHAPE, "--peers", "openvino"]) == 2
    assert "pip install openvino" in capsys.readouterr().err
    assert main(["doctor"]) == 2
    assert "pip install onnx" in capsys.readouterr().err


def test_error_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "missing.onnx", "--json", "-"]) == 2
    data = json.loads(capsys.readouterr().out)
    assert data["kind"] == "planck.error" and data["code"] == "file" and data["exit_code"] == 2


def test_internal_error(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("a broken invariant")

    monkeypatch.setattr("planck.load", fail)
    assert main(["run", str(plan)]) == 70
    printed = capsys.readouterr().err
    assert "error of Planck" in printed and "Traceback" not in printed
    monkeypatch.setenv("PLANCK_TRACEBACK", "1")
    assert main(["run", str(plan)]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_interrupt(plan: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "planck", "bench", plan, "--shape", SHAPE, "--rounds", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "random feeds" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in log and "Traceback" not in log


def test_reader_that_leaves(plan: Path) -> None:
    command = f"{sys.executable} -m planck inspect {plan} --tensors --layers"
    piped = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert piped.returncode == 0 and not piped.stderr


def terminal(*arguments: object, **environment: str) -> str:
    """What a command writes to a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "planck", *map(str, arguments)],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200", **environment},
    )
    os.close(theirs)
    pieces = []
    while True:
        try:
            pieces.append(os.read(ours, 65536))
        except OSError:  # how Linux says that the other side is closed
            break
    os.close(ours)
    assert process.wait() == 0
    return b"".join(pieces).decode()


@pytest.fixture(scope="module")
def hostile(plan: Path) -> Path:
    """A plan whose every name is an attack on terminals, markup and pages."""
    onnx = pytest.importorskip("onnx")
    make, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    f32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            make("Exp", [HOSTILE], ["t" + HOSTILE], "n" + HOSTILE),
            make("Softmax", ["t" + HOSTILE], ["y" + HOSTILE], "s" + HOSTILE),
        ],
        HOSTILE,
        [tensor(HOSTILE, f32, [2, 4])],
        [tensor("y" + HOSTILE, f32, None)],
    )
    path = plan.with_name("hostile.onnx")
    opsets = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def test_hostile_names_in_pipes(hostile: Path, tmp_path: Path) -> None:
    page, record = tmp_path / "page.html", tmp_path / "r.json"
    for code, *arguments in (
        (0, "inspect", hostile, "--layers", "--tensors", "--graph", "--json", record),
        (0, "run", hostile, "--out", tmp_path / "out.npz"),
        (1, "compare", hostile, "--min-sqnr", "390", "--html", page),
        (2, "run", hostile, "--shape", f"{HOSTILE}=3"),
    ):
        done = call(*arguments)
        assert done.returncode == code, done.stderr
        for bad in ("\r", "\u202e", "\x07"):
            assert bad not in done.stdout + done.stderr
    assert "<script" not in page.read_text()
    assert json.loads(record.read_text())["inputs"][0]["name"] == HOSTILE
    assert ESCAPE not in record.read_text()
    with np.load(tmp_path / "out.npz") as out:
        assert len(out.files) == 1


def test_terminal(hostile: Path) -> None:
    pytest.importorskip("rich")
    shown = terminal("inspect", hostile)
    assert ESCAPE in shown and "[bold red]x[/bold red]" in shown
    assert ESCAPE + "[31m" not in shown and "\u202e" not in shown and "\x07" not in shown
    assert ESCAPE not in terminal("inspect", hostile, NO_COLOR="1")


def test_clean() -> None:
    assert clean("/layer.0/x") == "/layer.0/x"
    assert clean("\x1b[2J\x9b\u2028") == "\\x1b[2J\\x9b\\u2028"
    assert len(clean("a" * 10**6)) == 60
    table = Table(("name", "n"), [("\x1b", "1"), ("long name", "20")])
    assert plain_text(table) == "name        n\n\\x1b        1\nlong name  20"


def test_json_is_strict() -> None:
    text = json_text({"a": float("nan"), "b": [np.float32(0.5), np.int64(3)], "c": (True, None)})
    assert json.loads(text) == {"schema": 1, "a": None, "b": [0.5, 3], "c": [True, None]}


def test_precision_contract() -> None:
    kept = planck.Step("Add", "eltwise", "k", ("a",), "fp32", "fp32", ())
    broken = planck.Step("Add", "eltwise", "k", ("b", "c"), "int8", "fp32", ())
    assert broken_contract([kept]) == []
    assert broken_contract([kept, broken])[0]["nodes"] == ["b", "c"]


def test_gate() -> None:
    assert parse_gate(None) is None
    assert parse_gate("5") == ("median", 5.0) and parse_gate("p99=2.5") == ("p99", 2.5)
