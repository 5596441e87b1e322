"""`planck.smooth`: moves outliers of activations into weights before a model is quantised.

y = x W = (x / s) (s W) for any s above 0, one for each channel of x. With s large where |x| is
large, x / s fits a grid of 256 steps far better, and W, which has a scale for each of its columns,
hardly suffers. Source: G. Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training
Quantization for Large Language Models", ICML 2023; s_j = max|x_j|^a / max|w_j|^(1-a).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from planck import _core
from planck.arguments import names_in
from planck.data import Batches, expect_data
from planck.onnx_editor import loaded
from planck.quantization import Writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Alpha = float | Literal["search"]
Groups = Literal["norms", "all"]

SEARCHED = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
ROWS = 512  # of each activation, on which alphas are compared
SPREAD = 1e5  # between the least and the greatest s of a tensor


@dataclass(slots=True)
class _Product:
    """A MatMul or Gemm: its node, the initializer behind its weight, and the axis of its sums."""

    at: int
    weight: str
    reader: tuple[int, int]  # who reads the initializer: a node and its input
    values: Array
    axis: int

    def by_channel(self) -> Array:
        """The weight with the channels of the input as rows."""
        return self.values if self.axis == 0 else self.values.T


@dataclass(slots=True)
class _Seen:
    """What was seen of an activation: largest |x| of each channel, and some rows."""

    largest: Array
    rows: Array


def smooth(
    model: Any,
    data: Any,
    *,
    alpha: Alpha = "search",
    groups: Groups = "norms",
    exclude: Sequence[str] = (),
) -> Any:
    """Returns the float model with the outliers of its activations moved into its weights.

    The result is an onnx.ModelProto that computes the same up to rounding; calibrate and quantise
    it in place of the model. model: a path, bytes, or an onnx.ModelProto, which stays as it is.
    data: what `planck.calibrate` takes; a few dozen samples are enough.
    alpha: how much of a channel's range moves, 0 to 1; "search" takes, for each activation, the one
    of 0.5, 0.55 .. 0.95, or none, that has the least squared error of what the products give in
    int8. groups: "norms" smooths what a layer normalisation gives, "all" every input of a product.
    Where nobody else reads a normalisation's result, its gain and bias are divided by s; elsewhere
    a Mul by 1/s is inserted before the products. Convolutions are left alone. exclude: names or
    patterns of products that are to stay out.

    Errors: UsageError (an option), CalibrationError (no data), PrecisionError (a model without
    products), those of `planck.build`; ImportError without the package onnx.

    >>> import tempfile, pathlib, planck.models
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
    >>> planck.models.write("bert_encoder", path, size="mini")
    >>> feeds = [planck.models.feeds("bert_encoder", (2, 5), size="mini")]
    >>> smoothed = smooth(path, feeds, alpha=0.5)
    >>> plan = planck.build(smoothed.SerializeToString())
    >>> plan.run(feeds[0])["last_hidden_state"].shape
    (2, 5, 64)
    """
    if alpha != "search" and not (isinstance(alpha, (int, float)) and 0 <= alpha <= 1):
        raise _core.UsageError(f"alpha is {alpha!r}; expected 'search' or a number from 0 to 1")
    if groups not in ("norms", "all"):
        raise _core.UsageError(f"groups is {groups!r}; expected 'norms' or 'all'")
    expect_data(data)
    proto = loaded(model, "planck.smooth")
    placement = {
        "recipe": "dynamic",
        "weight_method": "max",
        "exclude": names_in("exclude", exclude),
    }
    rows = _core.place_bytes(proto.SerializeToString(), {"placement": placement})
    smoother = _Smoother(proto, rows)
    products = smoother.products(groups)
    for name, seen in _observed(proto, products, data).items():
        s = _factors(seen, products[name], alpha)
        if s is not None:
            smoother.apply(name, products[name], s)
    return smoother.finish(smoother.replaced)


class _Smoother(Writer):
    """Divides activations and multiplies weights in a model."""

    def __init__(self, proto: Any, rows: Mapping[str, Any]) -> None:
        super().__init__(proto, rows)
        self.replaced: set[str] = set()  # constants that are not read any more

    def products(self, groups: Groups) -> dict[str, list[_Product]]:
        """The products that read an activation, by its name, in the order of the model."""
        makers = self.makers()
        out: dict[str, list[_Product]] = {}
        for at in sorted(self.index[source] for source in self.rows["quantised"]):
            data = self.graph.node[at].input[0]
            if groups == "norms" and self.norm_of(data, makers) is None:
                continue
            row, reader = self.weight_behind(at, makers)
            values = self.values(row["name"])
            if values is None or values.ndim != 2:
                continue
            axis = 1 - row["axis"]
            out.setdefault(data, []).append(_Product(at, row["name"], reader, values, axis))
        return out

    def norm_of(self, name: str, makers: Mapping[str, int]) -> list[tuple[int, int]] | None:
        """Gain and bias of the normalisation that gives the tensor, as inputs of nodes."""
        if name not in makers:
            return None
        at = makers[name]
        node = self.graph.node[at]
        if node.op_type == "LayerNormalization" and node.output[0] == name:
            parts = [(at, i) for i in range(1, len(node.input)) if node.input[i]]
            return parts if all(self.is_row(node.input[i]) for _, i in parts) else None
        found: list[tuple[int, int]] = []
        for op in ("Add", "Mul"):
            if node.op_type != op:
                if op == "Mul":
                    return None
                continue
            constant = [i for i, x in enumerate(node.input) if self.is_row(x)]
            if len(constant) != 1 or len(node.input) != 2:
                return None
            found.append((at, constant[0]))
            rest = node.input[1 - constant[0]]
            if op == "Add" and rest not in makers:
                return None
            at = makers.get(rest, -1)
            node = self.graph.node[at]
        # What gain is multiplied with has been divided by a root, or is the result of such a step.
        return found if at >= 0 and self.is_normalised(node, makers) else None

    def is_row(self, name: str) -> bool:
        values = self.values(name)
        return values is not None and values.ndim >= 1 and values.size == values.shape[-1] > 1

    def is_normalised(self, node: Any, makers: Mapping[str, int]) -> bool:
        if node.op_type == "Cast" and node.input[0] in makers:
            node = self.graph.node[makers[node.input[0]]]
        if node.op_type not in ("Div", "Mul"):
            return False
        behind = [self.graph.node[makers[x]].op_type for x in node.input if x in makers]
        return any(op in ("Sqrt", "Reciprocal", "Pow") for op in behind)

    # --- changes ---
    def apply(self, name: str, products: list[_Product], s: Array) -> None:
        readers = self.readers()
        places = {(product.at, 0) for product in products}
        norm = self.norm_of(name, self.makers())
        if norm is not None and set(readers[name]) <= places and self.is_private(norm, readers):
            for at, i in norm:
                self.replace_constant(at, i, lambda values: values / s)
        else:
            self.insert_factor(name, products, s)
        done: dict[tuple[int, int], bool] = {}
        for product in products:
            if not done.setdefault(product.reader, False):
                done[product.reader] = True
                factor = s[:, None] if product.axis == 0 else s[None, :]
                self.replace_constant(*product.reader, lambda values, f=factor: values * f)

    def is_private(self, norm: list[tuple[int, int]], readers: Mapping[str, Any]) -> bool:
        """Whether what the gain gives is read by the bias alone."""
        if len(norm) < 2 or norm[0][0] == norm[1][0]:
            return True
        return len(readers[self.graph.node[norm[1][0]].output[0]]) == 1

    def insert_factor(self, name: str, products: list[_Product], s: Array) -> None:
        import numpy as np

        inverse = self.constant(f"{name}_smoothing", (1 / s).astype(np.float32))
        smoothed = self.insert(products[0].at, "Mul", [name, inverse], f"{name}_smoothed")
        for product in products:
            self.graph.node[product.at].input[0] = smoothed

    def replace_constant(self, at: int, i: int, change: Any) -> None:
        """Gives one input of one node a constant of its own."""
        node = self.graph.node[at]
        values = self.values(node.input[i])
        assert values is not None
        changed = change(values).astype(values.dtype)
        self.replaced.add(node.input[i])
        node.input[i] = self.constant(f"{node.input[i]}_smoothed", changed)


# --- observation ------------------------------------------------------------------------------


def _observed(
    proto: Any, products: Mapping[str, Sequence[_Product]], data: Any
) -> dict[str, _Seen]:
    """Largest |x| and some rows of each activation over all samples."""
    import numpy as np

    from planck.build import build

    plan = build(proto.SerializeToString())
    stream = np.random.Generator(np.random.PCG64(0))
    largest: dict[str, Array] = {}
    rows: dict[str, list[Array]] = {name: [] for name in products}
    for feeds in Batches(data, plan.inputs):
        for name, value in plan.taps(feeds, list(products)).items():
            x = value.reshape(-1, value.shape[-1])
            top = np.abs(x).max(axis=0, initial=0.0)
            largest[name] = np.maximum(largest[name], top) if name in largest else top
            rows[name].append(x[stream.permutation(len(x))[: ROWS // 4]])
    if products and not largest:
        raise _core.CalibrationError("the data have no samples; expected at least one")
    out: dict[str, _Seen] = {}
    for name, top in largest.items():
        x = np.concatenate(rows[name])
        out[name] = _Seen(top, x[stream.permutation(len(x))[:ROWS]])
    return out


# --- choice -----------------------------------------------------------------------------------


def _factors(seen: _Seen, products: Sequence[_Product], alpha: Alpha) -> Array | None:
    """s of each channel; None where the search finds nothing better than leaving x as it is."""
    import numpy as np

    weights = [product.by_channel().astype(np.float64) for product in products]
    top = np.max([np.abs(w).max(axis=1) for w in weights], axis=0)
    if alpha != "search":
        return _spread(seen.largest, top, alpha)
    best, least = None, _error(seen, weights, np.ones_like(top))
    for candidate in SEARCHED:
        s = _spread(seen.largest, top, candidate)
        error = _error(seen, weights, s)
        if error < least:
            best, least = s, error
    return best


def _spread(largest: Array, top: Array, alpha: float) -> Array:
    """The formula of the paper; 1 for channels that are dead on either side; mean of logs 0."""
    import numpy as np

    alive = (largest > 0) & (top > 0)
    s = np.ones_like(top)
    s[alive] = largest[alive].astype(np.float64) ** alpha / top[alive] ** (1 - alpha)
    if alive.any():
        s[alive] /= np.exp(np.log(s[alive]).mean())
    s[~alive] = 1.0
    result: Array = np.clip(s, SPREAD**-0.5, SPREAD**0.5).astype(np.float32)
    return result


def _error(seen: _Seen, weights: Sequence[Array], s: Array) -> float:
    """Squared error of the products in int8, each as a part of what it gives, summed."""
    import numpy as np

    x = seen.rows.astype(np.float64)
    low, high = np.min(x / s, initial=0.0), np.max(x / s, initial=0.0)
    step = max((high - low) / 255, 1e-30)
    rounded = np.rint(x / s / step) * step
    total = 0.0
    for w in weights:
        scaled = w * s[:, None]
        steps = np.maximum(np.abs(scaled).max(axis=0) / 127, 1e-30)
        y = x @ w
        error = rounded @ (np.rint(scaled / steps) * steps) - y
        total += float((error**2).sum() / max(float((y**2).sum()), 1e-30))
    return total
