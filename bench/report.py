"""Results of the model benchmark: statistics, verdicts, tables and the JSON record."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.cases import PEERS, Case, Goals, Thresholds

SCHEMA = "planck.bench.models/1"
NOT_MEASURED = "not measured"


@dataclass
class EngineResult:
    """Readings of one engine on one case, or the reason why there are none.

    `rounds` holds the seconds of every single run, round by round.
    """

    rounds: list[list[float]] = field(default_factory=list)
    failure: str | None = None
    version: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    build_s: float | None = None
    error: float | None = None  # max|got - reference| / max|reference|
    cosine: float | None = None  # smallest over the outputs
    error_note: str | None = None  # why both are missing
    settled: bool = True  # False: its threads still ran when the next engine's turn came

    @property
    def measured(self) -> bool:
        """Whether there is a reading."""
        return self.failure is None and bool(self.rounds)

    def medians(self) -> list[float]:
        """Median of each round, seconds."""
        return [statistics.median(seconds) for seconds in self.rounds]

    def median(self) -> float | None:
        """Median of the rounds' medians, seconds."""
        return statistics.median(self.medians()) if self.measured else None

    def spread(self) -> float | None:
        """(slowest - fastest) / median of the rounds' medians, as a fraction."""
        if not self.measured:
            return None
        medians = self.medians()
        return (max(medians) - min(medians)) / statistics.median(medians)

    def percentile(self, percent: float) -> float | None:
        """Percentile of all single runs, seconds, linear between neighbours."""
        if not self.measured:
            return None
        return float(np.percentile([s for seconds in self.rounds for s in seconds], percent))


@dataclass
class CaseResult:
    """One case on every engine; ratios and verdict are those of `subject`.

    A ratio is against a rival, a key of `case.rivals`; `goals` has the least ones.
    """

    case: Case
    engines: dict[str, EngineResult]
    goals: Goals = field(default_factory=dict)
    limits: Thresholds = field(default_factory=Thresholds)
    subject: str = "planck"

    @property
    def goal(self) -> float | None:
        """The least ratio against the faster peer; None where none is stated."""
        return self.goals.get(PEERS)

    def best(self, rival: str = PEERS) -> str | None:
        """The measured engine of a rival with the lowest median."""
        found = {
            name: median
            for name in self.case.rivals.get(rival, ())
            if name in self.engines and (median := self.engines[name].median()) is not None
        }
        return min(found, key=lambda name: found[name]) if found else None

    def ratio(self, rival: str = PEERS) -> float | None:
        """Median time of the rival's fastest / of the subject; above 1 we are faster."""
        best, ours = self.best(rival), self.engines.get(self.subject)
        if best is None or ours is None:
            return None
        theirs, mine = self.engines[best].median(), ours.median()
        return None if theirs is None or mine is None else theirs / mine

    def round_ratios(self) -> list[float]:
        """The ratio of each round alone, against the faster peer; drift cancels in them."""
        peer, ours = self.best(), self.engines.get(self.subject)
        if peer is None or ours is None or not ours.measured:
            return []
        pairs = zip(self.engines[peer].medians(), ours.medians(), strict=True)
        return [theirs / mine for theirs, mine in pairs]

    def noisy(self) -> bool:
        """Whether the rounds of a measured engine differ too much to be quoted."""
        spreads = [engine.spread() for engine in self.engines.values()]
        return any(spread is not None and spread > self.limits.spread for spread in spreads)

    def verdict(self) -> str:
        """met, missed, wrong, no goal or not measured; wrong answers are judged before speed."""
        ours = self.engines.get(self.subject)
        if ours is None or not ours.measured:
            return NOT_MEASURED
        if self._wrong(ours):
            return "wrong"
        if not self.goals:
            return "no goal"
        found = [(self.ratio(rival), goal) for rival, goal in self.goals.items()]
        if any(ratio is not None and ratio < goal for ratio, goal in found):
            return "missed"
        return NOT_MEASURED if any(ratio is None for ratio, _ in found) else "met"

    def _wrong(self, engine: EngineResult) -> bool:
        """Whether the answer is beyond the limits of the case's precision."""
        largest = self.limits.error.get(self.case.precision)
        smallest = self.limits.cosine.get(self.case.precision)
        return bool(
            engine.error_note
            or (largest is not None and (engine.error or 0.0) > largest)
            or (smallest is not None and engine.cosine is not None and engine.cosine < smallest)
        )

    def failed(self) -> bool:
        """Whether a check has to fail: a wrong answer, or a goal that is not shown to be met."""
        verdict = self.verdict()
        return verdict == "wrong" or (bool(self.goals) and verdict != "met")


@dataclass(frozen=True)
class Growth:
    """Time per sample of one engine at a larger batch against batch 1."""

    engine: str
    single: CaseResult
    batched: CaseResult
    limit: float

    def value(self) -> float | None:
        """Time per sample at the larger batch / at batch 1; None if either is missing."""
        one = self.single.engines[self.engine].median()
        many = self.batched.engines[self.engine].median()
        if one is None or many is None:
            return None
        return (many / self.batched.case.batch) / (one / self.single.case.batch)

    def verdict(self) -> str:
        """flat, grows or not measured."""
        value = self.value()
        if value is None:
            return NOT_MEASURED
        return "flat" if value <= 1.0 + self.limit else "grows"


def growths(results: Sequence[CaseResult]) -> list[Growth]:
    """Every batched case paired with the batch-1 case that agrees in all else, per engine."""

    def key(case: Case) -> tuple[object, ...]:
        return case.model, case.size, case.shape[1:], case.precision, case.threads

    singles = {key(result.case): result for result in results if result.case.batch == 1}
    return [
        Growth(engine, single, result, result.limits.scale_growth)
        for result in results
        if result.case.batch > 1 and (single := singles.get(key(result.case))) is not None
        for engine in result.engines
        if engine in single.engines
    ]


def _ms(seconds: float | None) -> str:
    """Milliseconds with four significant digits at most."""
    if seconds is None:
        return NOT_MEASURED
    ms = 1e3 * seconds
    return f"{ms:.0f}" if ms >= 1000 else f"{ms:.1f}" if ms >= 100 else f"{ms:.2f}"


def _number(value: float | None, form: str, missing: str = "-") -> str:
    return missing if value is None else format(value, form)


def _error(engine: EngineResult) -> str:
    if not engine.measured:
        return "-"
    return "wrong" if engine.error_note else _number(engine.error, ".1e")


Table = tuple[list[str], list[list[str]]]


def summary(results: Sequence[CaseResult]) -> Table:
    """Head and rows: one row a case, milliseconds per engine, ratio, goal and verdict."""
    engines = list(dict.fromkeys(name for result in results for name in result.engines))
    head = ["case", "threads", "cold", *(f"{name} ms" for name in engines)]
    rows = []
    for result in results:
        times = [
            _ms(result.engines[name].median()) if name in result.engines else "-"
            for name in engines
        ]
        ours = result.engines.get(result.subject, EngineResult())
        rows.append(
            [
                result.case.id,
                str(result.case.threads),
                result.case.cold,
                *times,
                _number(result.ratio(), ".2f"),
                _number(result.goal, ".2f"),
                _error(ours),
                result.verdict() + (" (noisy)" if result.noisy() else ""),
            ]
        )
    return [*head, "ratio", "goal", "error", "verdict"], rows


def against(results: Sequence[CaseResult]) -> Table:
    """Head and rows: ratios to each rival, of cases with a baseline; behind "of" the goal."""
    shown = [result for result in results if result.case.baseline]
    rivals = list(dict.fromkeys(name for result in shown for name in result.case.rivals))
    head = ["case"]
    for rival in rivals:
        several = any(len(result.case.rivals.get(rival, ())) > 1 for result in shown)
        head += [*([f"best of {rival}"] if several else []), f"/ {rival}"]
    rows = []
    for result in shown:
        cells = {f"best of {rival}": result.best(rival) or "-" for rival in rivals}
        cells |= {f"/ {rival}": _against(result, rival) for rival in rivals}
        ours = result.engines.get(result.subject, EngineResult())
        rows.append(
            [
                result.case.id,
                *(cells[name] for name in head[1:]),
                _number(ours.cosine, ".5f"),
                result.verdict(),
            ]
        )
    return [*head, "cosine", "verdict"], rows


def _against(result: CaseResult, rival: str) -> str:
    ratio = _number(result.ratio(rival), ".2f")
    return f"{ratio} of {result.goals[rival]:.2f}" if rival in result.goals else ratio


def details(results: Sequence[CaseResult]) -> Table:
    """Head and rows: one row an engine and case, with range, percentiles and accuracy."""
    head = ["case", "engine", "median ms", "range ms", "p50", "p99", "spread", "error", "cosine"]
    rows = []
    for result in results:
        for name, engine in result.engines.items():
            if not engine.measured:
                continue
            medians = engine.medians()
            rows.append(
                [
                    result.case.id,
                    name,
                    _ms(engine.median()),
                    f"{_ms(min(medians))}-{_ms(max(medians))}",
                    _ms(engine.percentile(50)),
                    _ms(engine.percentile(99)),
                    _number(engine.spread(), ".1%"),
                    _error(engine),
                    _number(engine.cosine, ".5f"),
                ]
            )
    return head, rows


def scaling(results: Sequence[CaseResult]) -> Table:
    """Head and rows of the scale check: time per sample at a larger batch against batch 1."""
    head = ["case", "engine", "per sample / batch 1", "limit", "verdict"]
    rows = [
        [
            growth.batched.case.id,
            growth.engine,
            _number(growth.value(), ".3f", NOT_MEASURED),
            f"{1.0 + growth.limit:.2f}",
            growth.verdict(),
        ]
        for growth in growths(results)
    ]
    return head, rows


def notes(results: Sequence[CaseResult]) -> list[str]:
    """One line for each reading that is missing, wrong or disturbed, or of flushed numbers."""
    lines = []
    for result in results:
        if result.case.denormals == "flush":
            lines.append(f"{result.case.id}: the engines take subnormal numbers as zeros")
        for name, engine in result.engines.items():
            where = f"{result.case.id}, {name}"
            if not engine.measured:
                lines.append(f"{where}: {NOT_MEASURED}: {engine.failure or 'no rounds'}")
            elif engine.error_note:
                lines.append(f"{where}: wrong: {engine.error_note}")
            if not engine.settled:
                lines.append(f"{where}: its threads still ran in the next engine's turn")
    return list(dict.fromkeys(lines))


def text_table(table: Table) -> str:
    """The table as plain text: first column to the left, the others to the right."""
    head, rows = table
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(row: list[str]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        return "  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip()

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *map(line, rows)])


def render(results: Sequence[CaseResult], *, detail: bool = False, scale: bool = False) -> str:
    """The results as plain text: summary, rivals of cases that have a baseline, notes.

    On request also details and scale check.
    """
    if not results:
        return "no case matches"
    tables = [summary(results), against(results)]
    if detail:
        tables.append(details(results))
    if scale:
        tables.append(scaling(results))
    blocks = [text_table(table) for table in tables if table[1]]
    return "\n\n".join(blocks + (["\n".join(lines)] if (lines := notes(results)) else []))


def _engine_json(engine: EngineResult) -> dict[str, Any]:
    if not engine.measured:
        return {"measured": False, "reason": engine.failure or "no rounds"}

    def ms(seconds: float | None) -> float | None:
        return None if seconds is None else round(1e3 * seconds, 4)

    medians = engine.medians()
    return {
        "measured": True,
        "version": engine.version,
        "options": engine.options,
        "build_ms": ms(engine.build_s),
        "median_ms": ms(engine.median()),
        "range_ms": [ms(min(medians)), ms(max(medians))],
        "p50_ms": ms(engine.percentile(50)),
        "p99_ms": ms(engine.percentile(99)),
        "spread": engine.spread(),
        "rounds_ms": [[ms(second) for second in seconds] for seconds in engine.rounds],
        "error": engine.error,
        "cosine": engine.cosine,
        "error_note": engine.error_note,
        "settled": engine.settled,
    }


def _case_json(result: CaseResult) -> dict[str, Any]:
    case = result.case
    ratios = result.round_ratios()
    return {
        "id": case.id,
        "model": case.model,
        "size": case.size,
        "shape": list(case.shape),
        "precision": case.precision,
        "threads": case.threads,
        "denormals": case.denormals,
        "cold": case.cold,
        "runs": case.runs,
        "engines": {name: _engine_json(engine) for name, engine in result.engines.items()},
        "best_peer": result.best(),
        "ratio": result.ratio(),
        "round_ratios": {
            "median": statistics.median(ratios) if ratios else None,
            "range": [min(ratios), max(ratios)] if ratios else None,
        },
        "goal": result.goal,
        "against": {
            rival: {
                "best": result.best(rival),
                "ratio": result.ratio(rival),
                "goal": result.goals.get(rival),
            }
            for rival in case.rivals
        },
        "verdict": result.verdict(),
        "noisy": result.noisy(),
    }


def to_json(
    results: Sequence[CaseResult], environment: dict[str, Any], method: dict[str, Any]
) -> dict[str, Any]:
    """The record of a run; every duration is in milliseconds, a missing reading has no number."""
    return {
        "schema": SCHEMA,
        "environment": environment,
        "method": method,
        "cases": [_case_json(result) for result in results],
        "scale": [
            {
                "case": growth.batched.case.id,
                "engine": growth.engine,
                "per_sample_growth": growth.value(),
                "verdict": growth.verdict(),
            }
            for growth in growths(results)
        ],
    }
