"""Loggers: what TensorRT would print goes to `logging.getLogger("planck.trt")`."""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import Any

from planck import _core

_SINK = logging.getLogger("planck.trt")


class _Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


_LEVELS = {
    _Severity.INTERNAL_ERROR: logging.CRITICAL,
    _Severity.ERROR: logging.ERROR,
    _Severity.WARNING: logging.WARNING,
    _Severity.INFO: logging.INFO,
    _Severity.VERBOSE: logging.DEBUG,
}


class ILogger:
    """Base of loggers: a subclass has `log(severity, msg)`."""

    Severity = _Severity
    INTERNAL_ERROR = _Severity.INTERNAL_ERROR
    ERROR = _Severity.ERROR
    WARNING = _Severity.WARNING
    INFO = _Severity.INFO
    VERBOSE = _Severity.VERBOSE

    def log(self, severity: Any, msg: str) -> None:
        """Called for each message; to be overridden."""
        raise NotImplementedError("a logger has a method log(severity, msg)")


class Logger(ILogger):
    """Hands messages of at least `min_severity` on to `logging.getLogger("planck.trt")`.

    >>> Logger(Logger.WARNING).min_severity.name
    'WARNING'
    """

    def __init__(self, min_severity: _Severity = _Severity.WARNING) -> None:
        self.min_severity = _Severity(min_severity)

    def log(self, severity: Any, msg: str) -> None:
        """Hands a message on."""
        if severity <= self.min_severity:
            _SINK.log(_LEVELS[_Severity(severity)], "%s", msg)


def report(logger: Any, severity: _Severity, message: str) -> None:
    """Tells a logger of the caller's; None is silent."""
    if logger is not None:
        logger.log(severity, message)


def failed(logger: Any, error: _core.Error) -> None:
    """Tells the logger what is about to be raised."""
    report(logger, _Severity.ERROR, str(error))


def refused(message: str, hint: str) -> _core.UnsupportedError:
    """The error for a part of TensorRT that has no meaning here; `hint` names the alternative."""
    error = _core.UnsupportedError(f"{message}; {hint}")
    error.hint = hint
    return error
