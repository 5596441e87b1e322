"""`IOptimizationProfile`: the smallest, usual and largest shape of each input.

A plan serves every shape that its model allows, so that a profile chooses nothing: it is checked,
kept in the engine, and calibration takes its data's shapes from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planck import _core
from planck.trt._base import Sealed
from planck.trt._dims import Dims, shape_from

Shapes = tuple[Dims, Dims, Dims]


class IOptimizationProfile(Sealed):
    """Shapes by input name.

    >>> profile = IOptimizationProfile()
    >>> profile.set_shape("x", (1, 3), (4, 3), (8, 3))
    >>> profile.get_shape("x")[1]
    (4, 3)
    """

    def __init__(self) -> None:
        self.extra_memory_target = 1.0
        self._shapes: dict[str, Shapes] = {}
        self._values: dict[str, Shapes] = {}
        self._sealed = True

    def set_shape(
        self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]
    ) -> None:
        """Sets the shapes of an input. Errors: UsageError unless min <= opt <= max."""
        self._shapes[input] = _ordered(input, min, opt, max)

    def get_shape(self, input: str) -> list[Dims]:
        """Min, opt and max; an empty list for an input without shapes."""
        return list(self._shapes.get(input, ()))

    def set_shape_input(
        self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]
    ) -> None:
        """Sets the values of a shape tensor. Errors: UsageError unless min <= opt <= max."""
        self._values[input] = _ordered(input, min, opt, max)

    def get_shape_input(self, input: str) -> list[Dims]:
        """Its values: min, opt and max; an empty list where none are set."""
        return list(self._values.get(input, ()))

    def __bool__(self) -> bool:
        """Whether any shape is set."""
        return bool(self._shapes or self._values)

    def check(self, inputs: Mapping[str, Dims]) -> None:
        """Errors: UsageError for a name or an extent that the network does not have."""
        for name, shapes in self._shapes.items():
            if name not in inputs:
                raise _core.UsageError(
                    f"the profile has shapes of {name!r}, which is no input; inputs are "
                    f"{', '.join(inputs)}"
                )
            for shape in shapes:
                _check_fits(name, shape, inputs[name])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"shapes": _plain(self._shapes), "values": _plain(self._values)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IOptimizationProfile:
        """The reverse. Errors: UsageError, KeyError, TypeError, AttributeError."""
        profile = cls()
        for name, shapes in data["shapes"].items():
            profile.set_shape(name, *shapes)
        for name, values in data["values"].items():
            profile.set_shape_input(name, *values)
        return profile


def _plain(shapes: Mapping[str, Shapes]) -> dict[str, list[list[int]]]:
    return {name: [list(shape) for shape in row] for name, row in shapes.items()}


def _ordered(name: str, low: Any, usual: Any, high: Any) -> Shapes:
    smallest, opt, largest = (
        shape_from(shape, f"profile of {name!r}") for shape in (low, usual, high)
    )
    if not len(smallest) == len(opt) == len(largest):
        raise _core.UsageError(f"profile of {name!r}: {smallest}, {opt}, {largest} differ in rank")
    if any(not a <= b <= c for a, b, c in zip(smallest, opt, largest, strict=True)):
        raise _core.UsageError(
            f"profile of {name!r}: min {smallest}, opt {opt} and max {largest} are not in order"
        )
    return smallest, opt, largest


def _check_fits(name: str, shape: Dims, declared: Dims) -> None:
    fixed = zip(shape, declared, strict=False)
    if (
        len(shape) != len(declared)
        or any(w not in (-1, s) for s, w in fixed)
        or min(shape, default=0) < 0
    ):
        raise _core.UsageError(f"profile of {name!r}: {shape} does not fit {declared}")
