"""Our errors as ONNX Runtime's: one class that is both, and the message in its form."""

from __future__ import annotations

from typing import Any

from planck import _core
from planck.ort.capi import onnxruntime_pybind11_state as state

# Each class of ours and its type over there; the first that fits counts.
_TYPES: tuple[tuple[type[_core.Error], type[_core.Error]], ...] = (
    (_core.UsageError, state.InvalidArgument),
    (_core.FileError, state.NoSuchFile),
    (_core.InternalError, state.EngineError),
    (_core.RunError, state.RuntimeException),
    (_core.LimitError, state.RuntimeException),
    (_core.OutOfMemoryError, state.RuntimeException),
    (_core.ParseError, state.InvalidProtobuf),
    (_core.UnsupportedError, state.NotImplemented),
    (_core.GraphError, state.InvalidGraph),
    (_core.ExternalDataError, state.InvalidGraph),
    (_core.DeviceError, state.EPFail),
    (_core.TargetError, state.ModelRequiresCompilation),
)


_made: dict[tuple[type[_core.Error], type[_core.Error]], type[_core.Error]] = {}


def _both(theirs: type[_core.Error], ours: type[_core.Error]) -> type[_core.Error]:
    """A class under their name whose instances both catch; one for each pair."""
    if issubclass(theirs, ours):
        return theirs
    if (theirs, ours) in _made:
        return _made[theirs, ours]

    def reduce(self: _core.Error) -> tuple[Any, ...]:
        return _revived, (theirs, ours, str(self), self.__dict__)

    body = {"__module__": theirs.__module__, "__doc__": theirs.__doc__, "__reduce__": reduce}
    return _made.setdefault((theirs, ours), type(theirs.__name__, (theirs, ours), body))


def _revived(
    theirs: type[_core.Error], ours: type[_core.Error], text: str, fields: dict[str, Any]
) -> _core.Error:
    """What pickle calls: the combined classes have no module to be found in."""
    error = _both(theirs, ours)(text)
    error.__dict__.update(fields)
    return error


def _type_of(error: _core.Error, loading: bool) -> type[_core.Error]:
    if isinstance(error, _core.CancelledError):
        return state.ModelLoadCanceled if loading else state.Fail
    return next((theirs for ours, theirs in _TYPES if isinstance(error, ours)), state.Fail)


def of_type(theirs: type[_core.Error], error: _core.Error, text: str = "") -> _core.Error:
    """The error with its fields as `theirs`; text: what to say in place of its message."""
    number, label = theirs.status  # type: ignore[attr-defined]
    out = _both(theirs, type(error))(f"[ONNXRuntimeError] : {number} : {label} : {text or error}")
    out.__dict__.update(error.__dict__)
    return out


def as_ort(error: _core.Error, loading: bool = False) -> _core.Error:
    """The error with its fields as the type that the table above gives.

    >>> str(as_ort(_core.FeedError("Invalid input name: q")))
    '[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid input name: q'
    """
    return of_type(_type_of(error, loading), error)


class translated:  # noqa: N801 - reads as a function, which would cost every run 2 us more
    """Raises our errors as theirs; those that are already stay."""

    def __init__(self, loading: bool = False) -> None:
        self._loading = loading

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, _core.Error) and not hasattr(error, "status"):
            raise as_ort(error, self._loading) from error
