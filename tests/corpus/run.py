"""Runs every case in a process of its own and prints a line of JSON for each.

A child gets `limits="tight"`, or the default limits if asked, and an address space of 8 GiB. It
says which class came out, how long it took and how much more memory it had. A child that dies says
nothing, which is a failure.
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
from planck.limits import LimitsLike
from tests.corpus.cases import CASES, Case, Input

ADDRESS_SPACE = 8 << 30


def resident(name: str) -> int:
    """A number of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def use(case: Case, made: Input, limits: LimitsLike) -> str:
    """What a user would do: the name of the class that came out, or "ok"."""
    try:
        plan = planck.build(made, limits=limits, threads=1)
        if case.feeds:
            plan.run(case.feeds)
    except planck.Error as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def forget_peak() -> None:
    """The high-water mark begins anew: making the input does not count."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measured(case: Case, folder: Path, limits: LimitsLike) -> dict[str, Any]:
    """Runs the case here."""
    made = case.make(folder)
    forget_peak()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    before = resident("VmRSS")
    start = time.perf_counter()
    outcome = use(case, made, limits)
    seconds = time.perf_counter() - start
    peak = max(resident("VmHWM"), resident("VmRSS"))
    return {"outcome": outcome, "seconds": seconds, "bytes": max(0, peak - before)}


def in_child(case: Case, limits: LimitsLike) -> dict[str, Any]:
    """Runs the case in a fork; an empty outcome if it died."""
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            os.close(read)
            try:
                result = measured(case, Path(folder), limits)
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
    """run.py [tight | default [PART]]: all cases, or those whose label contains PART."""
    limits: LimitsLike = "tight"
    if sys.argv[1:2] == ["default"]:  # which has no time-outs: a loop of 2^60 steps would not end
        limits = planck.Limits(build_timeout=20.0, run_timeout=20.0)
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    for case in CASES:
        if wanted in case.label:
            print(json.dumps({"case": case.label, **in_child(case, limits)}), flush=True)


if __name__ == "__main__":
    main()
