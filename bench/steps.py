"""Where a run's time goes: the median time of every step, and the rate of its products.

    python bench/steps.py minilm-1x32 [--runs 200] [--all] [--no-evict]

Steps of the same op and the same number of operations are one line; the last column says how long
the products would take at the rate given by --peak. What lies between the run and the sum of its
steps is Python, feeds and the start of the team.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a script's path has only bench/

from bench import environment
from bench.cases import Case, load_cases
from bench.models import prepare
from bench.peers import import_planck
from bench.worker import Evictor


def measure(case: Case, runs: int, evict: bool) -> tuple[Any, list[list[Any]], list[float]]:
    """The plan, the trace of each run, and seconds of ordinary runs between them."""
    problem = prepare(case)
    os.sched_setaffinity(0, environment.pick_cpus(case.threads))
    plan = import_planck().build(problem.path, threads=case.threads, denormals=case.denormals)
    evictor = Evictor()
    traces, whole = [], []
    for turn in range(2 * runs + 6):
        if evict:
            evictor.walk()
        start = time.perf_counter()
        if turn % 2:
            plan.run(problem.feeds)
            whole.append(time.perf_counter() - start)
        else:
            traces.append(plan.trace(problem.feeds))
    return plan, traces[3:], whole[3:]


def table(plan: Any, traces: list[list[Any]], peak: float, each: bool) -> list[str]:
    """One line for each kind of step, or for each step."""
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, step in enumerate(plan.steps):
        key = (step.op, traces[0][index].flops, index if each else 0)
        groups[key].append(index)
    lines = [
        f"{'step':<30} {'count':>5} {'us each':>9} {'us all':>9} {'GFLOP/s':>8} {'floor us':>9}"
    ]
    for (op, flops, index), members in groups.items():
        us = [1e6 * statistics.median(trace[i].seconds for trace in traces) for i in members]
        rate = f"{flops * len(us) / sum(us) * 1e-3:8.1f} {flops / peak * 1e6:9.1f}" if flops else ""
        name = f"{index} {op}" if each else op
        lines.append(f"{name:<30} {len(us):>5} {sum(us) / len(us):>9.1f} {sum(us):>9.1f} {rate}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="bench/steps.py", description="Time by step")
    parser.add_argument("only", help="cases whose id contains this; the first one is run")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--peak", type=float, default=200.0, help="GFLOP/s, for the floor")
    parser.add_argument("--all", action="store_true", help="a line for each step")
    parser.add_argument("--no-evict", action="store_true", help="leave the caches alone")
    options = parser.parse_args(arguments)
    cases = load_cases(only=options.only)
    if not cases:
        print(f"no case matches {options.only!r}", file=sys.stderr)
        return 2
    plan, traces, whole = measure(cases[0], options.runs, not options.no_evict)
    sums = [sum(step.seconds for step in trace) for trace in traces]
    floor = sum(step.flops for step in traces[0]) / options.peak * 1e-3
    print("\n".join(table(plan, traces, 1e9 * options.peak, options.all)))
    print(
        f"{cases[0].id}: run {1e6 * statistics.median(whole):.0f} us, steps "
        f"{1e6 * statistics.median(sums):.0f} us, floor of products {floor:.0f} us"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
