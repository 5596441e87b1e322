"""Reads the benchmark's data: cases.toml and thresholds.toml."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # the same module under its older name
    import tomli as tomllib


HERE = Path(__file__).resolve().parent
COLD_KINDS = ("round", "run", "none")


@dataclass(frozen=True)
class Case:
    """One row of cases.toml: what is run, how, and the ratio that Planck has to reach."""

    model: str
    size: str
    shape: tuple[int, ...]
    precision: str = "fp32"
    threads: int = 2
    cold: str = "round"
    runs: int = 3
    peers: tuple[str, ...] = ("onnxruntime", "openvino")
    seed: int = 1
    goal: float | None = None

    def __post_init__(self) -> None:
        if self.cold not in COLD_KINDS:
            raise ValueError(f"{self.id}: cold is {self.cold!r}, not one of {COLD_KINDS}")
        if self.runs < 1 or self.threads < 1 or not self.shape:
            raise ValueError(f"{self.id}: runs, threads and shape must not be empty or zero")

    @property
    def id(self) -> str:
        """Name in tables, files and thresholds.toml, such as `bert_encoder-1x128-fp32`."""
        return f"{self.model}-{'x'.join(map(str, self.shape))}-{self.precision}"

    @property
    def batch(self) -> int:
        """Samples per run."""
        return self.shape[0]


@dataclass(frozen=True)
class Thresholds:
    """thresholds.toml: ratios by CPU class and thread count, limits of error, spread and growth."""

    spread: float = 0.10
    scale_growth: float = 0.05
    error: dict[str, float] = field(default_factory=dict)
    goals: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def goal(self, case: Case, cpu_class: str) -> float | None:
        """The ratio demanded of `case` on this class; None where none is stated."""
        return self.goals.get(cpu_class, {}).get(str(case.threads), {}).get(case.id)


def load_thresholds(path: Path = HERE / "thresholds.toml") -> Thresholds:
    """Reads the limits; an unknown key is an error."""
    return Thresholds(**tomllib.loads(path.read_text()))


def load_cases(
    path: Path = HERE / "cases.toml", *, only: str = "", threads: int | None = None
) -> list[Case]:
    """Reads the rows whose id contains `only`; `threads` replaces the count of each row.

    A goal written in a row belongs to the row's own thread count and goes when that is replaced.
    """
    document = tomllib.loads(path.read_text())
    cases = [_case(document.get("defaults", {}) | row) for row in document["case"]]
    if threads is not None:
        cases = [
            replace(case, threads=threads, goal=case.goal if threads == case.threads else None)
            for case in cases
        ]
    return [case for case in cases if only in case.id]


def _case(row: dict[str, Any]) -> Case:
    row = dict(row)
    for key in ("shape", "peers"):
        if key in row:
            row[key] = tuple(row[key])
    return Case(**row)
