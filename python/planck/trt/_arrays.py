"""Arrays on what a script hands over: addresses of the process, arrays, tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from planck import _core
from planck.ort._memory import array_at
from planck.trt._dims import Dims

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def array_on(what: str, item: Any, shape: Dims, dtype: np.dtype[Any], writable: bool) -> Array:
    """The array that an item is, or that lies at the address that it is; without a copy.

    what: names it in errors. shape, dtype: of what lies at an address; an array has its own.
    Errors: FeedError.
    """
    if isinstance(item, np.ndarray):
        return item
    if hasattr(item, "__dlpack__"):
        return np.from_dlpack(item)
    if hasattr(item, "__array__") and not isinstance(item, np.generic):
        return np.asarray(item)
    try:
        address = int(item)
    except (TypeError, ValueError) as error:
        raise _core.FeedError(
            f"{what} is a {type(item).__name__}; expected a host address, an array or a tensor"
        ) from error
    if min(shape, default=0) < 0:
        raise _core.FeedError(f"{what}: an address needs a shape, and {shape} is open")
    return array_at(what, address, shape, dtype, writable)
