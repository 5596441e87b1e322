"""Execution providers: which device a session runs on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from planck import _core

CPU = "CPUExecutionProvider"
_CUDA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


def get_available_providers() -> list[str]:
    """The providers that sessions can use, best first.

    >>> get_available_providers()
    ['CPUExecutionProvider']
    """
    return [CPU]


def get_device() -> str:
    """The kind of device that this build runs on."""
    return "CPU"


def check(providers: Sequence[Any] | None, provider_options: Sequence[Any] | None) -> None:
    """Checks that the CPU may be used, the only device there is.

    Names without a provider give one warning and are ignored; so is CUDA where the CPU comes after
    it. Errors: UsageError for what is no name, options that no provider has; DeviceError where CUDA
    is all that is asked for.
    """
    asked = _pairs(providers, provider_options)
    for name, options in asked:
        if name == CPU and options:
            raise _core.UsageError(f"{CPU} has no option '{next(iter(options))}'")
    names = [name for name, _ in asked]
    if absent := list(dict.fromkeys(name for name in names if name != CPU)):
        if CPU not in names and any(name in _CUDA for name in absent):
            raise _core.DeviceError(f"{absent[0]}: this build has no CUDA backend")
        warnings.warn(
            f"Specified provider '{', '.join(absent)}' is not in available provider names."
            f"Available providers: '{CPU}'",
            stacklevel=3,
        )


def _pairs(
    providers: Sequence[Any] | None, provider_options: Sequence[Any] | None
) -> list[tuple[str, Mapping[Any, Any]]]:
    if providers is None:
        return []
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        raise _core.UsageError("'providers' should be a sequence.")
    if provider_options is not None:
        if len(providers) != len(provider_options):
            raise _core.UsageError(
                "'providers' and 'provider_options' should be the same length if both are given."
            )
        return [_pair(pair) for pair in zip(providers, provider_options, strict=True)]
    return [_pair((p, {}) if isinstance(p, str) else p) for p in providers]


def _pair(given: Any) -> tuple[str, Mapping[Any, Any]]:
    match given:
        case (str() as name, Mapping() as options):
            return name, options
    raise _core.UsageError("'providers' values must be either strings or (string, dict) tuples.")
