"""Runs every case in a process of its own and prints a line of JSON for each.

A child gets `limits="tight"`, an address space of 8 GiB, and says which class came out, how long it
took and how much more memory it had. A child that dies says nothing, which is a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import planck
from tests.corpus.cases import CASES, Case, Input

ADDRESS_SPACE = 8 << 30


def resident(name: str) -> int:
    """A number of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def use(case: Case, made: Input) -> str:
    """What a user would do: the name of the class that came out, or "ok"."""
    try:
        plan = planck.build(made, limits="tight", threads=1)
        if case.feeds:
            plan.run(case.feeds)
    except planck.Error as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def forget_peak() -> None:
    """The high-water mark begins anew: making the input does not count."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """Runs the case here."""
    made = case.make(folder)
    # A fork starts with the parent's high-water mark where the kernel copies it.
    Path("/proc/self/clear_refs").write_text("5") if os.access(
        "/proc/self/clear_refs", os.W_OK
    ) else 0
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    before = resident("VmRSS")
    start = time.perf_counter()
    outcome = use(case, made)
    seconds = time.perf_counter() - start
    peak = max(resident("VmHWM"), resident("VmRSS"))
    return {"outcome": outcome, "seconds": seconds, "bytes": max(0, peak - before)}


def in_child(case: Case) -> dict[str, Any]:
    """Runs the case in a fork; an empty outcome if it died."""
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            os.close(read)
            try:
                result = measured(case, Path(folder))
            except BaseException as error:
                result = {"outcome": f"untyped {type(error).__name__}: {error}"}
            os.write(write, json.dumps(result).encode()[:60_000])
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
    if not text:
        return {"outcome": f"died with status {status}", "seconds": 0, "bytes": 0}
    return {"seconds": 0, "bytes": 0, **json.loads(text)}


def main() -> None:
    """All cases, or those whose label contains the argument."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for case in CASES:
        if wanted in case.label:
            print(json.dumps({"case": case.label, **in_child(case)}), flush=True)


if __name__ == "__main__":
    main()
