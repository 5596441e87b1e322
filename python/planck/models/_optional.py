"""Imports of packages that Planck itself does not need."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any


class MissingPackageError(ImportError):
    """An optional package is absent; the message says what to install."""


def require(module: str, package: str, purpose: str) -> Any:
    """Import `module`, which `pip install package` provides.

    Errors: MissingPackageError (an ImportError) names the package and what it is needed for.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A broken dependency deep inside an installed package is not ours to explain.
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise _missing(module, package, purpose) from error


def folder(module: str, package: str, purpose: str) -> Path:
    """Return the folder of an installed package without running any of its code.

    Errors: MissingPackageError, as for `require`.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise _missing(module, package, purpose)
    return Path(spec.origin).parent


def _missing(module: str, package: str, purpose: str) -> MissingPackageError:
    return MissingPackageError(
        f"{purpose} needs the package {package}, which is not installed: pip install {package}",
        name=module,
    )
