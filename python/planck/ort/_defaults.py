"""Functions of the module: versions, what is logged, and switches that change nothing here."""

from __future__ import annotations

import logging
import operator

from planck.ort._providers import CPU

# ONNX Runtime's severities, verbose to fatal, as levels of `logging`.
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def get_all_providers() -> list[str]:
    """The providers that a build may have, best first.

    >>> get_all_providers()
    ['CPUExecutionProvider']
    """
    return [CPU]


def get_version_string() -> str:
    """The release of ONNX Runtime whose interface this is, as `planck.ort.__version__`."""
    from planck import ort

    return ort.__version__


def get_build_info() -> str:
    """One line about this build.

    >>> get_build_info().startswith("Planck")
    True
    """
    import planck

    return f"Planck {planck.__version__}, kernels for {planck.device()['isa']}"


def set_default_logger_severity(severity: int) -> None:
    """Sets the level of `logging.getLogger("planck")`: 0 verbose, 1 info, 2 warning, 3 error, 4.

    Errors: RuntimeError for another number.
    """
    level = operator.index(severity)
    if not 0 <= level < len(_LEVELS):
        raise RuntimeError(f"Invalid logging severity {severity}; expected 0 to {len(_LEVELS) - 1}")
    logging.getLogger("planck").setLevel(_LEVELS[level])


def set_default_logger_verbosity(verbosity: int) -> None:
    """Changes nothing: Planck logs no more than its severities say."""
    operator.index(verbosity)


def set_seed(seed: int) -> None:
    """Changes nothing: the same model gives the same bits in every run."""
    operator.index(seed)


def disable_telemetry_events() -> None:
    """Changes nothing: Planck sends nothing to anyone."""


def enable_telemetry_events() -> None:
    """Changes nothing: Planck sends nothing to anyone."""


def preload_dlls(
    cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: str | None = None
) -> None:
    """Changes nothing: this build needs no libraries of CUDA."""
