"""Calibration: GB/s of activations a core, and the time of the solvers.

    python bench/calibration.py

Times are of the processor, one thread, least of the rounds. Held against: 2 GB/s, and 2 s for 200
tensors by all six methods.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planck import _core

ROUNDS = 5
TENSORS = 200
ELEMENTS = 1 << 22
METHODS = [name for name, _ in _core.calibrators()]


def core_of(tensors: int, **tensor: Any) -> _core.Calibration:
    """Statistics without data."""
    facts = {"method": "auto", "percentile": 99.99, "zero_policy": "skip"}
    return _core.Calibration(facts, [{"name": f"t{i}", **tensor} for i in range(tensors)])


def seconds(body: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Processor time of the fastest round."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        body()
        times.append(time.process_time() - start)
    return min(times)


def data() -> dict[str, NDArray[Any]]:
    """Arrays whose bins are spread, crowded, and mostly zero."""
    random = np.random.default_rng(0)
    gauss = random.standard_normal(ELEMENTS).astype(np.float32)
    return {
        "normal": gauss,
        "relu": np.maximum(gauss, 0),
        "heavy tails": gauss**5,
        "constant": np.full(ELEMENTS, 1.5, np.float32),
        "float16": gauss.astype(np.float16),
    }


def collect() -> None:
    """Prints GB/s of each kind of data."""
    print(f"{'collector, one core':<34} GB/s")
    for name, array in data().items():
        for channels in (False, True):
            core = core_of(1, channels=channels)
            shaped = array.reshape(-1, 1024)
            taken = seconds(lambda c=core, a=shaped: c.observe([(0, a)], 1, 0, 1))
            what = name + (", ranges of 1024 channels" if channels else "")
            print(f"  {what:<32} {array.nbytes / taken / 1e9:.2f}")


def solve() -> None:
    """Prints the time of each method for all tensors, and the sum."""
    random = np.random.default_rng(1)
    core = core_of(TENSORS)
    for i in range(TENSORS):
        x = random.standard_normal(100_000).astype(np.float32)
        x = x if i % 3 else np.maximum(x, 0)
        core.observe([(i, x if i % 2 else x**3)], 64, 0, 1)
    total = 0.0
    print(f"{TENSORS} tensors, one thread            seconds")
    for method in METHODS:
        taken = seconds(lambda m=method: core.solve({"method": m}, 1), 2)
        total += taken
        print(f"  {method:<32} {taken:.3f}")
    print(f"  {'all six':<32} {total:.3f}")
    size = len(core.to_bytes())
    print(f"  file: {size / TENSORS / 1024:.0f} KiB a tensor")


if __name__ == "__main__":
    collect()
    solve()
