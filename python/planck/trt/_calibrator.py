"""Int8 calibrators: TensorRT's classes, called in TensorRT's order, end in `planck.calibrate`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from planck import _core
from planck.calibration import Scales
from planck.scale_files import import_scales
from planck.trt._arrays import array_on
from planck.trt._dims import Dims
from planck.trt._enums import CalibrationAlgoType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class IInt8Calibrator:
    """Base of calibrators; a subclass has get_batch_size, get_batch and both cache methods.

    get_batch(names) gives a host address, an array, a torch tensor or a DLPack object for each
    name, and None or [] at the end. Behind an address lies a dense array of the calibration
    profile's shape, float32 unless the input holds integers. What a method raises ends the build.
    """

    def get_algorithm(self) -> CalibrationAlgoType:
        """Which thresholds are wanted."""
        raise NotImplementedError("derive from IInt8EntropyCalibrator2, or say get_algorithm")

    def get_batch_size(self) -> int:
        """How many samples a batch has; the first extent of an input that leaves it open."""
        raise NotImplementedError("a calibrator has a method get_batch_size()")

    def get_batch(self, names: list[str]) -> Any:
        """The next batch."""
        raise NotImplementedError("a calibrator has a method get_batch(names)")

    def read_calibration_cache(self) -> Any:
        """A cache as bytes, which makes batches superfluous, or None."""
        return None

    def write_calibration_cache(self, cache: bytes) -> None:
        """Called once with the new cache."""


class IInt8EntropyCalibrator2(IInt8Calibrator):
    """Thresholds of least information loss; the usual choice."""

    def get_algorithm(self) -> CalibrationAlgoType:
        """ENTROPY_CALIBRATION_2."""
        return CalibrationAlgoType.ENTROPY_CALIBRATION_2


class IInt8EntropyCalibrator(IInt8Calibrator):
    """The same, under its older name."""

    def get_algorithm(self) -> CalibrationAlgoType:
        """ENTROPY_CALIBRATION."""
        return CalibrationAlgoType.ENTROPY_CALIBRATION


class IInt8MinMaxCalibrator(IInt8Calibrator):
    """Thresholds at the largest values."""

    def get_algorithm(self) -> CalibrationAlgoType:
        """MINMAX_CALIBRATION."""
        return CalibrationAlgoType.MINMAX_CALIBRATION


class IInt8LegacyCalibrator(IInt8Calibrator):
    """Thresholds at a quantile; the regression cutoff is kept and has no effect."""

    def get_algorithm(self) -> CalibrationAlgoType:
        """LEGACY_CALIBRATION."""
        return CalibrationAlgoType.LEGACY_CALIBRATION

    def get_quantile(self) -> float:
        """The share of values that are held, in (0, 1]."""
        return 0.9999

    def get_regression_cutoff(self) -> float:
        """TensorRT's, whose algorithm is not public."""
        return 1.0

    def read_histogram_cache(self, length: int) -> Any:
        """TensorRT's histograms, which are not read: None."""
        return None

    def write_histogram_cache(self, ptr: Any, length: int) -> None:
        """Called with the statistics before the cache is written."""


# By algorithm: the method of planck.calibrate, and the name in the header of a cache.
_METHODS = {
    CalibrationAlgoType.ENTROPY_CALIBRATION: ("entropy", "EntropyCalibration"),
    CalibrationAlgoType.ENTROPY_CALIBRATION_2: ("entropy", "EntropyCalibration2"),
    CalibrationAlgoType.MINMAX_CALIBRATION: ("minmax", "MinMaxCalibration"),
    CalibrationAlgoType.LEGACY_CALIBRATION: ("legacy", "LegacyCalibration"),
}
VERSION_IN_HEADER = 8600


@dataclass(frozen=True, slots=True)
class CalibrationTarget:
    """What is calibrated: the model's bytes, and shape and dtype of each input of a batch."""

    model: bytes
    folder: str | None
    inputs: Mapping[str, tuple[Dims, np.dtype[Any]]]


def is_calibrator(given: Any) -> bool:
    """Whether it has TensorRT's methods; else it is data."""
    return hasattr(given, "get_batch") and hasattr(given, "read_calibration_cache")


def scales_by(given: Any, target: CalibrationTarget) -> Scales:
    """Scales by a calibrator, or by data that planck.calibrate takes.

    Errors: CalibrationError for no batches and for a cache that covers no tensor; FeedError for a
    batch that does not fit; whatever the calibrator raises.
    """
    if not is_calibrator(given):
        solved: Scales = _calibrate(target, given).solve()
        return solved
    algorithm = CalibrationAlgoType(given.get_algorithm())
    batch_size = int(given.get_batch_size())
    options: dict[str, Any] = {}
    notes: list[str] = []
    if algorithm == CalibrationAlgoType.LEGACY_CALIBRATION:
        options["quantile"] = float(given.get_quantile())
        options["cutoff"] = float(given.get_regression_cutoff())
        if given.read_histogram_cache(0):
            notes.append("the histogram cache was not read: its format is TensorRT's own")
    cached = _bytes(given.read_calibration_cache())
    if cached:
        return _from_cache(cached, algorithm, target)
    return _from_batches(given, algorithm, batch_size, target, options, notes)


def _bytes(cached: Any) -> bytes:
    """What read_calibration_cache gave. Errors: UsageError for what holds no bytes."""
    if cached is None:
        return b""
    try:
        return bytes(memoryview(cached))
    except TypeError:
        error = _core.UsageError(
            f"read_calibration_cache gave {type(cached).__name__}; expected bytes or None"
        )
        error.hint = 'open the cache with "rb"'
        raise error from None


def _from_cache(cached: bytes, algorithm: CalibrationAlgoType, target: CalibrationTarget) -> Scales:
    scales = import_scales(cached, "trt_cache", target.model)
    wanted = _METHODS[algorithm][1]
    if f"-{wanted}\n".encode() not in cached.replace(b"\r", b"").split(b"\n", 1)[0] + b"\n":
        scales.notes.append(f"the cache is of another algorithm than the calibrator's {wanted}")
    return scales


def _from_batches(
    given: Any,
    algorithm: CalibrationAlgoType,
    batch_size: int,
    target: CalibrationTarget,
    options: Mapping[str, Any],
    notes: list[str],
) -> Scales:
    method, name = _METHODS[algorithm]
    batches = Batches(given, batch_size, target.inputs)
    calibration = _calibrate(target, batches, method=method)
    if batches.count == 0:
        raise _nothing()
    # A cache holds symmetric scales, and with it the next build is to give the same engine.
    scales: Scales = calibration.solve(activation="s8", **options)
    scales.notes += notes
    if algorithm == CalibrationAlgoType.LEGACY_CALIBRATION:
        statistics = calibration.to_bytes()
        given.write_histogram_cache(statistics, len(statistics))
    header = f"TRT-{VERSION_IN_HEADER}-{name}"
    given.write_calibration_cache(scales.to_trt_cache(header=header).encode())
    return scales


def _calibrate(target: CalibrationTarget, data: Any, **options: Any) -> Any:
    calibrate = importlib.import_module("planck").calibrate
    return calibrate(target.model, data, external_data_dir=target.folder, **options)


def _nothing() -> _core.CalibrationError:
    error = _core.CalibrationError("the calibrator gave no batch and no cache")
    error.hint = "get_batch returns one address or array for each name until the data end"
    return error


class Batches:
    """The batches of a calibrator as dictionaries of arrays, one at a time."""

    def __init__(
        self,
        calibrator: Any,
        batch_size: int,
        inputs: Mapping[str, tuple[Dims, np.dtype[Any]]],
    ) -> None:
        if batch_size < 1:
            raise _core.UsageError(f"get_batch_size() gave {batch_size}; expected at least 1")
        self.count = 0
        self._calibrator = calibrator
        self._inputs = {
            name: (_filled(name, shape, batch_size), dtype)
            for name, (shape, dtype) in inputs.items()
        }

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Asks for batches until the calibrator has none."""
        while True:
            batch = self._calibrator.get_batch(list(self._inputs))
            if batch is not None and not isinstance(batch, (list, tuple)):
                raise self._no_list(batch)
            if batch is None or len(batch) == 0:
                if self.count == 0:
                    raise _nothing()
                return
            if len(batch) != len(self._inputs):
                raise _core.FeedError(
                    f"get_batch gave {len(batch)} items for the {len(self._inputs)} inputs "
                    f"{', '.join(self._inputs)}"
                )
            self.count += 1
            rows = zip(self._inputs.items(), batch, strict=True)
            yield {name: _array(name, item, *want) for (name, want), item in rows}

    def _no_list(self, batch: Any) -> _core.Error:
        error = _core.FeedError(
            f"get_batch gave {type(batch).__name__}; expected a list of one address or array for "
            f"each of the inputs {', '.join(self._inputs)}"
        )
        error.hint = "return [batch], and None after the last one"
        return error


def _filled(name: str, shape: Dims, batch_size: int) -> Dims:
    """The shape of a batch: only its first extent may be open."""
    filled = Dims(batch_size if i == 0 and e < 0 else e for i, e in enumerate(shape))
    if min(filled, default=0) < 0:
        error = _core.UsageError(f"the shape {shape} of input {name!r} leaves extents open")
        error.hint = "give them in an optimization profile: config.set_calibration_profile(profile)"
        raise error
    return filled


def _array(name: str, item: Any, shape: Dims, dtype: np.dtype[Any]) -> Array:
    """A copy of one item: the caller fills the same memory for the next batch."""
    array = array_on(f"the batch of {name!r}", item, shape, dtype, writable=False)
    if array.dtype != dtype:
        raise _core.FeedError(f"get_batch gave {array.dtype} for {name!r}; expected {dtype}")
    if array.ndim != len(shape):
        raise _core.FeedError(f"get_batch gave {array.shape} for {name!r}; expected {shape}")
    return array.copy()
