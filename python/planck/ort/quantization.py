"""ONNX Runtime's quantisation tools on Planck: models are calibrated and rewritten by ours.

Which ops are quantised is decided as by `planck.quantize` with its recipe "auto":
`nodes_to_exclude` and the like narrow that choice, `nodes_to_quantize` also overrules what would
stay float. The files that are written hold QuantizeLinear and DequantizeLinear and run on either
engine.
"""

from __future__ import annotations

import abc
import enum
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planck import _core
from planck.ort._errors import as_ort

__all__ = [
    "CalibrationDataReader",
    "CalibrationMethod",
    "QuantFormat",
    "QuantType",
    "quant_pre_process",
    "quantize_dynamic",
    "quantize_static",
]


class CalibrationMethod(enum.Enum):
    """How thresholds are found."""

    MinMax = 0
    Entropy = 1
    Percentile = 2
    Distribution = 3


class QuantFormat(enum.Enum):
    """How a quantised model is written; Planck writes QDQ."""

    QOperator = 0
    QDQ = 1


class QuantType(enum.Enum):
    """Types of quantised tensors; Planck writes QInt8, and QUInt8 for activations."""

    QInt8 = 0
    QUInt8 = 1
    QFLOAT8E4M3FN = 2
    QInt16 = 3
    QUInt16 = 4
    QInt4 = 5
    QUInt4 = 6


class CalibrationDataReader(abc.ABC):
    """Gives the feeds of one batch a call, and None after the last one."""

    @abc.abstractmethod
    def get_next(self) -> dict[str, Any] | None:
        """The next feeds by input name, or None."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Itself."""
        return self

    def __next__(self) -> dict[str, Any]:
        """The next feeds. Errors: StopIteration."""
        feeds = self.get_next()
        if feeds is None:
            raise StopIteration
        return feeds


_METHODS = {
    CalibrationMethod.MinMax: "minmax",
    CalibrationMethod.Entropy: "entropy",
    CalibrationMethod.Percentile: "percentile",
}
_ACTIVATIONS = {QuantType.QInt8: "s8", QuantType.QUInt8: "u8"}
_PERCENTILE = 99.999  # what ONNX Runtime takes


def quantize_static(
    model_input: Any,
    model_output: str | os.PathLike[str],
    calibration_data_reader: Any,
    quant_format: QuantFormat = QuantFormat.QDQ,
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    activation_type: QuantType = QuantType.QInt8,
    weight_type: QuantType = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    use_external_data_format: bool = False,
    calibrate_method: CalibrationMethod = CalibrationMethod.MinMax,
    calibration_providers: Sequence[str] | None = None,
    extra_options: Mapping[str, Any] | None = None,
) -> None:
    """Calibrates a float model on all that the reader gives, and writes its int8 form.

    model_input: a path, bytes, or an onnx.ModelProto. Of extra_options, CalibPercentile is read;
    others, and reduce_range, which Planck's exact sums do not need, are logged and have no effect.
    Errors: NotImplemented for a format, type or method that Planck does not write; those of
    `planck.calibrate` and `planck.quantize`.

    >>> import tempfile, pathlib, planck.models
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> planck.models.write("digits", folder / "digits.onnx", size="mini", trained=True)
    >>> feeds = [planck.models.feeds("digits", (8,), size="mini", seed=s) for s in range(4)]
    >>> quantize_static(folder / "digits.onnx", folder / "int8.onnx", iter(feeds))
    >>> planck.build(folder / "int8.onnx", precision="int8").precision
    'int8'
    """
    import planck

    _need("quant_format", quant_format, [QuantFormat.QDQ])
    _need("activation_type", activation_type, list(_ACTIVATIONS))
    _need("weight_type", weight_type, [QuantType.QInt8])
    _need("calibrate_method", calibrate_method, list(_METHODS))
    options = dict(extra_options or {})
    percentile = float(options.pop("CalibPercentile", _PERCENTILE))
    _tell_unused({**options, **({"reduce_range": True} if reduce_range else {})})
    calibration: Any = planck.calibrate(
        model_input,
        calibration_data_reader,
        _METHODS[calibrate_method],  # type: ignore[arg-type]
        percentile=percentile,
    )
    scales = calibration.solve(activation=_ACTIVATIONS[activation_type])
    weights = "per_channel" if per_channel else "per_tensor"
    chosen = _choice(
        model_input, scales, op_types_to_quantize, nodes_to_quantize, nodes_to_exclude, "auto"
    )
    model = planck.quantize(model_input, scales, weights=weights, **chosen)  # type: ignore[arg-type]
    _save(model, model_output, use_external_data_format)


def quantize_dynamic(
    model_input: Any,
    model_output: str | os.PathLike[str],
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    weight_type: QuantType = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    use_external_data_format: bool = False,
    extra_options: Mapping[str, Any] | None = None,
) -> None:
    """Writes the model with int8 weights; the grids of activations are found in each run.

    Only MatMul and Gemm are rewritten. Errors: as for `quantize_static`.
    """
    import planck

    _need("weight_type", weight_type, [QuantType.QInt8])
    _tell_unused({**(extra_options or {}), **({"reduce_range": True} if reduce_range else {})})
    weights = "per_channel" if per_channel else "per_tensor"
    chosen = _choice(
        model_input, None, op_types_to_quantize, nodes_to_quantize, nodes_to_exclude, "dynamic"
    )
    model = planck.quantize(model_input, None, weights=weights, **chosen)  # type: ignore[arg-type]
    _save(model, model_output, use_external_data_format)


def quant_pre_process(
    input_model: Any, output_model_path: str | os.PathLike[str], **options: Any
) -> None:
    """Writes the model as it is: Planck infers shapes and folds constants when it reads one."""
    from planck.onnx_editor import loaded

    _tell_unused(options)
    _save(loaded(input_model, "quant_pre_process"), output_model_path, external=False)


def _need(option: str, value: Any, known: Sequence[Any]) -> None:
    if value in known:
        return
    raise as_ort(
        _core.UnsupportedError(
            f"{option} is {value}; Planck writes {' and '.join(map(str, known))}"
        )
    )


def _tell_unused(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        logging.getLogger("planck").warning("%s=%r has no effect", name, value)


def _choice(
    model: Any,
    scales: Any,
    types: Sequence[str] | None,
    only: Sequence[str] | None,
    without: Sequence[str] | None,
    recipe: str,
) -> dict[str, Any]:
    """Options of `planck.quantize` for what the caller asked for by type and by name."""
    import planck
    from planck.onnx_editor import loaded

    op_types = {node.name: node.op_type for node in loaded(model, "quantization").graph.node}
    placed = planck.placement(model, scales, recipe=recipe)  # type: ignore[arg-type]
    weighted = [*placed.quantised, *(kept.node for kept in placed.kept)]
    for name in (*(only or ()), *(without or ())):
        if name not in op_types:
            logging.getLogger("planck").warning("the model has no node %r", name)
    exclude = [
        name
        for name in dict.fromkeys(filter(None, weighted))
        if name in (without or ())
        or (only and name not in only)
        or (types and op_types.get(name) not in types)
    ]
    include = [name for name in only or () if name in weighted and name not in exclude]
    return {"recipe": recipe, "include": include, "exclude": exclude}


def _save(model: Any, path: str | os.PathLike[str], external: bool) -> None:
    import onnx

    try:
        onnx.save(model, os.fspath(path), save_as_external_data=external)
    except OSError as error:
        raise _core.FileError(f"cannot write '{os.fspath(path)}': {error.strerror}") from error
