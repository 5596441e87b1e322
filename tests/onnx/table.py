"""`python -m tests.onnx.table`: runs ONNX's backend suite and prints a table by op.

--write          also writes tests/onnx/table.md
--only REGEX     cases whose name matches
--show OUTCOME   lists the cases of an outcome with their reasons (may be given again)
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.onnx.suite import OUTCOMES, Result, cases, run

TABLE = Path(__file__).with_name("table.md")
HEAD = """# ONNX backend suite

Written by `python -m tests.onnx.table --write`. A row counts the cases of one op, those of its
expanded function included. pass: ONNX's own comparison holds. wrong: it does not. refused: a typed
error says why. untyped, crash, hang: a fault of ours.
"""


def committed_passes() -> dict[str, int]:
    """How many cases of each kind pass, as table.md promises."""
    kinds = TABLE.read_text().partition("| kind |")[2].partition("| op |")[0]
    rows = re.findall(r"^\| (\w+) \| (\d*) \|", kinds, re.MULTILINE)
    return {kind: int(count or 0) for kind, count in rows}


def markdown(results: Sequence[Result]) -> str:
    """The table as it is committed."""
    import onnx

    total = Counter(r.outcome for r in results)
    lines = [HEAD, f"onnx {onnx.__version__}: {total['pass']} of {len(results)} cases pass.\n"]
    lines += _rows("kind", results, lambda r: r.kind)
    lines += ["", *_rows("op", [r for r in results if r.kind == "Node"], lambda r: r.op)]
    return "\n".join(lines) + "\n"


def _rows(head: str, results: Sequence[Result], key) -> list[str]:  # type: ignore[no-untyped-def]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        counts[key(result)][result.outcome] += 1
    lines = [
        f"| {head} | " + " | ".join(OUTCOMES) + " |",
        "| --- " + "| ---: " * len(OUTCOMES) + "|",
    ]
    lines += [
        f"| {name} | " + " | ".join(str(row[o]) if row[o] else "" for o in OUTCOMES) + " |"
        for name, row in sorted(counts.items())
    ]
    return lines


def main() -> int:
    """Runs what was asked for; the exit status is 1 if a case is neither passed nor refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--show", action="append", default=[], choices=OUTCOMES)
    options = parser.parse_args()
    selected = [case for case in cases() if re.search(options.only, case.name)]
    results = list(run(selected))
    text = markdown(results)
    print(text)
    for result in results:
        if result.outcome in options.show:
            print(f"{result.outcome} {result.name} ({result.op}): {result.detail}")
    if options.write:
        TABLE.write_text(text)
    return int(any(r.outcome not in ("pass", "refused") for r in results))


if __name__ == "__main__":
    sys.exit(main())
