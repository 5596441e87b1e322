"""Collects CASES of every file here and crosses them with the rows of their op."""

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("planck._core", reason="the Python module is not built")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from harness import Case, check, rows_of  # noqa: E402

FILES = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in {"harness", "test_ops"})
CASES = [
    pytest.param(case, row, refusal, id=f"{case.op}-{case.name}-{row}")
    for stem in FILES
    for case in importlib.import_module(stem).CASES
    for row, refusal in rows_of(case)
]


@pytest.mark.parametrize(("case", "row", "refusal"), CASES)
def test_op(case: Case, row: str, refusal: str) -> None:
    if refusal:
        pytest.skip(f"{row} refuses: {refusal}")
    check(case, row)


def test_names_are_unique() -> None:
    names = [case.id for case in CASES]
    assert len(names) == len(set(names))
