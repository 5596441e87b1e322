"""`planck.build`: an ONNX model becomes a plan."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from planck import _core
from planck.arguments import by_name, flushes, model_of, names_in, thread_count, wrong
from planck.limits import LimitsLike, as_dict
from planck.plan import Plan

if TYPE_CHECKING:
    from planck.plan import Array, Denormals
    from planck.quantization import PlacementOptions, ScalesLike

Precision = Literal["graph", "fp32", "fp32-fast", "tf32", "bf16", "fp16", "int8", "fp8", "auto"]
Progress = Callable[[str, float], object]


def build(
    model: Any,
    *,
    device: str = "cpu",
    precision: Precision = "graph",
    scales: ScalesLike | None = None,
    calibration: Any = None,
    placement: PlacementOptions | None = None,
    threads: int | None = None,
    denormals: Denormals = "compute",
    fallback: Literal["reference", "error"] = "reference",
    disabled_passes: Sequence[str] = (),
    stop_after_patch: int = -1,
    dims: Mapping[str, int] | None = None,
    initializers: Mapping[str, Array] | None = None,
    fed_initializers: Collection[str] = (),
    limits: LimitsLike = "default",
    inspectable: bool = True,
    external_data_dir: str | None = None,
    progress: bool | Progress = False,
    cancel: _core.Cancel | None = None,
) -> Plan:
    """Builds a plan that serves every shape the model allows.

    model: path of an ONNX file, its bytes, or an onnx.ModelProto. precision: "graph" takes the
    types of the graph, "fp32" the same for a float32 model; "fp32-fast" lets the relative rms error
    of a product or convolution grow to 1e-5 where that saves time (3x3 convolutions by Winograd's
    F(4x4, 3x3)); "int8" quantises products and convolutions by scales, or takes a model that is
    quantised already; others raise PrecisionError as long as no kernel exists.
    scales: for "int8", planck.Scales, TensorScale by tensor name, or the path of a scale file.
    calibration: a planck.Calibration in its place, solved by its own method. placement: what of
    the model is quantised, a dict of the options of `planck.quantize` such as {"recipe": "cnn",
    "exclude": ["/head/*"]}; the plan is the one of the file that `planck.quantize` gives, and what
    stays float is among the refusals that `Plan.explain` lists.
    threads: of the plan's team; None takes CPU affinity and the cgroup's quota.
    denormals: "flush" makes runs take subnormal numbers, in float32 those below 1.2e-38, as zeros
    where steps compute: operands, weights among them, and results; "compute" does what IEEE 754
    says, slowly on some processors. What is only moved keeps its bits. It is an option of runs,
    as threads is: the build folds constants with subnormal numbers computed, and the plan file has
    the same bytes.
    fallback: "reference" runs an op without a kernel by its reference (see `Plan.explain`),
    "error" refuses. disabled_passes: names out of `planck._core.pass_names()`.
    stop_after_patch: applies only the first N graph changes (-1: all), to bisect a difference.
    dims: extents by the names of the model's symbolic dimensions; names it lacks are ignored.
    initializers: arrays in place of the model's, of their type; the name of an input makes it a
    constant of the plan, such as the shape of a Reshape or the axes of a reduction, without whose
    value no plan can be built. fed_initializers: inputs with an initializer, which then has no
    effect: runs must give them.
    limits: "tight" is for models from strangers; planck.Limits or a dict sets single ones, such as
    {"build_timeout": 10}. They hold for the plan's runs too. inspectable: False leaves out the
    source graph and the weights that runs do not read, which `planck.compare` and `Plan.taps` need;
    an int8 plan of a float model is then a third as large. external_data_dir: folder of weight
    files for a model given as bytes. progress: True draws a bar on stderr; a callback gets (stage,
    fraction) every 20 ms or so and cancels the build by returning False. cancel: a planck.Cancel
    that another thread may ask.

    Errors: ParseError (not ONNX), GraphError (breaks ONNX's rules), UnsupportedError (lists every
    op that is missing), ExternalDataError, LimitError, VersionError, PrecisionError, UsageError,
    FileError, CancelledError, TimeoutError; all are `planck.Error`.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
    >>> import planck.models
    >>> planck.models.write("bert_encoder", path, size="mini")
    >>> [port.name for port in build(path).inputs]
    ['input_ids', 'attention_mask', 'token_type_ids']
    """
    options: dict[str, Any] = {
        "precision": precision,
        "device": device,
        "fallback": fallback,
        "disabled_passes": names_in("disabled_passes", disabled_passes),
        "stop_after_patch": stop_after_patch,
        "dims": by_name("dims", dims, "sizes"),
        "initializers": by_name("initializers", initializers, "arrays"),
        "fed_initializers": set(names_in("fed_initializers", fed_initializers)),
        "limits": as_dict(limits),
        "inspectable": inspectable,
    }
    given, team, flush = model_of(model), thread_count(threads), flushes(denormals)
    if scales is not None or calibration is not None or placement is not None:
        options.update(_int8_options(given, precision, scales, calibration, placement))
    if cancel is not None:
        options["cancel"] = cancel
    if external_data_dir is not None:
        options["external_data_dir"] = external_data_dir
    with Bar(progress) as report:
        if isinstance(given, bytes):
            core = _core.build_bytes(given, options, team, report, flush)
        else:
            core = _core.build_file(given, options, team, report, flush)
    return Plan(core)


def _int8_options(
    model: str | bytes,
    precision: str,
    scales: ScalesLike | None,
    calibration: Any,
    placement: PlacementOptions | None,
) -> dict[str, Any]:
    """Scales and placement as the core takes them."""
    from planck.quantization import PlacementOptions, as_scales, core_placement, core_scales

    if precision != "int8":
        raise _core.UsageError(
            f"scales, calibration and placement are for precision 'int8', not {precision!r}"
        )
    if scales is not None and calibration is not None:
        raise _core.UsageError("both scales and calibration are given; expected one of them")
    options = by_name("placement", placement, "options of planck.quantize")
    if options.get("recipe") == "dynamic":
        raise wrong(
            "the recipe 'dynamic' changes the model before it is built",
            hint='planck.build(planck.quantize(model, None, recipe="dynamic"), precision="int8")',
        )
    if scales is None and calibration is None:
        return {"placement": core_placement(placement or PlacementOptions(), None)}
    if calibration is not None and not hasattr(calibration, "solve"):
        raise _core.UsageError(
            f"calibration is {type(calibration).__name__}; expected a planck.Calibration "
            "(scales= takes planck.Scales and the paths of files)"
        )
    read = as_scales(calibration.solve() if scales is None else scales, model)
    if not read:
        raise _core.CalibrationError("the scales are empty; expected a scale by tensor name")
    placed = core_placement(placement or PlacementOptions(), read)
    return {"scales": core_scales(read), "placement": placed}


class Bar:
    """A one-line bar on stderr, or the caller's own callback."""

    WIDTH = 30

    def __init__(self, progress: bool | Progress, label: str = "build") -> None:
        """Errors: UsageError for what is neither a bool nor a callback."""
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise _core.UsageError(
                f"progress is {progress!r}; expected True, False or a callback (stage, fraction)"
            )
        self._progress = progress
        self._label = label

    def __enter__(self) -> Callable[[str, float], bool] | None:
        if self._progress is False or self._progress is None:
            return None
        if self._progress is True:
            return self._draw
        return self._call

    def __exit__(self, *_: object) -> None:
        if self._progress is True:
            sys.stderr.write("\r" + " " * (self.WIDTH + len(self._label) + 50) + "\r")
            sys.stderr.flush()

    def _call(self, stage: str, done: float) -> bool:
        assert callable(self._progress)
        return self._progress(stage, done) is not False

    def _draw(self, stage: str, done: float) -> bool:
        filled = round(done * self.WIDTH)
        bar = "#" * filled + "." * (self.WIDTH - filled)
        sys.stderr.write(f"\r{self._label} [{bar}] {done:4.0%} {stage:<40.40}")
        sys.stderr.flush()
        return True
