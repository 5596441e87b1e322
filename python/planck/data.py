"""Data sets in the forms that people have them: feeds of a model, a batch at a time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planck import _core
from planck.arguments import wrong

if TYPE_CHECKING:  # `import planck` is quick: NumPy comes with the first array
    from numpy.typing import NDArray

    from planck.plan import Port

    Array = NDArray[Any]

SLICE = 16  # samples of one run where an .npz file holds many
FORMS = (
    "an iterable of feeds, the path of an .npz file or of a folder of them, a callable, "
    "or a reader with get_next()"
)


def expect_data(data: Any) -> None:
    """Refuses what is no data set, before anything is built for it.

    Errors: UsageError (no form of data), FileError (no such path).
    """
    if isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        if not os.path.isdir(path) and not str(path).endswith(".npz"):
            raise wrong(f"data is '{path}'; expected the path of an .npz file or a folder of them")
        if not os.path.exists(path):
            raise _core.FileError(f"cannot open '{path}': No such file or directory")
        return
    readable = hasattr(data, "get_next") or callable(data) or isinstance(data, Iterable)
    if isinstance(data, (bytes, bytearray)) or not (readable or _is_indexed(data)):
        raise wrong(f"data is {type(data).__name__}; expected {FORMS}")


class Batches:
    """Any form of data as feeds, a batch at a time.

    data: an iterable of feeds (dictionaries of arrays by input name, arrays in the order of the
    inputs, or paths of .npz files), so a DataLoader too; one dictionary; the path of an .npz file,
    whose arrays are cut along the batch, or of a folder of them, in the order of their names; a
    callable that gives any of these, or one batch a call until None; a reader with get_next().
    what: how errors name it.
    Errors of iteration: FeedError names the batch; FileError, LimitError, CalibrationError for a
    folder without .npz files.
    """

    def __init__(
        self,
        data: Any,
        ports: Sequence[Port],
        *,
        one_by_one: bool = False,
        what: str = "calibration data",
    ) -> None:
        """Looks at the form of the data alone. Errors: UsageError, FileError."""
        expect_data(data)
        self._ports = ports
        self._data = [data] if isinstance(data, (str, os.PathLike, Mapping)) else data
        self._one_by_one = one_by_one
        self._what = what
        self._symbol = _batch_symbol(ports)
        if one_by_one:
            self._check_one_by_one()

    @property
    def repeatable(self) -> bool:
        """Whether the data can be read from the start again."""
        if hasattr(self._data, "get_next"):
            return hasattr(self._data, "rewind")
        return callable(self._data) or not isinstance(self._data, Iterator)

    @property
    def length(self) -> int | None:
        """How many batches there are, where that is known."""
        try:
            paths = isinstance(self._data, list) and any(map(_is_path, self._data))
            return None if self._one_by_one or paths else len(self._data)
        except (TypeError, NotImplementedError):  # a calibration reader may have no length
            return None

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Yields feeds."""
        for index, item in enumerate(self._opened()):
            feeds = self._feeds(index, item)
            if self._one_by_one:
                yield from self._singles(feeds)
            else:
                yield feeds

    def samples(self, feeds: Mapping[str, Array]) -> int:
        """How many samples a batch holds: the extent of the batch axis."""
        arrays = [feeds[p.name] for p in self._ports if self._batched(p) and p.name in feeds]
        return int(arrays[0].shape[0]) if arrays and arrays[0].ndim else 1

    def _batched(self, port: Port) -> bool:
        if not port.shape:
            return False
        return port.shape[0] == self._symbol if self._symbol is not None else self._fixed == 1

    @property
    def _fixed(self) -> int:
        """How many different first extents there are, of a model without symbols there."""
        return len({port.shape[0] for port in self._ports if port.shape})

    def _opened(self) -> Iterator[Any]:
        """Items, with those of a file or folder in place of its path."""
        from planck.cli.feeds import read_npz

        for item in self._items():
            if not _is_path(item):
                yield item
                continue
            for path in _files(os.fspath(item)):
                yield from self._slices(read_npz(path))

    def _items(self) -> Iterator[Any]:
        data = self._data
        if hasattr(data, "get_next"):
            if hasattr(data, "rewind"):
                data.rewind()
            yield from _until_none(data.get_next)
        elif callable(data) and not isinstance(data, Iterable):
            first = data()
            if first is not None and not isinstance(first, (str, os.PathLike, Mapping)):
                yield from first
            elif first is not None:
                yield first
                yield from _until_none(data)
        else:
            yield from iter(data)

    def _feeds(self, index: int, item: Any) -> dict[str, Array]:
        if isinstance(item, Mapping):
            return {str(name): self._array(index, name, value) for name, value in item.items()}
        values = list(item) if isinstance(item, (list, tuple)) else [item]
        if isinstance(item, (str, bytes)) or len(values) != len(self._ports):
            names = ", ".join(port.name for port in self._ports)
            hint = ""
            if len(values) == len(self._ports) + 1:
                first = self._ports[0].name
                hint = f"if the last one is a label: ({{{first!r}: x}} for x, label in data)"
            raise wrong(
                f"batch {index} of the {self._what} is {type(item).__name__} of {len(values)}; "
                f"expected a dictionary of arrays for {names}",
                hint=hint,
                kind=_core.FeedError,
            )
        pairs = zip(self._ports, values, strict=True)
        return {port.name: self._array(index, port.name, value) for port, value in pairs}

    def _array(self, index: int, name: Any, value: Any) -> Array:
        """A NumPy array of anything that has one; a torch tensor leaves its graph and device."""
        import numpy as np

        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        try:
            return np.asarray(value)
        except (ValueError, TypeError) as error:
            raise wrong(
                f"input {str(name)!r} in batch {index} of the {self._what} makes no array: {error}",
                kind=_core.FeedError,
            ) from error

    def _singles(self, feeds: dict[str, Array]) -> Iterator[dict[str, Array]]:
        batched = [port.name for port in self._ports if self._batched(port)]
        for i in range(self.samples(feeds)):
            one = {name: feeds[name][i : i + 1] for name in batched if name in feeds}
            yield {**feeds, **one}

    def _slices(self, arrays: dict[str, Array]) -> list[dict[str, Array]]:
        """Views of the arrays along the batch, as many samples as the model takes."""
        ports = [p for p in self._ports if self._batched(p) and p.name in arrays]
        batched = [p for p in ports if arrays[p.name].ndim]
        if not batched:
            return [arrays]
        extent = batched[0].shape[0]
        step = SLICE if isinstance(extent, str) else max(1, extent)
        count = max(len(arrays[p.name]) for p in batched)
        return [
            {**arrays, **{p.name: arrays[p.name][at : at + step] for p in batched}}
            for at in range(0, max(count, 1), step)
        ]

    def _check_one_by_one(self) -> None:
        extents = {port.shape[0] for port in self._ports if self._batched(port)}
        if self._symbol is None and extents != {1}:
            raise _core.UsageError(
                "one_by_one=True needs a model whose batch is symbolic or 1; its inputs begin with "
                f"{sorted(map(str, extents)) or 'extents that differ'}"
            )


def _is_path(item: Any) -> bool:
    """Whether an item names feeds in place of being them."""
    if isinstance(item, str):
        return item.endswith(".npz") or os.path.isdir(item)
    return isinstance(item, os.PathLike)


def _is_indexed(data: Any) -> bool:
    """Whether data are read by index, as a Dataset without `__iter__` is."""
    return hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _files(path: str) -> list[str]:
    """The .npz files of a folder, in the order of their names; a file is itself."""
    if not os.path.isdir(path):
        return [path]
    inside = sorted(str(file) for file in Path(path).glob("*.npz"))
    if not inside:
        raise _core.CalibrationError(f"the folder '{path}' has no .npz files")
    return inside


def _batch_symbol(ports: Sequence[Port]) -> str | None:
    """The symbol that most inputs have as their first extent."""
    firsts: Counter[str] = Counter()
    for port in ports:
        if port.shape and isinstance(port.shape[0], str):
            firsts[port.shape[0]] += 1
    return firsts.most_common(1)[0][0] if firsts else None


def _until_none(call: Callable[[], Any]) -> Iterator[Any]:
    """What calls give until one gives None or is out of items."""
    while True:
        try:
            item = call()
        except StopIteration:
            return
        if item is None:
            return
        yield item
