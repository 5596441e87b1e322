"""`make demo`: builds BERT and MiniLM, runs them on real sentences, beside the peers.

Prints the machine, how each build went, how long a saved plan takes to its first answer, the
largest difference of every output against ONNX Runtime, the worst tensors against double precision,
for MiniLM the nearest neighbours of three sentences and what int8 costs and gains, and times of one
interleaved run.
"""

from __future__ import annotations

import argparse
import pydoc
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import planck
from bench.cases import load_cases
from bench.models import render, run_cases

MODELS = ("bert_encoder", "minilm")
CASES = ("bert_encoder-1x32-", "bert_encoder-1x128-", "minilm-1x32-", "minilm-1x128-")
# Modules whose documentation is prose: real sentences that every Python carries.
PROSE = ("string", "random", "json", "threading", "socket", "datetime", "decimal", "statistics")
CALIBRATION = 96  # sentences
QUERIES = (
    "Pick a random element from a list.",
    "Wait until another thread releases the lock.",
    "Convert a Python object to JSON text.",
)


def environment() -> str:
    """One line: CPU, instruction set, threads."""
    facts = planck.device()
    return f"{facts['cpu']}, {facts['isa']}, {facts['cores']} threads"


def build_summary(name: str, path: Path) -> planck.Plan:
    """Builds one model and prints nodes in, steps out, what was fused, seconds, peak memory."""
    plan = planck.build(path, precision="fp32", progress=True)
    report = plan.report
    seconds = (report["import_ms"] + report["passes_ms"] + report["lower_ms"]) / 1e3
    fused = ", ".join(f"{op} x{n}" for op, n in sorted(report["ops"].items()) if n > 1)
    print(
        f"{name}: {report['onnx_nodes']} ONNX nodes -> {len(plan.steps)} steps in {seconds:.2f} s"
    )
    print(f"  {fused}")
    peak = report["peak_rss_bytes"] / 1e6
    print(f"  peak resident memory of the process so far {peak:.0f} MB, mapped model included")
    return plan


def differences(name: str, path: Path, plan: planck.Plan) -> None:
    """Largest difference of every output against ONNX Runtime without optimisations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = planck.models.feeds(name, (3, 32), seed=1)
    outputs = [port.name for port in session.get_outputs()]
    expected = dict(zip(outputs, session.run(outputs, feeds), strict=True))
    got = plan.run(feeds)
    for output, want in expected.items():
        gap = float(np.max(np.abs(got[output] - want)))
        print(
            f"  {name}.{output} at 3x32: max |difference| {gap:.2e} of max {np.abs(want).max():.2f}"
        )


def first_answer(name: str, path: Path, plan: planck.Plan) -> planck.Plan:
    """Prints seconds from a saved plan to an answer, beside ONNX Runtime; gives the loaded plan."""
    import onnxruntime as ort

    saved = path.with_suffix(".plan")
    plan.save(saved)
    feeds = planck.models.feeds(name, (1, 128), seed=2)
    options = ort.SessionOptions()
    options.intra_op_num_threads = plan.threads
    options.log_severity_level = 3

    def session() -> Callable[[], object]:
        made = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda: made.run(None, feeds)

    def load() -> Callable[[], object]:
        loaded = planck.load(saved)
        return lambda: loaded.run(feeds)

    ours, theirs = _seconds_to_answer(load), _seconds_to_answer(session)
    print(
        f"  plan file {saved.stat().st_size / 1e6:.0f} MB (model {path.stat().st_size / 1e6:.0f})"
    )
    print("  from the file to the first answer at 1x128, files in the page cache:")
    print(f"    planck.load {ours[0]:.3f} s + first run {ours[1]:.3f} s = {sum(ours):.3f} s")
    print(f"    onnxruntime {theirs[0]:.3f} s + first run {theirs[1]:.3f} s = {sum(theirs):.3f} s")
    return planck.load(saved)


def _seconds_to_answer(make: Callable[[], Callable[[], object]]) -> tuple[float, float]:
    start = time.perf_counter()
    run = make()
    made = time.perf_counter()
    run()
    return made - start, time.perf_counter() - made


def accuracy(name: str, plan: planck.Plan) -> None:
    """The ten worst of all tensors of the model against double precision, at a small shape."""
    report = planck.compare(plan, "double", planck.models.feeds(name, (2, 16), seed=3))
    print(f"  worst tensors of {name} at 2x16 against the model in double precision:")
    print("\n".join(f"    {line}" for line in str(report).splitlines()))


def sentences() -> list[str]:
    """First sentences of documentation strings of the standard library."""
    found: dict[str, None] = {}
    for module in PROSE:
        text = pydoc.plain(pydoc.render_doc(module))
        for line in re.findall(r"^[ |]+([A-Z][^\n]{30,90}\.)$", text, re.MULTILINE):
            found.setdefault(line.strip(), None)
    return list(found)


def embed(plan: planck.Plan, texts: list[str]) -> NDArray[Any]:
    """Sentence embeddings [len(texts), 384], of length 1."""
    return plan.run(planck.models.tokenize(texts))["sentence_embedding"]


def neighbours(plan: planck.Plan) -> None:
    """The nearest documented sentence of each query."""
    texts = sentences()
    corpus = embed(plan, texts)
    scores = embed(plan, list(QUERIES)) @ corpus.T
    print(f"nearest of {len(texts)} sentences from the standard library (MiniLM, cosine):")
    for query, row in zip(QUERIES, scores, strict=True):
        print(f"  {query}")
        for at in np.argsort(-row)[:3]:
            print(f"    {row[at]:.3f}  {texts[at]}")


def eight_bits(path: Path, plan: planck.Plan) -> None:
    """MiniLM in int8, calibrated on sentences: what it costs in accuracy and gains in time."""
    texts = sentences()
    held_out = texts[CALIBRATION:]
    batches = [planck.models.tokenize(texts[i : i + 8]) for i in range(0, CALIBRATION, 8)]
    smoothed = planck.smooth(path, batches, groups="all").SerializeToString()
    scales = planck.calibrate(smoothed, batches).solve()
    int8 = planck.build(smoothed, precision="int8", scales=scales)
    products = sum(step.family == "qproduct" for step in int8.steps)
    print(f"int8: calibrated on {CALIBRATION} sentences, {products} products run on integers")
    floats, integers = embed(plan, held_out), embed(int8, held_out)
    cosine = np.sum(floats * integers, axis=1)
    kept = np.mean(_nearest(floats) == _nearest(integers))
    print(
        f"  {len(held_out)} other sentences: mean cosine to fp32 {cosine.mean():.4f}, worst "
        f"{cosine.min():.4f}; nearest neighbour kept {kept:.1%}"
    )
    feeds = planck.models.feeds("minilm", (1, 128), seed=4)
    times = np.array([[_seconds(plan, feeds), _seconds(int8, feeds)] for _ in range(30)])
    ratio = np.median(times[:, 0]) / np.median(times[:, 1])
    print(f"  at 1x128, in turns: int8 is {ratio:.2f} x as fast as fp32")


def _nearest(embeddings: NDArray[Any]) -> NDArray[Any]:
    scores = embeddings @ embeddings.T
    np.fill_diagonal(scores, -2)
    nearest: NDArray[Any] = scores.argmax(axis=1)
    return nearest


def _seconds(plan: planck.Plan, feeds: dict[str, NDArray[Any]]) -> float:
    start = time.perf_counter()
    plan.run(feeds)
    return time.perf_counter() - start


def main() -> None:
    """Runs the whole demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="interleaved rounds of the table")
    options = parser.parse_args()
    print(environment())
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            path = Path(folder) / f"{name}.onnx"
            planck.models.write(name, path)
            plan = build_summary(name, path)
            plan = first_answer(name, path, plan)
            differences(name, path, plan)
            accuracy(name, plan)
            if name == "minilm":
                neighbours(plan)
                eight_bits(path, plan)
    print("times, every engine in a process of its own, one interleaved run:")
    cases = [case for case in load_cases() if case.id.startswith(CASES)]
    print(render(run_cases(cases, rounds=options.rounds)))


if __name__ == "__main__":
    main()
