"""ONNX's backend suite: no wrong answer, no crash, and never fewer passes than table.md says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import pytest

pytest.importorskip("onnx")

from tests.onnx.suite import Result, cases, run
from tests.onnx.table import committed_passes

FULL = os.environ.get("PLANCK_FULL") == "1"


@pytest.fixture(scope="module")
def results() -> Sequence[Result]:
    """All cases; whole networks, which take minutes, only in the long tests."""
    return list(run([case for case in cases() if FULL or case.kind != "Real"]))


def test_nothing_is_wrong(results: Sequence[Result]) -> None:
    bad = [r for r in results if r.outcome not in ("pass", "refused")]
    assert not bad, "\n".join(f"{r.outcome} {r.name}: {r.detail}" for r in bad)


def test_passes_do_not_fall(results: Sequence[Result]) -> None:
    counts = Counter(r.kind for r in results if r.outcome == "pass")
    promised = committed_passes()
    assert counts
    for kind, count in counts.items():
        assert count >= promised[kind], (
            f"{kind}: {count} cases pass, table.md says {promised[kind]}"
        )
