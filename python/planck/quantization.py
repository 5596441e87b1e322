"""`planck.quantize`: a float ONNX model and scales become a quantised ONNX model.

Which tensors are quantised is decided by one piece of code for this function and for
`planck.build(precision="int8")`, so that both give the same plan.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from planck import _core
from planck.arguments import by_name, model_of, names_in, wrong
from planck.calibration import Calibration, Scales, TensorScale, model_hash
from planck.onnx_editor import FLOAT32, Editor, copied, loaded
from planck.opset import entry_of, raised

if TYPE_CHECKING:  # `import planck` is quick: NumPy and onnx come with their first use
    from numpy.typing import NDArray

    from planck.plots import PlacementPlots

    Array = NDArray[Any]

Recipe = Literal["auto", "transformer", "cnn", "all", "dynamic"]
Weights = Literal["per_channel", "per_tensor"]
WeightMethod = Literal["mse", "max"]
ScalesLike = Scales | Calibration | Mapping[str, TensorScale] | str | os.PathLike[str]

AXIS_OPSET = 13  # from here on DequantizeLinear knows scales along an axis
FIRST_OPSET = 10  # has QuantizeLinear at all
DYNAMIC_OPSET = 11  # has DynamicQuantizeLinear


class PlacementOptions(TypedDict, total=False):
    """What `planck.quantize` takes besides model and scales, for `planck.build(placement=)`."""

    recipe: Recipe
    weights: Weights
    weight_method: WeightMethod
    include: Sequence[str]
    exclude: Sequence[str]
    depthwise: bool


@dataclass(frozen=True, slots=True)
class KeptFloat:
    """A product or convolution that stays float, and why."""

    node: str
    op_type: str
    reason: str


@dataclass(frozen=True, slots=True)
class Placement:
    """What a recipe quantises: activations and weights by tensor name, the ops by node name.

    recipe: as it was chosen, never "auto". kept: every product and convolution that stays float.
    quantised: names of those that do not.
    As text it is a line for each of them.
    """

    recipe: str
    activations: tuple[TensorScale, ...]
    weights: tuple[TensorScale, ...]
    kept: tuple[KeptFloat, ...]
    quantised: tuple[str, ...] = ()

    def __str__(self) -> str:
        """How much is quantised, and a line for each op that stays float."""
        lines = [
            f"recipe {self.recipe}: {len(self.quantised)} products and convolutions on integers, "
            f"{len(self.activations)} activations and {len(self.weights)} weights on grids; "
            f"{len(self.kept)} products and convolutions stay float"
        ]
        lines += [f"  {kept.node} ({kept.op_type}): {kept.reason}" for kept in self.kept]
        return "\n".join(lines)

    @property
    def plot(self) -> PlacementPlots:
        """Pictures of the grids; they need matplotlib."""
        from planck.plots import PlacementPlots

        return PlacementPlots(self)


def quantize(
    model: Any,
    scales: ScalesLike | None,
    *,
    recipe: Recipe = "auto",
    weights: Weights = "per_channel",
    weight_method: WeightMethod = "mse",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    depthwise: bool = False,
) -> Any:
    """Returns the model with QuantizeLinear and DequantizeLinear where int8 is to run.

    model: path of an ONNX file, its bytes, or an onnx.ModelProto, which stays as it is. scales:
    planck.Scales, TensorScale by tensor name, a planck.Calibration (solved by its own method), or
    the path of a scale file; None for the recipe "dynamic". The result is an onnx.ModelProto: int8
    initializers with DequantizeLinear, a QuantizeLinear and DequantizeLinear pair for each
    activation.
    recipe: "transformer" quantises the inputs of products and convolutions and nothing else; "cnn"
    also the skip input of a sum that a convolution feeds; "auto" is one of the two; "all" is "cnn"
    and keeps nothing in float that int8 could run; "dynamic" finds the grids of activations in
    each run (DynamicQuantizeLinear, MatMulInteger). All but "all" keep in float: logits and heads,
    the first convolution, products with one row or column, convolutions of few channels, depthwise
    ones unless `depthwise`. `placement` tells what stays float and why.
    weights: a scale for each output channel, or one for the tensor (models of opset 10 to 12 need
    no conversion then). weight_method: "mse" has the least squared error, "max" saturates nothing.
    include, exclude: node names or patterns with * and ?; `exclude` wins.
    A model of opset below 13 is converted to 13 where scales lie along an axis.

    Errors: UsageError (an option; a pattern that matches no node; a model that is quantised
    already), CalibrationError (scales that cover nothing; a scale that does not fit its weight),
    PrecisionError (nothing that int8 could run), those of `planck.build` for the model; ImportError
    without the package onnx.

    >>> import tempfile, pathlib, planck.models
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
    >>> planck.models.write("bert_encoder", path, size="mini")
    >>> names = planck.build(path).tensors
    >>> quantised = quantize(path, Scales.from_ranges({name: 4.0 for name in names}))
    >>> sum(node.op_type == "QuantizeLinear" for node in quantised.graph.node) > 0
    True
    """
    options = _options(recipe, weights, weight_method, include, exclude, depthwise, scales, model)
    proto = loaded(model, "planck.quantize")
    per_axis = weights == "per_channel" or recipe == "dynamic"
    oldest = AXIS_OPSET if per_axis else FIRST_OPSET
    proto = raised(proto, max(oldest, DYNAMIC_OPSET if recipe == "dynamic" else 0))
    rows = _core.place_bytes(proto.SerializeToString(), options)
    if any(row["axis"] >= 0 for row in rows["weights"]) and entry_of(proto).version < AXIS_OPSET:
        proto = raised(proto, AXIS_OPSET)  # scales of weights were given along an axis
        rows = _core.place_bytes(proto.SerializeToString(), options)
    writer = Writer(proto, rows)
    return writer.dynamic() if recipe == "dynamic" else writer.static()


def placement(
    model: Any,
    scales: ScalesLike | None,
    *,
    recipe: Recipe = "auto",
    weights: Weights = "per_channel",
    weight_method: WeightMethod = "mse",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    depthwise: bool = False,
) -> Placement:
    """What `quantize` would quantise with the same arguments, without doing it.

    model: a path or bytes, or an onnx.ModelProto. Errors: as for `quantize`.
    """
    given = model_of(model)
    options = _options(recipe, weights, weight_method, include, exclude, depthwise, scales, given)
    if isinstance(given, bytes):
        rows = _core.place_bytes(given, options)
    else:
        rows = _core.place_file(given, options)
    return Placement(
        rows["recipe"],
        tuple(_scale_of(row) for row in rows["activations"]),
        tuple(_scale_of(row) for row in rows["weights"]),
        tuple(KeptFloat(*row) for row in rows["kept"]),
        tuple(rows["quantised_names"]),
    )


def as_scales(scales: ScalesLike, model: Any = None) -> Mapping[str, TensorScale]:
    """Scales of any spelling by tensor name; a scale file is bound to the tensors of `model`.

    A calibration is solved by its own method. Scales of another model file are warned of.
    Errors: UsageError; those of `planck.import_scales` and of `Calibration.solve`.
    """
    if isinstance(scales, Calibration):
        scales = scales.solve()
    if isinstance(scales, (str, os.PathLike)):
        from planck.scale_files import import_scales

        return import_scales(scales, model=model)
    if _are_of_another(scales, model):
        logging.getLogger("planck").warning(
            "the scales were made for another model file, or for another export of it; scales "
            "from before planck.smooth do not fit the model after it"
        )
    if isinstance(scales, Mapping):
        for name, scale in by_name("scales", scales, "planck.TensorScale").items():
            if not isinstance(scale, TensorScale):
                raise _core.UsageError(
                    f"scales[{name!r}] is {type(scale).__name__}; expected planck.TensorScale"
                )
        return scales
    raise wrong(
        f"scales is {type(scales).__name__}; expected planck.Scales, a planck.Calibration or a path"
    )


def _are_of_another(scales: ScalesLike, model: Any) -> bool:
    """Whether the scales say that they belong to another model file."""
    if model is None or not isinstance(scales, Scales) or not scales.model_hash:
        return False
    return scales.model_hash != model_hash(model_of(model))


def core_scales(scales: Mapping[str, TensorScale]) -> dict[str, tuple[Any, ...]]:
    """The same as the core takes them."""
    return {
        name: (
            [float(s) for s in scale.scale],
            [int(z) for z in scale.zero_point],
            scale.dtype,
            -1 if scale.axis is None else scale.axis,
        )
        for name, scale in scales.items()
    }


def core_placement(options: PlacementOptions, scales: object) -> dict[str, Any]:
    """Options of placement as the core takes them; its errors name those that do not exist."""
    out = by_name("placement", options, "options of planck.quantize")
    for name in ("include", "exclude"):
        out[name] = names_in(name, out.get(name, ()))
    out["bound"] = set(getattr(scales, "layers", ()))
    return out


def _options(
    recipe: Recipe,
    weights: Weights,
    weight_method: WeightMethod,
    include: Sequence[str],
    exclude: Sequence[str],
    depthwise: bool,
    scales: ScalesLike | None,
    model: Any,
) -> dict[str, Any]:
    if scales is None and recipe != "dynamic":
        raise wrong(
            f"the recipe {recipe!r} needs scales",
            hint='planck.calibrate(model, data).solve() gives them; recipe="dynamic" needs none',
        )
    if scales is not None and recipe == "dynamic":
        raise wrong(
            "the recipe 'dynamic' takes no scales: grids are found in each run",
            hint="give None in their place",
        )
    read = {} if scales is None else as_scales(scales, model)
    placed = PlacementOptions(
        recipe=recipe,
        weights=weights,
        weight_method=weight_method,
        include=include,
        exclude=exclude,
        depthwise=depthwise,
    )
    return {"scales": core_scales(read), "placement": core_placement(placed, read)}


def _scale_of(row: Mapping[str, Any]) -> TensorScale:
    import numpy as np

    axis = None if row["axis"] < 0 else row["axis"]
    scale = np.asarray(row["scale"], np.float32)
    return TensorScale(row["name"], scale, np.asarray(row["zero_point"]), row["dtype"], axis)


class Writer(Editor):
    """Writes the decisions of the core into a model."""

    def __init__(self, proto: Any, rows: Mapping[str, Any]) -> None:
        super().__init__(proto, rows["sources"])
        self.rows = rows

    def grid(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """Names of the scale and of the zero point."""
        import numpy as np

        shape = () if row["axis"] < 0 else (-1,)
        scale = np.asarray(row["scale"], np.float32).reshape(shape)
        dtype = np.uint8 if row["dtype"] == "u8" else np.int8
        zero = np.asarray(row["zero_point"]).astype(dtype).reshape(shape)
        name = row["name"]
        return self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero_point", zero)

    def readers_of(self, row: Mapping[str, Any]) -> list[int]:
        """Indices of the nodes that are to read the tensor of a row in its new form."""
        return sorted({self.index[source] for source, _ in row["uses"]})

    def tensors_of(self, row: Mapping[str, Any]) -> dict[str, list[tuple[int, int]]]:
        """What holds the numbers of a row, and who is to read it in its new form: nodes, inputs.

        One tensor, and others that are the same numbers after a Cast.
        """
        out: dict[str, list[tuple[int, int]]] = {}
        for source, place in sorted(row["uses"]):
            at = self.index[source]
            read = list(self.graph.node[at].input)
            places = [i for i, name in enumerate(read) if name == row["name"]] or [place]
            out.setdefault(read[places[0]], []).extend((at, i) for i in places)
        return out

    def wide(self, at: int, name: str) -> str:
        """The tensor as float32."""
        if name not in self.rows["halves"]:
            return name
        return self.insert(at, "Cast", [name], f"{name}_Cast", to=FLOAT32)

    def as_before(self, at: int, name: str, wide: str) -> str:
        """The float32 tensor in the type of the model's tensor `name`."""
        to = self.rows["halves"].get(name)
        if to is None:
            return wide
        return self.insert(at, "Cast", [wide], f"{name}_DequantizeLinear_Cast", to=to)

    def weights(self) -> set[str]:
        """Names of the float weights that are replaced."""
        return {row["name"] for row in self.rows["weights"]}

    def redirect(self, row: Mapping[str, Any], to: str) -> None:
        """Makes the readers of a row read another tensor."""
        for at in self.readers_of(row):
            node = self.graph.node[at]
            if row["name"] not in node.input:
                raise _core.UnsupportedError(
                    f"node {node.name!r} ({node.op_type}) reads {row['name']!r} by another name"
                )
            for i, name in enumerate(node.input):
                if name == row["name"]:
                    node.input[i] = to

    # --- the two kinds of models ---
    def static(self) -> Any:
        """QuantizeLinear and DequantizeLinear with the scales of the rows."""
        for row in self.rows["activations"]:
            scale, zero = self.grid(row)
            for name, readers in self.tensors_of(row).items():
                at = min(readers)[0]
                x = [self.wide(at, name), scale, zero]
                q = self.insert(at, "QuantizeLinear", x, f"{name}_QuantizeLinear")
                back = f"{name}_DequantizeLinear"
                y = self.insert(at, "DequantizeLinear", [q, scale, zero], back)
                y = self.as_before(at, name, y)
                for reader, place in readers:
                    self.graph.node[reader].input[place] = y
        for row in self.rows["weights"]:
            self.redirect(row, self.dequantised(row))
        return self.finish(self.weights())

    def dequantised(self, row: Mapping[str, Any]) -> str:
        """The name of a weight made of its integers."""
        at, name = self.readers_of(row)[0], row["name"]
        q = self.constant(f"{name}_quantized", row["values"])
        axis = {} if row["axis"] < 0 else {"axis": row["axis"]}
        inputs = [q, *self.grid(row)]
        wide = self.insert(at, "DequantizeLinear", inputs, f"{name}_DequantizeLinear", **axis)
        return self.as_before(at, name, wide)

    def dynamic(self) -> Any:
        """DynamicQuantizeLinear and MatMulInteger."""
        makers = self.makers()
        grids: dict[str, list[str]] = {}  # of an activation: its integers, scale, zero point
        integers: set[str] = set()  # weights
        done: set[int] = set()
        ops = sorted(self.index[source] for source in self.rows["quantised"])
        rows = {at: self.weight_of(at, makers) for at in ops}
        for at in ops:
            data = self.graph.node[at].input[0]
            if data not in grids:
                grids[data] = self.observed(at, data)
            row = rows[at]
            if id(row) not in done:
                done.add(id(row))
                integers.add(self.constant(f"{row['name']}_quantized", row["values"]))
                self.redirect(row, self.graph.initializer[-1].name)
            self.integer_product(at, grids[data], row)
        stale = {name for name in makers if self.is_view_of_integers(name, makers, integers)}
        stay = [copied(v) for v in self.graph.value_info if v.name not in stale]
        del self.graph.value_info[:]
        self.graph.value_info.extend(stay)
        return self.finish(self.weights(), drop=ops)

    def weight_of(self, at: int, makers: Mapping[str, int]) -> Mapping[str, Any]:
        """The row of the weight that node `at` multiplies with, perhaps through views."""
        return self.weight_behind(at, makers)[0]

    def weight_behind(
        self, at: int, makers: Mapping[str, int]
    ) -> tuple[Mapping[str, Any], tuple[int, int]]:
        """The same, and who reads it: a node and its input."""
        place = 1
        while True:
            name = self.graph.node[at].input[place]
            for row in self.rows["weights"]:
                if row["name"] == name and at in self.readers_of(row):
                    return row, (at, place)
            at, place = makers[name], 0

    def is_view_of_integers(self, name: str, makers: Mapping[str, int], integers: set[str]) -> bool:
        """Whether the tensor was made of a weight that is integers now."""
        while name in makers and self.graph.node[makers[name]].input:
            name = self.graph.node[makers[name]].input[0]
        return name in integers

    def observed(self, at: int, data: str) -> list[str]:
        """Names of the integers, scale and zero point of an activation."""
        from onnx import helper

        name = self.fresh(f"{data}_DynamicQuantizeLinear")
        outputs = [self.fresh(f"{data}_{part}") for part in ("quantized", "scale", "zero_point")]
        node = helper.make_node("DynamicQuantizeLinear", [self.wide(at, data)], outputs, name)
        self.before.setdefault(at, []).append(node)
        return outputs

    def integer_product(self, at: int, grid: list[str], row: Mapping[str, Any]) -> None:
        """y = (a_q - a_zero) w_q * (a_scale * w_scale) [+ c] in place of a MatMul or Gemm."""
        import numpy as np
        from onnx import helper

        node = self.graph.node[at]
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        label, weight = node.name or node.output[0], node.input[1]
        if options.get("transB", 0):
            weight = self.insert(at, "Transpose", [weight], f"{label}_Transpose", perm=[1, 0])
        product = self.insert(
            at, "MatMulInteger", [grid[0], weight, grid[2]], f"{label}_MatMulInteger"
        )
        real = self.insert(at, "Cast", [product], f"{label}_Cast", to=1)
        steps = np.asarray(row["scale"], np.float32) * np.float32(options.get("alpha", 1.0))
        step = self.constant(
            f"{row['name']}_scale", steps if row["axis"] >= 0 else steps.reshape(())
        )
        scale = self.insert(at, "Mul", [grid[1], step], f"{label}_scale")
        y = self.insert(at, "Mul", [real, scale], f"{label}_Mul")
        y = self.as_before(at, node.input[0], y)
        if len(node.input) > 2 and node.input[2]:
            bias, beta = node.input[2], options.get("beta", 1.0)
            if beta != 1.0:
                factor = self.constant(f"{label}_beta", np.asarray(beta, np.float32))
                factor = self.as_before(at, node.input[0], factor)
                bias = self.insert(at, "Mul", [bias, factor], f"{label}_bias")
            y = self.insert(at, "Add", [y, bias], f"{label}_Add")
        self.before[at][-1].output[0] = node.output[0]
