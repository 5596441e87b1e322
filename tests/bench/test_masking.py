"""Engines that are limited to AVX2 see no more; nothing else about them changes."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import environment, masking

ENGINES = """
import planck
print(planck.device()["isa"])
try:
    import openvino
    print(*openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
except ImportError:
    print("none")
"""

needs_tools = pytest.mark.skipif(
    platform.machine() != "x86_64" or not (shutil.which("cc") and shutil.which("objdump")),
    reason="hiding instruction sets takes x86-64, a C compiler and objdump",
)


def seen(changes: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ENGINES],
        env=os.environ | changes,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@needs_tools
def test_engines_see_no_more_than_avx2() -> None:
    changes = masking.variables("avx2")
    del changes["PLANCK_MAX_ISA"]  # Planck, too, asks the processor here
    isa, peer = seen(changes)
    full, full_peer = seen({})
    flags = set(environment.record()["flags"])
    if "avx2" not in flags:
        pytest.skip("this processor has no AVX2")
    assert isa == "avx2"
    assert "BF16" not in peer.split()
    if "avx512f" in flags:
        assert full in ("avx512", "amx")
    if full_peer != "none":
        assert {"FP32", "INT8"} <= set(peer.split()) <= set(full_peer.split())


@needs_tools
def test_what_is_built_is_used_again() -> None:
    first = masking.variables("avx2")
    times = [Path(first[name]).stat().st_mtime_ns for name in ("LD_AUDIT", "PLANCK_CPUID_SITES")]
    assert masking.variables("avx2") == first
    again = [Path(first[name]).stat().st_mtime_ns for name in ("LD_AUDIT", "PLANCK_CPUID_SITES")]
    assert times == again


def test_other_levels_and_missing_tools_have_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(masking.MaskError, match="limited to avx2, not to 'sse2'"):
        masking.variables("sse2")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(masking.MaskError, match="not installed"):
        masking._run("objdump", "-d", "x")


def test_a_record_says_what_was_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.record()["engines_limited_to"] is None
    monkeypatch.setenv("PLANCK_CPUID_SITES", "list")
    monkeypatch.setenv("PLANCK_MAX_ISA", "avx2")
    record = environment.record()
    assert (record["engines_limited_to"], record["cpu_class"]) == ("avx2", "avx2")
