"""`planck.calibrate`: one pass of a data set through a model, and what its tensors held."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from planck import _core
from planck.arguments import by_name, model_of, names_in, thread_count
from planck.build import Bar, Progress
from planck.calibration import Calibration, model_hash
from planck.data import Batches, expect_data
from planck.limits import LimitsLike, as_dict
from planck.plan import Plan

if TYPE_CHECKING:  # `import planck` is quick: NumPy comes with the first array
    from numpy.typing import NDArray

    Array = NDArray[Any]

Method = Literal["auto", "entropy", "minmax", "percentile", "mse", "legacy"]
FEW = 32  # samples: below it calibration warns


def calibrate(
    model: Any,
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

    model: path of an ONNX file, its bytes, or an onnx.ModelProto. data: an iterable of feeds
    (dictionaries of arrays by input name, or arrays in the order of the inputs), so a DataLoader
    too; one dictionary; the path of an .npz file, whose arrays are cut along the batch, or of a
    folder of them; a callable that gives any of these, or one batch a call until None; a
    calibration reader with get_next(). Nothing is sampled or dropped, and memory does not grow
    with the data.
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
        "dims": by_name("dims", dims, "sizes"),
        "limits": as_dict(limits),
    }
    if external_data_dir is not None:
        options["external_data_dir"] = external_data_dir
    given, team = model_of(model), thread_count(threads)
    expect_data(data)
    if nonfinite not in ("error", "ignore"):
        raise _core.UsageError(f"nonfinite is {nonfinite!r}; expected 'error' or 'ignore'")
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
        "model_hash": model_hash(given),
    }
    core = _core.Calibration(facts, rows)
    options["extra_outputs"] = [row["name"] for row in rows if not row["input"]]
    if isinstance(given, bytes):
        plan = Plan(_core.build_bytes(given, options, team))
    else:
        plan = Plan(_core.build_file(given, options, team))
    batches = Batches(data, plan.inputs, one_by_one=one_by_one)
    if exact and not batches.repeatable:
        raise _core.UsageError(
            "exact=True reads the data twice, and this can be read only once; "
            "give a list, a path, or a callable that begins anew"
        )
    stream = _Stream(plan, core, batches, team)
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
    wanted = dict.fromkeys(names_in("tensors", tensors))
    if not wanted:
        raise _core.UsageError("tensors names nothing; expected at least one name, 'all' or None")
    known = [row["name"] for row in floats]
    _expect_known("tensors", wanted, [*known, *others])
    return [row for row in floats if row["name"] in wanted], [n for n in others if n in wanted]


def _mark_channels(rows: list[dict[str, Any]], per_channel: bool | Sequence[str] | None) -> None:
    if per_channel is not None and not isinstance(per_channel, bool):
        per_channel = names_in("per_channel", per_channel)
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

    def __init__(self, plan: Plan, core: _core.Calibration, data: Batches, threads: int) -> None:
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
