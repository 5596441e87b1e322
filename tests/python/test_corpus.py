"""The malicious models of tests/corpus: right class, within a second and 256 MiB, no crash."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")

import planck
from tests.corpus.cases import CASES, NOT_COVERED

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 1.0
MOST_BYTES = 256 << 20


def run_all(profile):
    """What came out of each case, by its label."""
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "tests.corpus.run", profile],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["case"]: row for row in rows}


@pytest.fixture(scope="module")
def results():
    return run_all("tight")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_case(case, results):
    row = results[case.label]
    kind = row["outcome"].split(":", 1)[0]
    assert kind in case.expected, row["outcome"]
    late = 0.1 if kind == "TimeoutError" else 0  # the time-out of "tight" is a second
    assert row["seconds"] <= MOST_SECONDS + late
    assert row["bytes"] <= MOST_BYTES


@pytest.mark.skipif("PLANCK_FULL" not in os.environ, reason="takes minutes; make test-full")
def test_default_limits_are_no_crash():
    """Slower is allowed, and so is success; a crash or an untyped error is not."""
    for label, row in run_all("default").items():
        kind = row["outcome"].split(":", 1)[0]
        assert kind == "ok" or issubclass(getattr(planck, kind), planck.Error), (label, row)
        assert kind != "InternalError", (label, row)


def test_labels_are_unique():
    assert len({case.label for case in CASES}) == len(CASES)


def test_what_is_not_covered_has_a_reason():
    """Every kind of the catalogue that concerns models has a case or a reason."""
    kinds = {f"M{i:02}" for i in range(1, 51)}
    covered = {case.id for case in CASES}
    assert covered <= kinds and covered | set(NOT_COVERED) == kinds
    assert not covered & set(NOT_COVERED)
    assert all(re.search(r"\w{3}", reason) for reason in NOT_COVERED.values())
