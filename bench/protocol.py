"""Messages between the benchmark and its workers; what each one means is told in worker.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.peers import Array, Problem


@dataclass(frozen=True)
class Build:
    """Build `engine`, pinned to `cpus`, and run it `warmups` times."""

    engine: str
    problem: Problem
    cpus: tuple[int, ...]
    warmups: int


@dataclass(frozen=True)
class Built:
    """What the engine says about itself, its outputs, and the seconds that it took to build."""

    version: str
    options: dict[str, Any]
    outputs: dict[str, Array]
    build_s: float


@dataclass(frozen=True)
class Round:
    """Time `runs` inferences; `evict` is "round", "run" or "none"."""

    runs: int
    evict: str


@dataclass(frozen=True)
class Failure:
    """Why there is no reading."""

    reason: str
