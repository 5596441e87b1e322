"""Structure, provenance, shapes, threads, bits and allocations of a built plan."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import planck
import planck.models

NORMS = ("LayerNormalization", "planck.AddLayerNorm", "planck.Embedding")


@pytest.fixture(scope="module")
def bert(model_path):
    return planck.build(model_path("bert_encoder"))


def feeds_of(batch, length, seed=0):
    return planck.models.feeds("bert_encoder", (batch, length), seed=seed, size="mini")


def test_structure_of_full_bert(model_path):
    plan = planck.build(model_path("bert_encoder", "full"))
    ops = plan.report["ops"]
    assert sum(ops.get(op, 0) for op in NORMS) == 25
    assert ops["planck.Attention"] == 12
    gelus = [s for s in plan.steps if s.op == "planck.Linear" and any("Erf" in n for n in s.nodes)]
    assert len(gelus) == 12
    assert "Shape" not in ops and "Constant" not in ops and "Gelu" not in ops
    assert not any(step.kernel == "reference" for step in plan.steps)


def test_trace_has_a_time_for_every_step(bert):
    feeds = feeds_of(2, 5)
    before = bert.run(feeds)["last_hidden_state"]
    trace = bert.trace(feeds)
    assert len(trace) == len(bert.steps)
    assert all(0 <= step.seconds < 60 for step in trace)
    products = [t.flops for t, s in zip(trace, bert.steps, strict=True) if s.op == "planck.Linear"]
    assert 2.0 * 2 * 5 * 64 * 3 * 64 in products  # Q, K and V of the mini size in one product
    assert np.array_equal(bert.run(feeds)["last_hidden_state"], before)


def test_every_onnx_node_is_covered(bert):
    covered = {name for step in bert.steps for name in step.nodes}
    assert covered | set(bert.unused) == set(bert.nodes)
    assert not bert.unused


def test_explain_names_steps_kernels_and_losers(bert):
    text = bert.explain()
    assert "planck.Attention" in text and "precision asked fp32, given fp32" in text
    assert "this machine has no" in text or "slower by arithmetic" in text
    for step in bert.steps:
        assert all(reason for _, reason in step.rejected)


def test_refusals_carry_reasons(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    # A GELU whose inner value is read outside as well.
    nodes = [
        helper.make_node("Div", ["x", "root2"], ["scaled"], "div"),
        helper.make_node("Erf", ["scaled"], ["erf"], "erf"),
        helper.make_node("Add", ["erf", "one"], ["sum"], "add"),
        helper.make_node("Mul", ["x", "sum"], ["product"], "mul"),
        helper.make_node("Mul", ["product", "half"], ["y"], "half"),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        for name, value in (("root2", 2**0.5), ("one", 1.0), ("half", 0.5))
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])
        for name in ("x", "y", "erf")
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "refused.onnx"
    onnx.save(model, path)
    plan = planck.build(path)
    assert plan.report["refusals"]
    assert all(reason for _, _, reason in plan.report["refusals"])
    x = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)
    out = plan.run({"x": x})
    assert np.allclose(out["y"], out["erf"] * 0.5 * x + 0.5 * x, atol=1e-6)


def test_every_shape_without_rebuild_and_without_allocation(bert):
    for batch, length in ((1, 1), (64, 2), (2, 512), (7, 33), (1, 511)):
        assert bert.run(feeds_of(batch, length))["last_hidden_state"].shape == (batch, length, 64)
    feeds = feeds_of(2, 512)
    out = bert.run(feeds)
    want = {name: array.copy() for name, array in out.items()}
    before = bert.stats
    for _ in range(5):
        again = bert.run(feeds, out=out)
        assert all(again[name] is out[name] for name in out)
    after = bert.stats
    assert (after.allocations, after.bindings) == (before.allocations, before.bindings)
    assert all(np.array_equal(out[name], want[name]) for name in out)


def test_same_bits_for_any_threads(model_path):
    feeds = feeds_of(3, 37, seed=4)
    results = [
        planck.build(model_path("bert_encoder"), threads=threads).run(feeds)
        for threads in (1, 2, 3, 8)
    ]
    for other in results[1:]:
        assert all(np.array_equal(other[name], results[0][name]) for name in other)


@pytest.mark.parametrize("size", ["mini", "full"])
def test_row_of_a_batch_is_the_row_alone(size, model_path):
    plan = planck.build(model_path("bert_encoder", size))
    feeds = planck.models.feeds("bert_encoder", (8, 21), seed=2, size=size)
    together = plan.run(feeds)
    for row in (0, 3, 7):
        alone = plan.run({name: array[row : row + 1] for name, array in feeds.items()})
        for name, got in alone.items():
            assert np.array_equal(got[0], together[name][row])


def test_many_callers_same_bits(bert):
    shapes = [(1, 5), (2, 9), (3, 17)]
    want = {shape: bert.run(feeds_of(*shape)) for shape in shapes}
    wrong = []

    def call(index):
        for turn in range(10):
            shape = shapes[(index + turn) % len(shapes)]
            got = bert.run(feeds_of(*shape))
            if not all(np.array_equal(got[n], want[shape][n]) for n in got):
                wrong.append(shape)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_integer_width_and_strides(bert):
    feeds = feeds_of(2, 6)
    want = bert.run(feeds)
    narrow = {name: array.astype(np.int32) for name, array in feeds.items()}
    strided = {name: np.asfortranarray(array) for name, array in feeds.items()}
    for given in (narrow, strided):
        assert all(np.array_equal(got, want[n]) for n, got in bert.run(given).items())


def test_block_chains_build_quickly(model_path):
    path = model_path("blocks")
    start = time.perf_counter()
    plan = planck.build(path)
    assert plan.report["onnx_nodes"] >= 2600
    assert plan.report["passes_ms"] < 2000, time.perf_counter() - start
    assert plan.report["ops"]["planck.Attention"] == 28


MEASURE = """
import resource, sys, threading, time
import planck
def anonymous():
    with open("/proc/self/smaps_rollup") as f:
        return sum(int(l.split()[1]) for l in f if l.startswith("Anonymous:")) / 1024
peak, done = 0.0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous()); time.sleep(0.01)
watcher = threading.Thread(target=watch); watcher.start()
start = time.perf_counter(); before = anonymous()
plan = planck.build(sys.argv[1], precision="fp32")
seconds = time.perf_counter() - start
done = True; watcher.join()
print(seconds, peak - before)
"""


def test_build_time_and_memory_of_full_bert(model_path):
    """< 10 s, and anonymous memory <= 2.5 x model + 200 MB."""
    path = model_path("bert_encoder", "full")
    printed = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    ).stdout
    seconds, anonymous_mib = map(float, printed.split())
    model_mib = path.stat().st_size / 2**20
    print(f"build {seconds:.2f} s, anonymous {anonymous_mib:.0f} MiB of model {model_mib:.0f} MiB")
    assert seconds < 10
    assert anonymous_mib <= 2.5 * model_mib + 200


def test_eight_threads_two_hundred_runs_nine_shapes(model_path):
    """Bits equal to serial runs, whoever gets the team and whoever runs alone."""
    plan = planck.build(model_path("bert_encoder"))
    shapes = [(batch, length) for batch in (1, 2, 5) for length in (1, 7, 16)]
    feeds = {shape: feeds_of(*shape) for shape in shapes}
    want = {shape: plan.run(feeds[shape]) for shape in shapes}
    check_callers(plan, shapes, feeds, want, callers=8, runs=200)


def test_eight_threads_on_the_full_model(model_path):
    plan = planck.build(model_path("bert_encoder", "full"))
    feeds = planck.models.feeds("bert_encoder", (1, 8), size="full")
    check_callers(plan, [(1, 8)], {(1, 8): feeds}, {(1, 8): plan.run(feeds)}, callers=8, runs=20)


def check_callers(plan, shapes, feeds, want, callers, runs):
    failures = []
    begin = threading.Barrier(callers)

    def call(index):
        begin.wait()
        try:
            for turn in range(runs):
                shape = shapes[(index + turn) % len(shapes)]
                got = plan.run(feeds[shape])
                if not all(np.array_equal(got[n], want[shape][n]) for n in got):
                    failures.append(f"bits differ at {shape}")
        except planck.Error as error:
            failures.append(str(error))

    threads = [threading.Thread(target=call, args=(i,)) for i in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]


def test_a_run_lets_other_python_threads_go_on(model_path):
    """The GIL is released: a thread that counts advances while one long run is on."""
    plan = planck.build(model_path("bert_encoder", "full"), threads=1)
    feeds = planck.models.feeds("bert_encoder", (2, 128), size="full")
    plan.run(feeds)
    done = threading.Event()
    beats = []

    def count():
        while not done.wait(0.005):
            beats.append(1)

    thread = threading.Thread(target=count)
    thread.start()
    plan.run(feeds)
    done.set()
    thread.join()
    assert len(beats) >= 5


class Shared:
    """An array that others see by DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_feeds_of_other_libraries(model_path):
    plan = planck.build(model_path("bert_encoder"))
    feeds = planck.models.feeds("bert_encoder", (2, 5), size="mini")
    want = plan.run(feeds)
    for kind in (Shared, memoryview, np.ndarray.tolist):
        got = plan.run({name: kind(array) for name, array in feeds.items()})
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])
    for value, text in {"None": (None, "is None"), "ragged": ([[1, 2], [3]], "read as")}.values():
        with pytest.raises(planck.FeedError, match=text):
            plan.run(feeds | {"input_ids": value})


def test_notebooks_show_the_steps_escaped():
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="<script>")
    ports = [onnx.helper.make_tensor_value_info(n, 1, [2]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:])
    imports = [onnx.helper.make_opsetid("", 20)]
    plan = planck.build(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8))
    text = plan._repr_html_()
    assert "&lt;script&gt;" in text and "<script>" not in text and "Relu" in text
