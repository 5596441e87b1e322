"""Cancel and time-outs: a build and a run end soon, say so, and leave everything usable."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import planck
import planck.models

onnx = pytest.importorskip("onnx")
helper = onnx.helper

SOON = 0.1  # seconds from the wish to the error
SLACK = 0.15  # what a busy machine may add


@pytest.fixture(scope="module")
def bert(model_path):
    return planck.build(model_path("bert_encoder"))


@pytest.fixture(scope="module")
def large():
    """Two big weights, so that import, folding and packing each take a while."""
    rng = np.random.default_rng(1)
    names = ("w0", "w1")
    tensors = [
        onnx.numpy_helper.from_array(rng.random((4096, 8192), np.float32), name) for name in names
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Transpose", ["w1"], ["t"]),
        helper.make_node("MatMul", ["a", "t"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", 1, ["N", 4096])
    y = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph(nodes, "large", [x], [y], tensors)
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports).SerializeToString()


def stages_of(model):
    seen = []
    planck.build(model, progress=lambda stage, done: seen.append((stage, done)) or True)
    return seen


def test_progress_rises_to_one(large):
    seen = stages_of(large)
    assert [done for _, done in seen] == sorted(done for _, done in seen)
    assert seen[0] == ("importing", 0) and seen[-1] == ("done", 1)
    packing = [stage for stage, _ in seen if stage == "packing weights"]
    assert len(packing) > 2  # asked again while weights are packed


def test_cancel_at_every_stage(large):
    """False at any time, at the start of a stage or inside one, ends the build soon."""
    for stage in dict.fromkeys(stage for stage, _ in stages_of(large)):
        for skip in (0, 2):
            seen = 0
            wish = None

            def progress(name, done, stage=stage, skip=skip):
                nonlocal seen, wish
                seen += name == stage
                if seen <= skip or wish is not None:
                    return True
                wish = time.perf_counter()
                return False

            try:
                planck.build(large, progress=progress)
            except planck.CancelledError as error:
                assert time.perf_counter() - wish < SOON + SLACK, stage
                assert stage in str(error)
            else:
                assert wish is None  # the stage was over before it was asked that often


def test_exceptions_of_the_callback_come_through(large):
    def progress(stage, done):
        raise KeyError(stage)

    with pytest.raises(KeyError, match="importing"):
        planck.build(large, progress=progress)


@pytest.mark.parametrize("seconds", [0.0001, 0.02, 0.1])
def test_build_timeout(large, seconds):
    start = time.perf_counter()
    with pytest.raises(planck.TimeoutError) as caught:
        planck.build(large, limits={"build_timeout": seconds})
    assert time.perf_counter() - start < seconds + SOON + SLACK
    assert caught.value.option == "build_timeout" and "during" in str(caught.value)


def test_build_cancelled_from_another_thread(large):
    cancel = planck.Cancel()
    threading.Timer(0.05, cancel.request).start()
    start = time.perf_counter()
    with pytest.raises(planck.CancelledError):
        planck.build(large, cancel=cancel)
    assert time.perf_counter() - start < 0.05 + SOON + SLACK


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def heavy():
    """A run of about a second: products without end, and the feeds for it."""
    nodes = [
        helper.make_node("MatMul", [f"v{i}" if i else "x", "w"], [f"v{i + 1}"]) for i in range(40)
    ]
    weight = np.eye(1024, dtype=np.float32)
    x = helper.make_tensor_value_info("x", 1, ["N", 1024])
    y = helper.make_tensor_value_info("v40", 1, None)
    graph = helper.make_graph(nodes, "heavy", [x], [y], [onnx.numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    feeds = {"x": np.random.default_rng(1).normal(size=(2048, 1024)).astype(np.float32)}
    return planck.build(model.SerializeToString()), feeds


def test_run_timeout_and_the_next_run(heavy):
    plan, feeds = heavy
    want = plan.run(feeds)
    start = time.perf_counter()
    with pytest.raises(planck.TimeoutError) as caught:
        plan.run(feeds, timeout=0.02)
    assert time.perf_counter() - start < 0.02 + SOON + SLACK
    assert caught.value.option == "run_timeout"
    assert same(plan.run(feeds), want)
    assert same(plan.run(feeds, timeout=60), want)


def test_run_cancelled_from_another_thread(heavy):
    plan, feeds = heavy
    want = plan.run(feeds)
    for delay in (0, 0.001, 0.01, 0.05):
        cancel = planck.Cancel()
        wish = [0.0]

        def ask(cancel=cancel, wish=wish):
            wish[0] = time.perf_counter()
            cancel.request()

        timer = threading.Timer(delay, ask)
        timer.start()
        with pytest.raises(planck.CancelledError):
            plan.run(feeds, cancel=cancel)
        assert time.perf_counter() - wish[0] < 0.01 + SLACK
        timer.join()
        assert cancel.requested
        assert same(plan.run(feeds), want)
        with pytest.raises(planck.CancelledError):
            plan.run(feeds, cancel=cancel)  # asked before the run


def test_one_cancel_for_many_threads(heavy):
    plan, feeds = heavy
    cancel = planck.Cancel()
    caught = []

    def work():
        try:
            plan.run(feeds, cancel=cancel)
        except planck.CancelledError as error:
            caught.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    cancel.request()
    for thread in threads:
        thread.join(timeout=10)
    assert len(caught) == 4


def test_reference_steps_end_soon_too():
    """One long step without a kernel."""
    x = helper.make_tensor_value_info("x", 1, ["N", 4])
    y = helper.make_tensor_value_info("y", 1, None)
    node = helper.make_node("Hardmax", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    plan = planck.build(model.SerializeToString())
    feeds = {"x": np.ones((2_000_000, 4), np.float32)}
    start = time.perf_counter()
    with pytest.raises(planck.TimeoutError):
        plan.run(feeds, timeout=0.02)
    assert time.perf_counter() - start < 0.02 + SOON + SLACK


def test_no_time_is_no_error(bert):
    feeds = planck.models.feeds("bert_encoder", (1, 4), size="mini")
    with pytest.raises(planck.UsageError, match="timeout"):
        bert.run(feeds, timeout=0)
    bert.run(feeds, timeout=None, cancel=None)
