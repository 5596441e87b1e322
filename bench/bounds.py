"""What is left to gain: the ratio that no exact engine can pass, beside the one of a record.

    build/ci/bench_kernels --benchmark_filter='(peak|read)/threads2'
    python bench/bounds.py bench/results/models-fp32-avx512.json --peak 203 --read 40

A run takes at least as long as its multiplications and additions at the processor's peak, and as
its weights take to come from memory; the bound is the larger of the two times. The time of the
record's fastest peer over that bound is the most that a ratio can be on this machine while sums are
direct: with `fp32-fast`, or with fewer operations in the graph, the bound itself is smaller. Both
rates are of the machine and the thread count of the record.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a script's path has only bench/

from bench import environment
from bench.cases import load_cases
from bench.models import prepare
from bench.peers import import_planck


@dataclass(frozen=True)
class Bound:
    """A case of a record: milliseconds, and what its work takes at least."""

    case: str
    model: str
    planck_ms: float
    peer_ms: float
    compute_ms: float
    traffic_ms: float

    @property
    def bound_ms(self) -> float:
        """The least time of a run."""
        return max(self.compute_ms, self.traffic_ms)

    @property
    def ratio(self) -> float:
        """The peer's time over Planck's."""
        return self.peer_ms / self.planck_ms

    @property
    def most(self) -> float:
        """The peer's time over the bound."""
        return self.peer_ms / self.bound_ms


def work(case_id: str) -> tuple[float, float]:
    """Floating-point operations of a run's products, and bytes that they read from memory.

    Those are the packed weights, unless they stay in the last cache from run to run.
    """
    case = next(case for case in load_cases() if case.id == case_id)
    problem = prepare(case)
    plan = import_planck().build(problem.path, threads=case.threads, precision=case.precision)
    trace = plan.trace(problem.feeds)
    products = [step for step, time in zip(plan.steps, trace, strict=True) if time.flops]
    weights = sum(_packed_bytes(operand) for step in products for operand in step.reads)
    stays = case.cold != "run" and weights < _last_cache_bytes()
    return sum(step.flops for step in trace), 0 if stays else weights


def _last_cache_bytes() -> int:
    """Of the last cache that CPU 0 sees, as the kernel says: CPUID may name a whole socket's."""
    units = {"K": 1 << 10, "M": 1 << 20}
    sizes = [size for size in environment.caches().values() if size[-1] in units]
    return max((int(size[:-1]) * units[size[-1]] for size in sizes), default=0)


def _packed_bytes(operand: str) -> int:
    """Bytes of an operand like "f32[4096]"; 0 for others, since packed weights have one axis.

    >>> _packed_bytes("f32[4096]"), _packed_bytes("s8[64]"), _packed_bytes("f32[B,64]")
    (16384, 64, 0)
    """
    found = re.fullmatch(r"[a-z]+(\d+)\[(\d+)\]", operand)
    return int(found[1]) // 8 * int(found[2]) if found else 0


def bounds(record: dict[str, Any], peak: float, read: float) -> list[Bound]:
    """One row for each fp32 case that was measured; peak in GFLOP/s, read in GB/s."""
    rows = []
    for case in record["cases"]:
        times = {name: e["median_ms"] for name, e in case["engines"].items() if e["measured"]}
        peers = [ms for name, ms in times.items() if not name.startswith("planck")]
        if case["precision"] != "fp32" or "planck" not in times or not peers:
            continue
        flops, weights = work(case["id"])
        least = (flops / peak * 1e-6, weights / read * 1e-6)
        rows.append(Bound(case["id"], case["model"], times["planck"], min(peers), *least))
    return rows


def mean_by_model(rows: Sequence[Bound], attribute: str) -> float:
    """Geometric mean over models; a model counts once, by the mean of its shapes."""
    logs = defaultdict(list)
    for row in rows:
        logs[row.model].append(math.log(getattr(row, attribute)))
    return math.exp(sum(sum(group) / len(group) for group in logs.values()) / len(logs))


def table(rows: Sequence[Bound]) -> str:
    """The rows and their means as text."""
    lines = [
        f"{'case':<28} {'planck ms':>9} {'peer ms':>9} {'compute':>9} {'weights':>9}"
        f" {'ratio':>6} {'most':>6}"
    ]
    lines += [
        f"{r.case:<28} {r.planck_ms:>9.2f} {r.peer_ms:>9.2f} {r.compute_ms:>9.2f}"
        f" {r.traffic_ms:>9.2f} {r.ratio:>6.2f} {r.most:>6.2f}"
        for r in rows
    ]
    means = [mean_by_model(rows, name) for name in ("ratio", "most")]
    lines.append(f"{'geometric mean over models':<68} {means[0]:>6.2f} {means[1]:>6.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 2 for a record without fp32 cases."""
    parser = argparse.ArgumentParser(prog="bench/bounds.py", description="Ratios and their bounds")
    parser.add_argument("record", type=Path, help="JSON of bench/models.py")
    parser.add_argument("--peak", type=float, required=True, help="GFLOP/s of all threads")
    parser.add_argument("--read", type=float, required=True, help="GB/s of all threads")
    options = parser.parse_args(arguments)
    rows = bounds(json.loads(options.record.read_text()), options.peak, options.read)
    if not rows:
        print(f"{options.record} has no measured fp32 case", file=sys.stderr)
        return 2
    print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
