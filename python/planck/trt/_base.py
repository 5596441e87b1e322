"""What TensorRT's objects have in common: they work in `with`, and take no unknown attribute."""

from __future__ import annotations

from typing import Any, TypeVar

Self = TypeVar("Self", bound="Scoped")


class Scoped:
    """For scripts that say `with trt.Builder(logger) as builder`."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing: what is no longer needed goes by itself."""


class Sealed(Scoped):
    """Refuses attributes that a class does not have, so that no setting is lost in silence.

    A class ends its `__init__` with `self._sealed = True`.
    """

    _sealed = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._sealed and not hasattr(self, name):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: planck.trt has the "
                "interface of TensorRT 8 and 10"
            )
        object.__setattr__(self, name, value)
