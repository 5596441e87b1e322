"""Models with inputs that decide shapes: a plan for each set of values that is met.

A plan serves every shape that its model allows, and its memory is known before the run; so what
decides shapes cannot come with the run. Behind the interfaces of ONNX Runtime and of ONNX backends,
whose callers know nothing of this, such inputs become constants of a plan that is built when their
values come for the first time. `planck.build(..., initializers={name: value})` is the same by hand.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planck import _core
from planck.outline import TensorType, read_outline
from planck.plan import Plan, Port, StepTime

# The hint of the core's refusals that the value of an input may mend (cpp/ops/needs_values.h).
NEEDS_VALUES = "give inputs that decide shapes when the plan is built: initializers={name: array}"
MOST_ELEMENTS = 1024  # of such an input; a longer one is data
MOST_PLANS = 16  # that are kept

Array = NDArray[Any]
Build = Callable[[dict[str, Array]], Plan]
Key = tuple[tuple[str, tuple[int, ...], bytes], ...]

_KINDS = "biuf"  # of NumPy: flags, whole numbers, and the scales of Resize


class ValuePlans:
    """The plans of one model, by the values of the inputs that decide shapes.

    `inputs` and `outputs` are what the file declares, an unknown extent as "?". From any thread.
    """

    def __init__(self, model: str | bytes, build: Build, refusal: _core.UnsupportedError) -> None:
        """build: makes a plan with the values of some inputs. refusal: of the plan without any.

        Errors: the refusal itself, if no input could mend it.
        """
        outline = read_outline(model)
        inputs = {n: t for n, t in outline.inputs.items() if n not in outline.initializers}
        try:
            self.inputs = tuple(_port(name, kind) for name, kind in inputs.items())
            self.outputs = tuple(_port(name, kind) for name, kind in outline.outputs.items())
        except _core.UsageError:
            raise refusal from None
        self._names = [port.name for port in self.inputs if _may_decide(port, inputs[port.name])]
        if refusal.hint != NEEDS_VALUES or not self._names:
            raise refusal
        self._build, self._refusal = build, refusal
        self._settled = False
        self._plans: OrderedDict[Key, Plan] = OrderedDict()
        self._lock = threading.Lock()

    def run(
        self,
        feeds: Mapping[str, Array],
        out: Mapping[str, Array] | None = None,
        *,
        cancel: _core.Cancel | None = None,
        times: list[StepTime] | None = None,
    ) -> dict[str, Array]:
        """As `Plan.run`. Errors: also those of `planck.build`."""
        plan, rest = self.plan_for(feeds)
        return plan.run(rest, out, cancel=cancel, times=times)

    def plan_for(self, feeds: Mapping[str, Array]) -> tuple[Plan, dict[str, Array]]:
        """The plan of these values, and what is left to feed to it."""
        with self._lock:
            if not self._settled:
                self._settle(feeds)
            values = self._values(feeds, self._names)
            key = tuple((n, v.shape, v.tobytes()) for n, v in values.items())
            if key not in self._plans:
                self._plans[key] = self._build(values)
            self._plans.move_to_end(key)
            if len(self._plans) > MOST_PLANS:
                self._plans.popitem(last=False)
            plan = self._plans[key]
        return plan, {name: value for name, value in feeds.items() if name not in values}

    def _settle(self, feeds: Mapping[str, Array]) -> None:
        """Finds which inputs decide shapes: those without whose value no plan can be built."""
        self._build(self._values(feeds, self._names))
        needed = list(self._names)
        for name in self._names if len(self._names) > 1 else ():
            others = [other for other in needed if other != name]
            try:
                self._build(self._values(feeds, others))
            except _core.UnsupportedError:
                continue
            needed = others
        self._names, self._settled = needed, True

    def _values(self, feeds: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
        values: dict[str, Array] = {}
        kinds = {port.name: port.dtype for port in self.inputs}
        for name in names:
            if name not in feeds:
                raise _core.FeedError(f"input {name!r} is missing; its value decides shapes")
            value = np.ascontiguousarray(feeds[name]).reshape(np.shape(feeds[name]))
            if value.dtype != kinds[name]:
                raise _core.FeedError(
                    f"input {name!r}: wrong dtype; expected {kinds[name]}, got {value.dtype}"
                )
            if value.size > MOST_ELEMENTS:
                raise self._refusal
            values[name] = value
        return values


def _port(name: str, kind: TensorType) -> Port:
    """What the file declares. Errors: UsageError where that is no tensor of a known type."""
    from planck.ort._types import dtype_of

    shape = tuple("?" if dim is None else dim for dim in kind.dims or ())
    return Port(name, dtype_of(kind.element_type).name, shape)


def _may_decide(port: Port, kind: TensorType) -> bool:
    dims = kind.dims
    if dims is None or len(dims) > 1 or np.dtype(port.dtype).kind not in _KINDS:
        return False
    return all(not isinstance(dim, int) or dim <= MOST_ELEMENTS for dim in dims)
