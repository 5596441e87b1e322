"""Latency beside noisy neighbours: one busy process on every core, at the engine's own priority.

    python bench/noisy.py [bert_encoder-1x128] [--engines planck,onnxruntime] [--blocks 6]

Quiet and noisy blocks alternate, so that a machine that drifts moves both. A fair scheduler leaves
every thread half a core: twice the quiet time is the floor. Goals for Planck: median at most 2.5
times the quiet median, 90th percentile at most 3 times. The exit status is 1 where they are missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a script's path has only bench/

from bench import environment
from bench.cases import load_cases
from bench.models import Worker, prepare

MEDIAN_GOAL, P90_GOAL = 2.5, 3.0
BUSY = "import os, sys; os.sched_setaffinity(0, [int(sys.argv[1])])\nwhile True: pass"


@contextlib.contextmanager
def neighbours(cpus: Sequence[int]) -> Iterator[None]:
    """A process that computes without end on each of the CPUs."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY, str(cpu)]) for cpu in cpus]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def percentile(seconds: Sequence[float], share: float) -> float:
    """The value below which this share of the times lies."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(worker: Worker, cpus: Sequence[int], blocks: int, runs: int) -> tuple[list[float], ...]:
    """Seconds of each quiet and each noisy run."""
    quiet: list[float] = []
    noisy: list[float] = []
    for _ in range(blocks):
        worker.settle()
        quiet += worker.round(runs, "none")
        with neighbours(cpus):
            worker.settle()
            noisy += worker.round(runs, "none")
    return quiet, noisy


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="bench/noisy.py", description="Latency beside neighbours")
    parser.add_argument("only", nargs="?", default="bert_encoder-1x128", help="part of a case's id")
    parser.add_argument("--engines", default="planck", help="comma-separated")
    parser.add_argument("--blocks", type=int, default=6, help="quiet and noisy, alternating")
    parser.add_argument("--runs", type=int, default=10, help="in a block")
    options = parser.parse_args(arguments)
    case = load_cases(only=options.only)[0]
    cpus = environment.pick_cpus(case.threads)
    missed = False
    print(f"{case.id}: {case.threads} threads on CPUs {list(cpus)}, nice {os.nice(0)}")
    for engine in options.engines.split(","):
        worker = Worker(engine, 600.0)
        with contextlib.closing(worker):
            worker.build(prepare(case), cpus)
            quiet, noisy = measure(worker, cpus, options.blocks, options.runs)
        median, p90 = statistics.median(quiet), percentile(quiet, 0.9)
        ratios = statistics.median(noisy) / median, percentile(noisy, 0.9) / median
        print(
            f"{engine}: quiet median {1e3 * median:.1f} ms, p90 {1e3 * p90:.1f}; noisy median "
            f"{1e3 * statistics.median(noisy):.1f} ({ratios[0]:.2f} x), p90 "
            f"{1e3 * percentile(noisy, 0.9):.1f} ({ratios[1]:.2f} x)"
        )
        missed |= engine == "planck" and (ratios[0] > MEDIAN_GOAL or ratios[1] > P90_GOAL)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
