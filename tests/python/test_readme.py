"""Every example of README.md runs, in its order, with the small BERT in place of the full one."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import planck.models

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def test_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("write", "feeds"):
        small = functools.partial(getattr(planck.models, name), size="mini")
        monkeypatch.setattr(planck.models, name, small)
    names: dict[str, object] = {}
    for code in blocks("python"):
        exec(code, names)
    assert "No bad layer" in capsys.readouterr().out
    pytest.importorskip("onnxruntime")
    commands = [line for text in blocks("sh") for line in text.splitlines()]
    assert len(commands) >= 6
    for line in commands:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "planck"
        done = subprocess.run(
            [sys.executable, "-m", "planck", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
