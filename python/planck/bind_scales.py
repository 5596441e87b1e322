"""Scales of a file, bound to the tensors of a model by name."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from planck import _core
from planck.calibration import Scales, TensorScale
from planck.outline import Node, Outline, read_outline

NAMED = 5  # how many names a note lists
FLOATS = (0, 1, 10, 11, 16)  # ONNX's numbers of float types; 0: the file does not say
# Ops whose results never exceed 1: a larger threshold comes from a range taken for a scale.
BOUNDED = ("Softmax", "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Softsign")


def bound(scales: Scales, model: str | os.PathLike[str] | bytes, digest: str) -> Scales:
    """The scales whose names the model has, in its order. Errors: CalibrationError, ParseError."""
    outline = read_outline(model)
    if scales.kind == "qat_amax":
        return _with_quantizers(scales, outline, digest)
    return _with_names(scales, outline, digest)


def nearest(name: str, names: Collection[str]) -> str:
    """The names that look like it, for a message; "" where none does."""
    close = difflib.get_close_matches(name, list(names)[:20_000], n=3, cutoff=0.5)
    return ", ".join(repr(c) for c in close)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(repr(name) for name in names[:NAMED]) + more


def _error(message: str, **fields: str) -> _core.Error:
    error = _core.CalibrationError(message)
    for name, text in fields.items():
        setattr(error, name, text)
    return error


def plain(name: str) -> str:
    """A name without punctuation, and without TensorFlow's output number.

    >>> plain("/block1/conv:0") == plain("block1.conv")
    True
    """
    return re.sub(r"[^0-9a-z]+", "_", name.lower().removesuffix(":0")).strip("_")


def _by_plain_name(names: Iterable[str]) -> dict[str, str]:
    """Names by their plain form, where only one has it."""
    names = list(names)
    counts = Counter(map(plain, names))
    return {plain(name): name for name in names if counts[plain(name)] == 1}


def _with_names(scales: Scales, outline: Outline, digest: str) -> Scales:
    tensors = outline.tensors()
    known = set(tensors) | outline.initializers.keys()
    others = _by_plain_name(tensors)
    found: dict[str, TensorScale] = {}
    notes, missing, renamed, constants = list(scales.notes), list[str](), list[str](), 0
    for grid in scales.values():
        name = grid.name if grid.name in known else others.get(plain(grid.name), "")
        if not name or (name != grid.name and name in scales):
            missing.append(grid.name)
        elif scales.kind == "trt_cache" and name in outline.initializers:
            constants += 1
        else:
            if name != grid.name:
                renamed.append(grid.name)
                grid = replace(grid, name=name)
            _check_axis(grid, outline)
            found[name] = grid
    if not len(scales):
        raise _error("the file has no scales", hint="write it again; calibration was cut short")
    if not found:
        raise _nothing_bound(scales.names, tensors)
    if scales.model_hash and scales.model_hash != digest:
        notes.append("the scales were made for another model file, or for another export of it")
    notes += _coverage(found, tensors, outline, chosen=scales.kind == "calibration")
    if renamed:
        notes.append(f"{len(renamed)} names differ in punctuation only: {_listed(renamed)}")
    if constants:
        notes.append(
            f"{constants} entries of weights were left out: weights have scales of their own"
        )
    if missing:
        close = nearest(missing[0], known)
        hint = f"; {missing[0]!r} is nearest to {close}" if close else ""
        notes.append(f"{len(missing)} names are not the model's: {_listed(missing)}{hint}")
    notes += _too_large(found, outline)
    order = {name: i for i, name in enumerate([*tensors, *outline.initializers])}
    rows = sorted(found.values(), key=lambda grid: order[grid.name])
    return Scales(rows, kind=scales.kind, method=scales.method, model_hash=digest, notes=notes)


def _nothing_bound(names: Sequence[str], tensors: Sequence[str]) -> _core.Error:
    close = nearest(names[0], tensors) if names else ""
    first = f" {names[0]!r} is nearest to {close}." if close else ""
    return _error(
        f"the file covers no tensor of the model: its {len(names)} names are all unknown.{first}",
        expected=_listed(tensors),
        got=_listed(names),
        hint="the scales are those of another model, or of another export of it",
    )


def _coverage(
    found: Collection[str], tensors: Sequence[str], outline: Outline, *, chosen: bool
) -> list[str]:
    """How much of the model has scales; `chosen`: by planck.calibrate, which knows what int8 needs.

    Other tools leave gaps without a word, and a gap keeps a layer in float.
    """
    floats = [name for name in tensors if outline.type_of(name).element_type in FLOATS]
    covered = [name for name in floats if name in found]
    without = [name for name in floats if name not in found]
    notes = [f"covers {len(covered)} of the {len(floats)} float tensors of the model"]
    if without and not chosen:
        notes.append(f"without scales: {_listed(without)}")
    return notes


def _too_large(found: dict[str, TensorScale], outline: Outline) -> list[str]:
    """A note where results that cannot exceed 1 have thresholds far above it."""
    for node in outline.nodes:
        grid = found.get(node.outputs[0]) if node.outputs else None
        if node.op_type in BOUNDED and grid is not None and (grid.threshold or 0) > 2:
            return [
                f"{grid.name!r} is the result of {node.op_type} and never above 1, but its "
                f"threshold reads {grid.threshold:.4g}: the file seems to hold ranges where its "
                "format has scales; they were taken as scales"
            ]
    return []


def _check_axis(grid: TensorScale, outline: Outline) -> None:
    """Errors: CalibrationError where the scales do not fit the shape that the model declares."""
    dims = outline.type_of(grid.name).dims
    if grid.axis is None or dims is None:
        return
    if not -len(dims) <= grid.axis < len(dims):
        raise _error(f"the axis of {grid.name!r} is {grid.axis}; the tensor has {len(dims)} axes")
    extent = dims[grid.axis]
    if isinstance(extent, int) and extent != grid.scale.size:
        raise _error(
            f"{grid.name!r} has {grid.scale.size} scales along axis {grid.axis}",
            expected=str(extent),
            got=str(grid.scale.size),
        )


# --- QAT buffers: modules by the weights that they own


QUANTIZER = re.compile(r"^(.*?)[._]*(input|weight|output)_quantizer[._]+amax$")
PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
VIEWS = ("Identity", "Transpose", "Cast")


@dataclass(slots=True)
class _Layer:
    """Where a weight is used: its axis of output channels, and what it is multiplied with."""

    weight: str
    axis: int
    inputs: list[str] = field(default_factory=list)


class _Weights:
    """The weights of a model by the module that owns them."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._readers: dict[str, list[Node]] = {}
        self._makers: dict[str, Node] = {}
        for node in outline.nodes:
            self._makers.update(dict.fromkeys(node.outputs, node))
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node)
        self._matrices = [
            name for name, kind in outline.initializers.items() if len(kind.dims or ()) >= 2
        ]

    @property
    def names(self) -> list[str]:
        """Weights of two axes and more."""
        return self._matrices

    def layer(self, module: str) -> _Layer | None:
        """The product that multiplies with the module's weight; None where there is none."""
        for weight in (self._own(module), self._by_bias(module)):
            if weight and (layer := self._product(weight)) is not None:
                return layer
        return None

    def _own(self, module: str) -> str:
        inside = [name for name in self._matrices if name.startswith(module + ".")]
        if module + ".weight" in inside:
            return module + ".weight"
        if len(inside) == 1:
            return inside[0]
        owners = {name: name.rpartition(".")[0] for name in self._matrices}
        alike = [
            name
            for name, owner in owners.items()
            if owner and (owner.endswith("." + module) or module.endswith("." + owner))
        ]
        return alike[0] if len(alike) == 1 else ""

    def _by_bias(self, module: str) -> str:
        """The weight of the product to which the module's bias is added.

        PyTorch's exporter transposes the weight of a Linear and gives it a number for a name, but
        its bias keeps the name.
        """
        for node in self._readers.get(module + ".bias", ()):
            for name in node.inputs:
                maker = self._makers.get(name)
                if node.op_type == "Add" and maker is not None and maker.op_type == "MatMul":
                    return next((i for i in maker.inputs if i in self._matrices), "")
        return ""

    def _product(self, weight: str) -> _Layer | None:
        layer: _Layer | None = None
        rank = len(self._outline.initializers[weight].dims or ())
        for node, name, turned in self._uses(weight):
            axis = _output_axis(node, node.inputs.index(name), rank)
            if axis is None:
                continue
            axis = rank - 1 - axis if turned else axis
            layer = layer or _Layer(weight, axis)
            layer.inputs.append(node.inputs[1 - node.inputs.index(name)])
        return layer

    def _uses(self, weight: str) -> Iterable[tuple[Node, str, bool]]:
        """Products that read the weight, perhaps by way of a view; whether that transposes it."""
        for node in self._readers.get(weight, ()):
            if node.op_type in PRODUCTS:
                yield node, weight, False
            elif node.op_type in VIEWS and node.outputs:
                for reader in self._readers.get(node.outputs[0], ()):
                    if reader.op_type in PRODUCTS:
                        yield reader, node.outputs[0], node.op_type == "Transpose"


def _output_axis(node: Node, place: int, rank: int) -> int | None:
    """The axis of output channels of the operand at `place`; None where it is no weight."""
    if node.op_type == "Conv":
        return 0 if place == 1 else None
    if node.op_type == "ConvTranspose":
        return 1 if place == 1 else None
    if place > 1 or len(node.inputs) < 2:
        return None
    if node.op_type == "Gemm":
        turned = node.integers.get("transB" if place == 1 else "transA", 0) != 0
        return (0 if turned else 1) if place == 1 else (1 if turned else 0)
    return rank - 1 if place == 1 else rank - 2


def _modules(scales: Scales) -> tuple[dict[str, dict[str, TensorScale]], list[str]]:
    """Grids by module and role, and the names that are of no quantizer."""
    modules: dict[str, dict[str, TensorScale]] = {}
    strange: list[str] = []
    for grid in scales.values():
        match = QUANTIZER.match(grid.name)
        if match is None:
            strange.append(grid.name)
        else:
            modules.setdefault(match[1], {})[match[2]] = grid
    return modules, strange


def _with_quantizers(scales: Scales, outline: Outline, digest: str) -> Scales:
    weights = _Weights(outline)
    modules, strange = _modules(scales)
    grids: dict[str, TensorScale] = {}
    layers: dict[str, tuple[str, ...]] = {}
    unbound, differing = [*strange], set[str]()
    for module, roles in modules.items():
        layer = weights.layer(module)
        if layer is None or not {"input", "weight"} <= roles.keys():
            unbound.append(module if layer is None else f"{module} (one of its two ranges lacks)")
            continue
        layers[layer.weight] = tuple(dict.fromkeys(layer.inputs))
        grids[layer.weight] = _weight_grid(roles["weight"], layer, outline)
        for name in layers[layer.weight]:
            grid = _scalar(roles["input"], name, module)
            if name in grids and grids[name].threshold != grid.threshold:
                differing.add(name)
                grid = max(grid, grids[name], key=lambda g: g.threshold or 0)
            grids[name] = grid
    if not layers:
        names = list(modules) or strange
        close = nearest(names[0] + ".weight", weights.names)
        raise _error(
            "the amax buffers bind no layer of the model: no weight belongs to "
            f"{_listed(names)}" + (f"; nearest: {close}" if close else ""),
            expected=_listed(weights.names),
            got=_listed(names),
            hint="<module>._input_quantizer._amax needs a weight named <module>.weight",
        )
    notes = [*scales.notes, f"{len(layers)} layers are bound, all others stay float"]
    if unbound:
        notes.append(f"{len(unbound)} modules are not bound: {_listed(unbound)}")
    if differing:
        notes.append(
            f"{len(differing)} tensors feed layers whose input ranges differ; the largest was "
            f"taken: {_listed(sorted(differing))}"
        )
    order = {name: i for i, name in enumerate([*outline.tensors(), *outline.initializers])}
    rows = sorted(grids.values(), key=lambda grid: order.get(grid.name, len(order)))
    return Scales(
        rows, kind=scales.kind, model_hash=digest, notes=notes, method="qat", layers=layers
    )


def _scalar(grid: TensorScale, name: str, module: str) -> TensorScale:
    if grid.scale.size != 1:
        raise _error(
            f"the input range of {module!r} has {grid.scale.size} numbers",
            expected="one: activations have one scale",
            got=str(grid.scale.size),
        )
    note = f"input of {module}" + (f" ({grid.note})" if grid.note else "")
    return replace(grid, name=name, axis=None, note=note)


def _weight_grid(grid: TensorScale, layer: _Layer, outline: Outline) -> TensorScale:
    dims = outline.initializers[layer.weight].dims or ()
    axis = layer.axis if grid.scale.size > 1 else None
    if axis is not None and dims[axis] != grid.scale.size:
        raise _error(
            f"{grid.name!r} has {grid.scale.size} ranges, the weight {layer.weight!r} has "
            f"{dims[axis]} output channels",
            expected=str(dims[axis]),
            got=str(grid.scale.size),
        )
    return replace(grid, name=layer.weight, axis=axis)
