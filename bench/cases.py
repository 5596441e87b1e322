"""Reads the benchmark's data: cases.toml and thresholds.toml."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.peers import family

if sys.version_info >= (3, 11):
    import tomllib
else:  # the same module under its older name
    import tomli as tomllib


HERE = Path(__file__).resolve().parent
COLD_KINDS = ("round", "run", "none")
DENORMALS = ("compute", "flush")
PEERS = "peers"  # the rival whose goal is written as a number alone
Goals = dict[str, float]  # least ratio by rival


@dataclass(frozen=True)
class Case:
    """One row of cases.toml: what is run, how, and the ratio that Planck has to reach.

    baseline: Planck in another form, measured beside it. reference: the engine whose outputs are
    right; one that is not measured is run for them alone. denormals: what the engines that are
    measured do with subnormal numbers, each by its own option. calibrated: shape of the samples
    that an int8 case is calibrated on, its own unless given.
    """

    model: str
    size: str
    shape: tuple[int, ...]
    precision: str = "fp32"
    threads: int = 2
    cold: str = "round"
    runs: int = 3
    peers: tuple[str, ...] = ("onnxruntime", "openvino")
    baseline: str | None = None
    reference: str = "onnxruntime"
    denormals: str = "compute"
    calibrated: tuple[int, ...] | None = None
    seed: int = 1
    goal: float | None = None

    def __post_init__(self) -> None:
        if self.cold not in COLD_KINDS:
            raise ValueError(f"{self.id}: cold is {self.cold!r}, not one of {COLD_KINDS}")
        if self.denormals not in DENORMALS:
            raise ValueError(f"{self.id}: denormals is {self.denormals!r}, not one of {DENORMALS}")
        if self.runs < 1 or self.threads < 1 or not self.shape:
            raise ValueError(f"{self.id}: runs, threads and shape must not be empty or zero")

    @property
    def id(self) -> str:
        """Name in tables, files and thresholds.toml, such as `bert_encoder-1x128-fp32`."""
        return f"{self.model}-{'x'.join(map(str, self.shape))}-{self.precision}"

    @property
    def engines(self) -> tuple[str, ...]:
        """What is measured unless told otherwise: Planck, its baseline, the peers."""
        return ("planck", *filter(None, [self.baseline]), *self.peers)

    @property
    def rivals(self) -> dict[str, tuple[str, ...]]:
        """Engines by what Planck is compared with, where the fastest counts.

        PEERS are all of them, a family all forms of one peer, and the baseline stands for itself.
        """
        families = dict.fromkeys(map(family, self.peers))
        found = {PEERS: self.peers}
        found |= {name: tuple(p for p in self.peers if family(p) == name) for name in families}
        return found | ({self.baseline: (self.baseline,)} if self.baseline else {})

    @property
    def batch(self) -> int:
        """Samples per run."""
        return self.shape[0]


@dataclass(frozen=True)
class Thresholds:
    """thresholds.toml: ratios by CPU class and thread count, limits of error, spread and growth.

    error: largest relative error by precision. cosine: smallest cosine, for a precision that rounds
    so coarsely that single elements say little.
    """

    spread: float = 0.10
    scale_growth: float = 0.05
    error: dict[str, float] = field(default_factory=dict)
    cosine: dict[str, float] = field(default_factory=dict)
    goals: dict[str, dict[str, dict[str, float | Goals]]] = field(default_factory=dict)

    def goals_of(self, case: Case, classes: Sequence[str]) -> Goals:
        """Ratios demanded of `case` by rival; of several classes the later ones win."""
        found: Goals = {}
        for name in classes:
            stated = self.goals.get(name, {}).get(str(case.threads), {}).get(case.id, {})
            found |= stated if isinstance(stated, dict) else {PEERS: stated}
        return found if case.goal is None else found | {PEERS: case.goal}


def load_thresholds(path: Path = HERE / "thresholds.toml") -> Thresholds:
    """Reads the limits; an unknown key is an error."""
    return Thresholds(**tomllib.loads(path.read_text()))


def load_cases(
    path: Path = HERE / "cases.toml", *, only: str = "", threads: int | None = None
) -> list[Case]:
    """Reads the rows whose id contains `only`, or one of its parts between commas.

    `threads` replaces the count of each row.

    A row has the keys of `defaults` and of `precision.NAME` of its own precision that it does not
    set itself. A goal written in a row belongs to the row's own thread count and goes when that is
    replaced.
    """
    document = tomllib.loads(path.read_text())
    cases = [_case(document, row) for row in document["case"]]
    if threads is not None:
        cases = [
            replace(case, threads=threads, goal=case.goal if threads == case.threads else None)
            for case in cases
        ]
    return [case for case in cases if any(part in case.id for part in only.split(","))]


def _case(document: dict[str, Any], row: dict[str, Any]) -> Case:
    defaults = document.get("defaults", {})
    precision = row.get("precision", defaults.get("precision"))
    row = defaults | document.get("precision", {}).get(precision, {}) | row
    for key in ("shape", "peers", "calibrated"):
        if key in row:
            row[key] = tuple(row[key])
    return Case(**row)
