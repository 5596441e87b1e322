"""Errors of the command line: made here, described here, and their exit codes."""

from __future__ import annotations

import importlib.util
from typing import Any

import planck
from planck.cli.show import clean

INTERNAL, INTERRUPTED = 70, 130

# Exceptions that are not ours: class, code, exit code. Our own classes carry both.
FOREIGN: tuple[tuple[type[Exception], str, int], ...] = (
    (MemoryError, planck.OutOfMemoryError.code, planck.OutOfMemoryError.exit_code),
    (ImportError, "missing_package", planck.UsageError.exit_code),
    (Exception, planck.InternalError.code, INTERNAL),
)
FIELDS = ("node", "op_type", "expected", "got", "hint")
# Hints of classes that name calls of Python, and what helps at a terminal in their place.
TERMINAL = {
    planck.UsageError.hint: "planck COMMAND --help lists the options",
    planck.FeedError.hint: "planck inspect MODEL_OR_PLAN lists the inputs",
    planck.PrecisionError.hint: "--precision graph takes the types of the model",
    planck.DeviceError.hint: "planck doctor tells what this machine has",
}


def usage(
    message: str, *, hint: str = "", expected: str = "", got: str = "", kind: Any = None
) -> planck.Error:
    """An error of the caller, UsageError unless `kind` names another class."""
    error: planck.Error = (kind or planck.UsageError)(message)
    for name, text in (("hint", hint), ("expected", expected), ("got", got)):
        if text:
            setattr(error, name, text)
    return error


def require(module: str, purpose: str) -> None:
    """Errors: UsageError with what to install, if the optional package `module` is absent."""
    if importlib.util.find_spec(module) is None:
        raise usage(
            f"{purpose} needs the package {module}, which is not installed",
            hint=f"pip install {module}",
        )


def describe(error: Exception) -> dict[str, Any]:
    """Code, exit code and the fields that are known, as plain values."""
    if isinstance(error, planck.Error):
        known = {name: str(getattr(error, name, "") or "") for name in FIELDS}
        known["hint"] = TERMINAL.get(known["hint"], known["hint"])
        items = [str(item) for item in getattr(error, "items", ())]
        codes = {"code": error.code, "exit_code": error.exit_code}
        return {**codes, "message": str(error), **known, "items": items}
    code, exit_code = next(row[1:] for row in FOREIGN if isinstance(error, row[0]))
    facts = {"code": code, "exit_code": exit_code, "message": str(error) or type(error).__name__}
    if exit_code == INTERNAL:
        facts["message"] = f"{type(error).__name__}: {error}"
        facts["hint"] = "this is an error of Planck; PLANCK_TRACEBACK=1 shows where it happened"
    return facts


def block(facts: dict[str, Any]) -> str:
    """The error for people: its sentence, then a line for each field that is known."""
    first, *frames = [clean(line.strip(), 2000) for line in facts["message"].splitlines()[:100]]
    lines = [f"error: {first}", *(f"  {frame}" for frame in frames)]
    for name in ("node", "expected", "got", "hint", "code"):
        if facts.get(name):
            lines.append(f"  {name:<9} {clean(str(facts[name]), 400)}")
    return "\n".join(lines)
