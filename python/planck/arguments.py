"""Arguments that several calls share, checked where they come in: each fault is one typed sentence.

Errors of all functions here: UsageError with the argument, what it is and what was expected.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from planck import _core

if TYPE_CHECKING:
    from planck.plan import Plan


def model_of(model: Any) -> str | bytes:
    """A model as the core takes it: the path of an ONNX file, or its bytes.

    model: a path, bytes or another buffer of bytes, or an onnx.ModelProto with its weights inside.
    """
    if isinstance(model, (str, os.PathLike)):
        return path_of(model)
    if isinstance(model, (bytes, bytearray, memoryview)):
        return bytes(model)
    if hasattr(model, "SerializeToString") and hasattr(model, "graph"):
        try:
            return bytes(model.SerializeToString())
        except ValueError as error:  # protobuf writes at most 2 GiB
            raise wrong(
                f"the ModelProto cannot be serialised: {error}",
                hint="save it with external data (onnx.save) and give the path",
            ) from error
    hint = ""
    if hasattr(model, "read"):
        hint = "give the path of the file, or model.read()"
    elif hasattr(model, "steps") and hasattr(model, "run"):
        hint = "a plan is built already; this call takes the model that it was built from"
    raise wrong(
        f"model is {type(model).__name__}; expected the path of an ONNX file, its bytes or an "
        "onnx.ModelProto",
        hint=hint,
    )


def expect_plan(plan: Any) -> Plan:
    """A plan, where a model or its path is easily given in its place."""
    if hasattr(plan, "_core") and hasattr(plan, "steps"):
        made: Plan = plan
        return made
    raise wrong(
        f"plan is {type(plan).__name__}; expected a planck.Plan",
        hint="planck.build(model) makes one, planck.load(path) reads one",
    )


def thread_count(threads: Any) -> int:
    """Threads of a team as the core takes them: 0 stands for None."""
    if threads is None:
        return 0
    try:
        count = -1 if isinstance(threads, bool) else operator.index(threads)
    except TypeError:
        count = -1
    if not 1 <= count <= 2**31 - 1:
        raise wrong(f"threads is {threads!r}; expected a whole number of at least 1, or None")
    return count


DENORMALS = ("compute", "flush")


def flushes(denormals: Any) -> bool:
    """Whether the word for what becomes of subnormal numbers is "flush"."""
    if not isinstance(denormals, str) or denormals not in DENORMALS:
        error = wrong(f"denormals is {denormals!r}; expected 'compute' or 'flush'")
        error.expected, error.got = ", ".join(DENORMALS), str(denormals)
        raise error
    return denormals == "flush"


def by_name(option: str, given: Any, values: str) -> dict[Any, Any]:
    """A dictionary of `values` by name; empty for None."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise wrong(f"{option} is {type(given).__name__}; expected {values} by name")
    for name in given:
        _expect_name(option, name)
    return dict(given)


def names_in(option: str, given: Any) -> list[str]:
    """Names of a list, tuple or set."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise wrong(f"{option} is {given!r}; expected a list of names")
    names = list(given)
    for name in names:
        _expect_name(option, name)
    return names


def _expect_name(option: str, name: Any) -> None:
    if not isinstance(name, str) or not _is_utf8(name):
        raise wrong(f"{option} holds {name!r}; expected names as text of UTF-8")


def expect_type(option: str, given: Any, kind: Any, expected: str) -> None:
    """Whether an option is of a kind, or None."""
    if given is not None and not isinstance(given, kind):
        raise wrong(f"{option} is {given!r}; expected {expected}")


def path_of(path: Any, what: str = "path") -> str:
    """A path as text."""
    if isinstance(path, (str, bytes, os.PathLike)):
        text = os.fsdecode(path)
        if "\0" in text or not _is_utf8(text):
            raise wrong(
                f"{what} {text!r} holds bytes that no name of a file of Planck has",
                hint="rename it: names are UTF-8 without NUL",
                kind=_core.FileError,
            )
        return text
    raise wrong(f"{what} is {type(path).__name__}; expected the path of a file")


def _is_utf8(text: str) -> bool:
    """Whether a path was made of UTF-8; other bytes are surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def wrong(message: str, *, hint: str = "", kind: Any = None) -> _core.Error:
    """A UsageError, or one of `kind`, with a hint of its own where there is one."""
    error: _core.Error = (kind or _core.UsageError)(message)
    if hint:
        error.hint = hint
    return error
