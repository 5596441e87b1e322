"""`planck.calibrate`: one pass of a data set through a model, and what its tensors held."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from planck import _core
from planck.build import Bar, Progress
from planck.calibration import Calibration, model_hash
from planck.limits import LimitsLike, as_dict
from planck.plan import Plan, Port

if TYPE_CHECKING:  # `import planck` is quick: NumPy comes with the first array
    from numpy.typing import NDArray

    Array = NDArray[Any]

Method = Literal["auto", "entropy", "minmax", "percentile", "mse", "legacy"]
SLICE = 16  # samples of one run where an .npz file holds many
FEW = 32  # samples: below it calibration warns


def calibrate(
    model: str | os.PathLike[str] | bytes,
    data: Any,
    method: Method = "auto",
    *,
    percentile: float = 99.99,
    zero_policy: Literal["skip", "keep"] = "skip",
    exact: bool = False,
    one_by_one: bool = False,
    nonfinite: Literal["error", "ignore"] = "error",
    per_channel: bool | Sequence[str] | None = None,
    tensors: Literal["all"] | Sequence[str] | None = None,
    progress: bool | Progress | None = None,
    threads: int | None = None,
    dims: Mapping[str, int] | None = None,
    limits: LimitsLike = "default",
    external_data_dir: str | None = None,
) -> Calibration:
    """Runs a model in float on all of `data` and keeps a histogram of each tensor.

    model: path of an ONNX file, or its bytes. data: an iterable of feeds (dictionaries of arrays
    by input name, or arrays in the order of the inputs), so a DataLoader too; one dictionary; the
    path of an .npz file, whose arrays are cut along the batch; a callable that gives any of these,
    or one batch a call until None; a calibration reader with get_next(). Nothing is sampled or
    dropped, and memory does not grow with the data.
    method, percentile (of 100), zero_policy: what `Calibration.solve` takes unless told otherwise.
    exact: a second pass for entropy with 2048 equal bins up to the maximum, as other tools' caches
    have them; data must then be readable twice. one_by_one: one sample a run. nonfinite: NaN and
    infinities are an error, or are left out and counted.
    tensors: None takes the inputs and outputs of matrix products and convolutions, the sides of
    residual sums, and what a Concat or MaxPool joins; "all" takes every floating-point activation;
    or names. per_channel: of which tensors the ranges of channels are kept too: None takes the
    inputs of matrix products, True all, False none; or names.
    progress: True draws a bar on stderr; a callback gets (stage, fraction) and cancels by returning
    False. threads, dims, limits, external_data_dir: as for `planck.build`.

    Fewer than 32 samples are warned of.
    Errors: CalibrationError (no data; NaN or infinities, with tensor and batch), UsageError (an
    option; an unknown tensor, with the nearest names), FeedError (names the input and the batch),
    CancelledError, and those of `planck.build`.

    >>> import tempfile, pathlib, planck, planck.models
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
    >>> planck.models.write("bert_encoder", path, size="mini")
    >>> feeds = [planck.models.feeds("bert_encoder", (2, 5), size="mini") for _ in range(3)]
    >>> calibration = planck.calibrate(path, feeds)
    >>> calibration.samples, calibration.batches
    (6, 3)
    >>> scales = calibration.solve("entropy", activation="s8")
    >>> len(scales) == len(calibration.names)
    True
    """
    options: dict[str, Any] = {
        "dims": {} if dims is None else dict(dims),
        "limits": as_dict(limits),
    }
    if external_data_dir is not None:
        options["external_data_dir"] = external_data_dir
    if threads is not None and threads < 1:
        raise _core.UsageError(f"threads is {threads}; expected at least 1")
    if nonfinite not in ("error", "ignore"):
        raise _core.UsageError(f"nonfinite is {nonfinite!r}; expected 'error' or 'ignore'")
    given = model if isinstance(model, bytes) else os.fspath(model)
    floats, others = _core.activations(given, options)
    rows, skipped = _chosen(floats, others, tensors)
    _mark_channels(rows, per_channel)
    facts = {
        "method": method,
        "percentile": percentile,
        "zero_policy": zero_policy,
        "nonfinite": nonfinite,
        "exact": exact,
        "skipped": skipped,
        "model_hash": model_hash(model),
    }
    core = _core.Calibration(facts, rows)
    options["extra_outputs"] = [row["name"] for row in rows if not row["input"]]
    if isinstance(given, bytes):
        plan = Plan(_core.build_bytes(given, options, threads or 0))
    else:
        plan = Plan(_core.build_file(given, options, threads or 0))
    batches = _Data(data, plan.inputs, one_by_one)
    if exact and not batches.repeatable:
        raise _core.UsageError(
            "exact=True reads the data twice, and this can be read only once; "
            "give a list, a path, or a callable that begins anew"
        )
    stream = _Stream(plan, core, batches, threads or 0)
    with Bar(progress or False, "calibrate") as report:
        stream.run(report, again=False)
        if exact:
            core.start_second_pass()
            stream.run(report, again=True)
    done = Calibration(core)
    if done.samples == 0:
        raise _core.CalibrationError(
            f"the data gave {done.batches} batches of 0 samples: nothing can be calibrated"
        )
    if done.samples < FEW:
        logging.getLogger("planck").warning(
            "calibrated on %d samples; fewer than %d rarely show what tensors hold",
            done.samples,
            FEW,
        )
    return done


def _chosen(
    floats: list[dict[str, Any]], others: list[str], tensors: Literal["all"] | Sequence[str] | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the tensors to observe, and names of those that hold no floating-point numbers."""
    if tensors is None:
        return [row for row in floats if row["product"]], []
    if tensors == "all":
        return floats, others
    if isinstance(tensors, str):
        raise _core.UsageError(f"tensors is {tensors!r}; expected 'all' or a list of names")
    wanted = dict.fromkeys(tensors)
    known = [row["name"] for row in floats]
    _expect_known("tensors", wanted, [*known, *others])
    return [row for row in floats if row["name"] in wanted], [n for n in others if n in wanted]


def _mark_channels(rows: list[dict[str, Any]], per_channel: bool | Sequence[str] | None) -> None:
    if isinstance(per_channel, str):
        raise _core.UsageError(f"per_channel is {per_channel!r}; expected a list of names")
    if per_channel is not None and not isinstance(per_channel, bool):
        _expect_known("per_channel", per_channel, [row["name"] for row in rows])
    for row in rows:
        row["axis"] = 1 if row.pop("windows") and not row["channels"] else -1
        row.pop("product")
        if isinstance(per_channel, bool):
            row["channels"] = per_channel
        elif per_channel is not None:
            row["channels"] = row["name"] in per_channel


def _expect_known(option: str, names: Iterable[str], known: list[str]) -> None:
    have = set(known)
    for name in names:
        if name in have:
            continue
        near = _core.nearest_names(name, known)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise _core.UsageError(f"{option}: the model computes no tensor {name!r}{hint}")


class _Stream:
    """Batches through the plan into the statistics."""

    def __init__(self, plan: Plan, core: _core.Calibration, data: _Data, threads: int) -> None:
        self._plan = plan
        self._core = core
        self._data = data
        self._threads = threads
        self._index = {name: i for i, name in enumerate(core.facts["tensors"])}

    def run(self, report: Callable[[str, float], bool] | None, *, again: bool) -> None:
        total = self._data.length
        count = 0
        for count, feeds in enumerate(self._data, 1):
            observed = self._observed(count - 1, feeds)
            if again:
                self._core.observe_again(observed, self._threads)
            else:
                size = sum(array.nbytes for array in feeds.values())
                samples = self._data.samples(feeds)
                self._core.observe(observed, samples, size, self._threads)
            done = min(1.0, count / total) if total else 0.0
            stage = f"batch {count}" + (", second pass" if again else "")
            if report is not None and not report(stage, done):
                raise _core.CancelledError(f"the calibration was cancelled after batch {count - 1}")
        if count == 0:
            raise _core.CalibrationError("the data gave no batch: nothing can be calibrated")

    def _observed(self, batch: int, feeds: dict[str, Array]) -> list[tuple[int, Array]]:
        try:
            outputs = self._plan.run(feeds)
        except _core.Error as error:
            error.args = (f"{error}\n  in batch {batch} of the calibration data",)
            raise
        held = {**outputs, **feeds}
        return [(i, held[name]) for name, i in self._index.items()]


class _Data:
    """Any form of calibration data as feeds, a batch at a time.

    repeatable: it can be read from the start again. length: batches, where known.
    """

    def __init__(self, data: Any, ports: Sequence[Port], one_by_one: bool) -> None:
        self._ports = ports
        self._data = data
        self._one_by_one = one_by_one
        self._symbol = _batch_symbol(ports)
        if isinstance(data, (str, os.PathLike)):
            if not os.fspath(data).endswith(".npz"):
                raise _core.UsageError(f"data is '{os.fspath(data)}'; expected the path of an .npz")
            from planck.cli.feeds import read_npz

            self._data = self._slices(read_npz(os.fspath(data)))
        elif isinstance(data, Mapping):
            self._data = [data]
        elif not (hasattr(data, "get_next") or callable(data) or isinstance(data, Iterable)):
            raise _core.UsageError(
                f"data is {type(data).__name__}; expected an iterable of feeds, the path of an "
                ".npz, a callable, or a reader with get_next()"
            )
        if one_by_one:
            self._check_one_by_one()

    @property
    def repeatable(self) -> bool:
        if hasattr(self._data, "get_next"):
            return hasattr(self._data, "rewind")
        return callable(self._data) or not isinstance(self._data, Iterator)

    @property
    def length(self) -> int | None:
        try:
            return None if self._one_by_one else len(self._data)
        except TypeError:
            return None

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for index, item in enumerate(self._items()):
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

    def _items(self) -> Iterator[Any]:
        data = self._data
        if hasattr(data, "get_next"):
            if hasattr(data, "rewind"):
                data.rewind()
            yield from _until_none(data.get_next)
        elif callable(data) and not isinstance(data, Iterable):
            first = data()
            if first is not None and not isinstance(first, Mapping):
                yield from first
            elif first is not None:
                yield first
                yield from _until_none(data)
        else:
            yield from data

    def _feeds(self, index: int, item: Any) -> dict[str, Array]:
        if isinstance(item, Mapping):
            return {str(name): _array(value) for name, value in item.items()}
        values = list(item) if isinstance(item, (list, tuple)) else [item]
        if isinstance(item, (str, bytes)) or len(values) != len(self._ports):
            names = ", ".join(port.name for port in self._ports)
            raise _core.FeedError(
                f"batch {index} of the calibration data is {type(item).__name__} of {len(values)}; "
                f"expected a dictionary of arrays for {names}"
            )
        return {p.name: _array(v) for p, v in zip(self._ports, values, strict=True)}

    def _singles(self, feeds: dict[str, Array]) -> Iterator[dict[str, Array]]:
        batched = [port.name for port in self._ports if self._batched(port)]
        for i in range(self.samples(feeds)):
            one = {name: feeds[name][i : i + 1] for name in batched if name in feeds}
            yield {**feeds, **one}

    def _slices(self, arrays: dict[str, Array]) -> list[dict[str, Array]]:
        """Views of the arrays along the batch, as many samples as the model takes."""
        batched = [p for p in self._ports if self._batched(p) and p.name in arrays]
        if not batched:
            return [arrays]
        extent = batched[0].shape[0]
        step = SLICE if isinstance(extent, str) else max(1, extent)
        count = max(len(arrays[p.name]) for p in batched)
        return [
            {**arrays, **{p.name: arrays[p.name][at : at + step] for p in batched}}
            for at in range(0, count, step)
        ]

    def _check_one_by_one(self) -> None:
        extents = {port.shape[0] for port in self._ports if self._batched(port)}
        if self._symbol is None and extents != {1}:
            raise _core.UsageError(
                "one_by_one=True needs a model whose batch is symbolic or 1; its inputs begin with "
                f"{sorted(map(str, extents)) or 'extents that differ'}"
            )


def _batch_symbol(ports: Sequence[Port]) -> str | None:
    """The symbol that most inputs have as their first extent."""
    firsts: Counter[str] = Counter()
    for port in ports:
        if port.shape and isinstance(port.shape[0], str):
            firsts[port.shape[0]] += 1
    return firsts.most_common(1)[0][0] if firsts else None


def _until_none(call: Callable[[], Any]) -> Iterator[Any]:
    while (item := call()) is not None:
        yield item


def _array(value: Any) -> Array:
    """A NumPy array of anything that has one; a torch tensor leaves its graph and device."""
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)
