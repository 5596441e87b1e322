"""Subnormal numbers are computed unless a plan's runs flush them; the host's state is its own."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
import planck.backend
import planck.ort
from planck.cli.app import main

onnx = pytest.importorskip("onnx")

TINY, SUBNORMAL = np.float32(1e-30), np.float32(1e-40)
HEAD = '<ir_version: 8, opset_import: ["": 17]> t '
PRODUCT = HEAD + "(float[n] x, float[n] w) => (float[n] y) { y = Mul(x, w) }"
SUM = HEAD + "(float[n] x, float[n] w) => (float[n] y) { y = Add(x, w) }"
INSIDE = HEAD + "(float[n] x, float[n] w) => (float[n] y) { t = Mul(x, w) y = Mul(t, w) }"
BY_REFERENCE = HEAD + "(float[n] x) => (float[n] y) { y = Asinh(x) }"
FOLDED = HEAD + "(float[n] x) => (float[n] y) <float a = {1e-30}, float b = {1e-10}> {"
FOLDED += " c = Mul(a, b) y = Mul(x, c) }"


def full(value: Any, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.float32)


def built(text: str, denormals: Any = "compute", **options: Any) -> planck.Plan:
    return planck.build(onnx.parser.parse_model(text), denormals=denormals, **options)


def product(k: int, n: int, weight: Any) -> bytes:
    """x [m, k] times a constant [k, n]."""
    text = f"(float[m, {k}] x) => (float[m, {n}] y) {{ y = MatMul(x, w) }}"
    model = onnx.parser.parse_model(HEAD + text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(full(weight, k, n), "w"))
    return bytes(model.SerializeToString())


# --- runs ----------------------------------------------------------------------------------------

CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "result of a product": (PRODUCT, {"x": TINY, "w": 1e-10}, SUBNORMAL),
    "operand of a product": (PRODUCT, {"x": SUBNORMAL, "w": 1e10}, 1e-30),
    "operand of a sum": (SUM, {"x": SUBNORMAL, "w": 0}, SUBNORMAL),
    "result of a sum": (SUM, {"x": 2e-38, "w": -1.9e-38}, 1e-39),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_elements(name: str, threads: int) -> None:
    text, values, want = CASES[name]
    feeds = {port: full(value, 50_000) for port, value in values.items()}
    found = built(text, threads=threads).run(feeds)["y"]
    assert found.min() > 0 and np.allclose(found, want, rtol=1e-3, atol=0)
    assert not built(text, "flush", threads=threads).run(feeds)["y"].any()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("x", "weight"), [(1e-15, 1e-25), (SUBNORMAL, 1.0), (1.0, SUBNORMAL), (1e10, SUBNORMAL)]
)
def test_products(x: Any, weight: Any, threads: int) -> None:
    k, n = 64, 512
    model, feeds = product(k, n, weight), {"x": full(x, 96, k)}
    found = planck.build(model, threads=threads).run(feeds)["y"]
    assert np.allclose(found, k * float(x) * float(weight), rtol=1e-3, atol=0)
    flushing = planck.build(model, threads=threads, denormals="flush")
    assert not flushing.run(feeds)["y"].any()


@pytest.mark.parametrize("threads", [1, 3])
def test_steps_by_their_reference(threads: int) -> None:
    plans = {word: built(BY_REFERENCE, word, threads=threads) for word in ("compute", "flush")}
    assert plans["flush"].steps[0].kernel == "reference"
    feeds = {"x": full(SUBNORMAL, 8)}
    assert np.array_equal(plans["compute"].run(feeds)["y"], feeds["x"])
    assert not plans["flush"].run(feeds)["y"].any()


def test_what_is_only_moved_keeps_its_bits() -> None:
    x = np.array([[SUBNORMAL, 1, -SUBNORMAL], [0, 2e-38, 1e-45]], np.float32)
    text = HEAD + "(float[m, n] x) => (float[n, m] y) { y = Transpose(x) }"
    assert built(text, "flush").run({"x": x})["y"].tobytes() == x.T.tobytes()


def test_subnormal_halves_are_normal_floats() -> None:
    x = np.arange(1, 1024, dtype=np.uint16).view(np.float16)  # all below 2^-14
    text = HEAD + "(float16[n] x) => (float16[n] y) { t = Mul(x, x) d = Div(t, x) y = Neg(d) }"
    plans = [built(text, word) for word in ("compute", "flush")]
    want, got = (plan.run({"x": x})["y"] for plan in plans)
    assert want.any() and got.tobytes() == want.tobytes()


def test_normal_numbers_have_the_same_bits() -> None:
    model = product(64, 96, 1e-3)
    feeds = {"x": np.random.default_rng(0).standard_normal((7, 64)).astype(np.float32)}
    want = planck.build(model).run(feeds)["y"].tobytes()
    assert planck.build(model, denormals="flush").run(feeds)["y"].tobytes() == want


def test_plans_of_one_process_do_not_disturb_each_other() -> None:
    feeds = {"x": full(TINY, 50_000), "w": full(1e-10, 50_000)}
    plans = [built(PRODUCT, word, threads=2) for word in ("compute", "flush")]
    for _ in range(20):
        computed, flushed = (plan.run(feeds)["y"] for plan in plans)
        assert computed.min() > 0 and not flushed.any()

    found: dict[int, list[bool]] = {caller: [] for caller in range(6)}

    def call(caller: int) -> None:  # three at the same time on each plan
        for _ in range(20):
            found[caller].append(bool(plans[caller % 2].run(feeds)["y"].any()))

    callers = [threading.Thread(target=call, args=(caller,)) for caller in found]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    for caller, any_left in found.items():
        assert any_left == [caller % 2 == 0] * 20


# --- the host's own state ------------------------------------------------------------------------

CONTROL, FLUSH = 0xFFC0, 0x8040  # of MXCSR: all but its flags; flush to zero, denormals are zero
ENVIRONMENT, MXCSR = 32, 28  # bytes of fenv_t on x86-64, and where in it


def _float_state() -> int:
    buffer = ctypes.create_string_buffer(ENVIRONMENT)
    assert ctypes.CDLL("libm.so.6").fegetenv(buffer) == 0
    return int(struct.unpack_from("<I", buffer.raw, MXCSR)[0]) & CONTROL


def _set_float_state(control: int) -> None:
    libm = ctypes.CDLL("libm.so.6")
    buffer = ctypes.create_string_buffer(ENVIRONMENT)
    assert libm.fegetenv(buffer) == 0
    struct.pack_into("<I", buffer, MXCSR, control)
    assert libm.fesetenv(buffer) == 0


@pytest.fixture
def host() -> Iterator[Callable[[int], None]]:
    """Sets this thread's MXCSR, for one test."""
    before = _float_state()
    yield _set_float_state
    _set_float_state(before)


@pytest.mark.parametrize("control", [0x1F80, 0x1F80 | FLUSH, 0x1F80 | FLUSH | 0x6000])
def test_the_state_of_the_host_is_restored(host: Callable[[int], None], control: int) -> None:
    feeds = {"x": full(TINY, 50_000), "w": full(1e-10, 50_000)}
    plans = {word: built(PRODUCT, word, threads=2) for word in ("compute", "flush")}
    host(control)
    for word, plan in plans.items():
        bits = plan.run(feeds)["y"].view(np.uint32)
        assert bool(bits.any()) is (word == "compute")
        assert _float_state() == control
        with pytest.raises(planck.FeedError):
            plan.run({})
        assert _float_state() == control


def test_a_plan_has_the_same_bytes_in_every_host(host: Callable[[int], None]) -> None:
    model = onnx.parser.parse_model(FOLDED)
    want = planck.build(model).sha256
    assert planck.build(model, denormals="flush").sha256 == want
    host(0x1F80 | FLUSH)
    assert planck.build(model).sha256 == want
    assert _float_state() == 0x1F80 | FLUSH
    host(0x1F80)
    assert built(FOLDED).run({"x": full(1e10, 3)})["y"].min() > 0  # so the constant is subnormal
    assert not built(FOLDED, "flush").run({"x": full(1e10, 3)})["y"].any()


# --- the ways to ask for it ----------------------------------------------------------------------


def test_it_belongs_to_runs_and_not_to_plan_files(tmp_path: Path) -> None:
    feeds = {"x": full(TINY, 3), "w": full(1e-10, 3)}
    plan = built(PRODUCT, "flush")
    assert plan.denormals == "flush" and "denormals flushed" in repr(plan)
    plan.save(tmp_path / "m.plan")
    data = plan.to_bytes()
    for source in (tmp_path / "m.plan", data):
        plain = planck.load(source)
        assert plain.denormals == "compute" and "denormals" not in repr(plain)
        assert plain.run(feeds)["y"].all()
        flushing = planck.load(source, denormals="flush", expect_sha256=plan.sha256)
        assert flushing.denormals == "flush" and not flushing.run(feeds)["y"].any()


@pytest.mark.parametrize("word", ["flushed", "", None, 1, True, ["flush"]])
def test_other_words_are_refused(word: Any) -> None:
    says = "denormals is .*; expected 'compute' or 'flush'"
    with pytest.raises(planck.UsageError, match=says) as error:
        built(PRODUCT, word)
    assert error.value.expected == "compute, flush" and error.value.got == str(word)
    with pytest.raises(planck.UsageError, match=says):
        planck.load(built(PRODUCT).to_bytes(), denormals=word)


def test_taps_and_comparisons_see_what_runs_compute() -> None:
    feeds = {"x": full(1e-30, 5), "w": full(1e-9, 5)}  # 1e-39 inside, 1e-48 after
    computing, flushing = built(INSIDE), built(INSIDE, "flush")
    assert len(flushing.steps) == 1  # so t is evaluated again
    assert np.allclose(computing.taps(feeds)["t"], 1e-39, rtol=1e-3, atol=0)
    assert not flushing.taps(feeds)["t"].any()
    plan = built(SUM, "flush")
    feeds = {"x": full(2e-38, 5), "w": full(-1.9e-38, 5)}
    assert not plan.taps(feeds)["y"].any()
    (row,) = planck.compare(plan, data=feeds).rows
    assert row.cumulative.max_abs == pytest.approx(1e-39, rel=1e-3)  # the reference computes it


ENTRY = "session.set_denormal_as_zero"


@pytest.mark.parametrize(("value", "left"), [(None, True), ("0", True), ("1", False)])
def test_the_entry_of_onnx_runtime(value: str | None, left: bool, tmp_path: Path) -> None:
    options = planck.ort.SessionOptions()
    if value is not None:
        options.add_session_config_entry(ENTRY, value)
    model = onnx.parser.parse_model(PRODUCT).SerializeToString()
    built(PRODUCT).save(tmp_path / "m.plan")
    for source in (model, str(tmp_path / "m.plan")):
        session = planck.InferenceSession(source, options)
        [y] = session.run(None, {"x": full(TINY, 9), "w": full(1e-10, 9)})
        assert bool(y.any()) is left


def test_another_value_of_the_entry_is_refused() -> None:
    options = planck.ort.SessionOptions()
    options.add_session_config_entry(ENTRY, "true")
    model = onnx.parser.parse_model(PRODUCT).SerializeToString()
    with pytest.raises(planck.UsageError, match=f"{ENTRY} is 'true'; expected '0' or '1'") as error:
        planck.InferenceSession(model, options)
    assert type(error.value).__name__ == "InvalidArgument"


def test_the_backend_hands_it_on() -> None:
    model = onnx.parser.parse_model(PRODUCT)
    [y] = planck.backend.prepare(model, denormals="flush").run([full(TINY, 3), full(1e-10, 3)])
    assert not y.any()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, feeds = tmp_path / "m.onnx", tmp_path / "feeds.npz"
    onnx.save(onnx.parser.parse_model(PRODUCT), model)
    np.savez(feeds, x=full(TINY, 3), w=full(1e-10, 3))
    for words, left in (([], True), (["--denormals", "flush"], False)):
        out = tmp_path / "out.npz"
        asked = ["run", str(model), "--feeds", str(feeds), "--out", str(out), *words]
        assert main(asked) == 0
        assert bool(np.load(out)["y"].any()) is left
    capsys.readouterr()
    bench = ["bench", str(model), "--feeds", str(feeds), "--rounds", "1", "--denormals", "flush"]
    assert main(bench) == 0
    assert "denormals flushed" in capsys.readouterr().out
    for words in (["run", str(model), "--denormals", "on"], ["build", str(model), *bench[-2:]]):
        assert main(words) == 2
    capsys.readouterr()
