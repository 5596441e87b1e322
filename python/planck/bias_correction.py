"""`planck.correct_bias`: takes the mean error of each quantised layer out of its bias.

Rounding weights shifts what a layer gives by an amount that is the same for all inputs, to first
order, and so can be taken back for nothing: b += E[y_float - y_int8], channel by channel and layer
after layer, as each correction changes what the next layer sees. Source: M. Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from planck import _core
from planck.arguments import wrong
from planck.data import Batches, expect_data
from planck.onnx_editor import Editor, loaded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LAYERS = ("MatMul", "Gemm", "Conv")


def correct_bias(quantised: Any, model: Any, data: Any) -> Any:
    """Returns the quantised model with biases under which its layers err by nothing on average.

    quantised: what `planck.quantize` made of `model`, an onnx.ModelProto, path or bytes; it stays
    as it is, and the result is an onnx.ModelProto. model: the float one. data: what
    `planck.calibrate` takes; all of it is kept in memory and run once for each layer in a row.
    Layers without a bias get one. Means are over all places of a tensor, padding included.

    Errors: CalibrationError (no data), UsageError (the two models do not belong together, or
    nothing is quantised), those of `planck.build`; ImportError without the package onnx.

    >>> import tempfile, pathlib, planck, planck.models
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "bert.onnx"
    >>> planck.models.write("bert_encoder", path, size="mini")
    >>> feeds = [planck.models.feeds("bert_encoder", (2, 5), size="mini")]
    >>> scales = planck.Scales.from_ranges({name: 4.0 for name in planck.build(path).tensors})
    >>> corrected = correct_bias(planck.quantize(path, scales), path, feeds)
    >>> planck.build(corrected.SerializeToString(), precision="int8").run(feeds[0]).keys()
    dict_keys(['last_hidden_state', 'pooler_output'])
    """
    from planck.build import build

    expect_data(data)
    proto = loaded(quantised, "planck.correct_bias")
    original = loaded(model, "planck.correct_bias")
    stages = _stages(proto.graph)
    if not stages:
        raise wrong(
            "the model has no quantised product or convolution",
            hint="correct_bias(quantised, model, data): planck.quantize gives the first",
        )
    names = [name for stage in stages for name in stage]
    plan = build(original.SerializeToString())
    batches = list(Batches(data, plan.inputs))
    if not batches:
        raise _core.CalibrationError("the data have no samples; expected at least one")
    missing = [name for name in names if name not in plan.tensors]
    if missing:
        raise _core.UsageError(
            f"the float model has no tensor {missing[0]!r}; expected the model that was quantised"
        )
    want = _means(plan, batches, stages)
    for stage in stages:
        got = _means(build(proto.SerializeToString(), precision="int8"), batches, [stage])
        proto = _corrected(proto, {name: want[name] - got[name] for name in stage})
    return proto


def _stages(graph: Any) -> list[dict[str, int]]:
    """Outputs of quantised layers and their channel axes, by how many layers lie before them."""
    made_by = {name: node for node in graph.node for name in node.output}
    depths: dict[str, int] = {}
    stages: dict[int, dict[str, int]] = {}
    for node in graph.node:
        depth = max((depths.get(name, 0) for name in node.input), default=0)
        if node.op_type in LAYERS and _is_quantised(node, made_by):
            stages.setdefault(depth, {})[node.output[0]] = 1 if node.op_type == "Conv" else -1
            depth += 1
        depths.update(dict.fromkeys(node.output, depth))
    return [stages[depth] for depth in sorted(stages)]


def _is_quantised(node: Any, made_by: Mapping[str, Any]) -> bool:
    for name in node.input[:2]:
        maker = made_by.get(name)
        while maker is not None and maker.op_type in ("Transpose", "Reshape", "Identity"):
            maker = made_by.get(maker.input[0])
        if maker is None or maker.op_type != "DequantizeLinear":
            return False
    return True


def _means(
    plan: Any, batches: Sequence[Mapping[str, Array]], stages: Sequence[Mapping[str, int]]
) -> dict[str, Array]:
    """The mean of each tensor by channel, float64[channels], over all batches."""
    import numpy as np

    axes = {name: axis for stage in stages for name, axis in stage.items()}
    sums: dict[str, Array] = {}
    counts = dict.fromkeys(axes, 0)
    for feeds in batches:
        for name, value in plan.taps(feeds, list(axes)).items():
            rows = np.moveaxis(value, axes[name], -1).reshape(-1, value.shape[axes[name]])
            total = rows.sum(axis=0, dtype=np.float64)
            sums[name] = sums[name] + total if name in sums else total
            counts[name] += len(rows)
    return {name: total / max(counts[name], 1) for name, total in sums.items()}


def _corrected(proto: Any, shifts: Mapping[str, Array]) -> Any:
    editor = Editor(proto)
    makers, readers = editor.makers(), editor.readers()
    replaced: set[str] = set()
    for name, shift in shifts.items():
        at = makers[name]
        node = editor.graph.node[at]
        if node.op_type == "MatMul":
            place = _bias_behind(editor, readers[name])
        else:
            while len(node.input) < 3:
                node.input.append("")
            place = (at, 2)
        if place is None:
            _add(editor, at, shift)
            continue
        reader, i = place
        old = editor.graph.node[reader].input[i]
        values = editor.values(old) if old else None
        if old and values is None:  # a bias that is computed: what is missing comes after the layer
            _add(editor, at, shift)
            continue
        new = _shifted(node, values, shift)
        if old:
            replaced.add(old)
        editor.graph.node[reader].input[i] = editor.constant(f"{old or name}_corrected", new)
    return editor.finish(replaced)


def _shifted(node: Any, values: Array | None, shift: Array) -> Array:
    """The bias with the shift in it; a Gemm multiplies its bias by beta."""
    import numpy as np

    beta = next((a.f for a in node.attribute if a.name == "beta"), 1.0)
    part = shift / beta if node.op_type == "Gemm" else shift
    old = 0.0 if values is None else values.astype(np.float64)
    new: Array = np.asarray(old + part, np.float32)
    return new


def _bias_behind(editor: Editor, readers: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The constant that is added to a product, if that is all that reads the product."""
    if len(readers) != 1 or readers[0][0] < 0:
        return None
    at, i = readers[0]
    node = editor.graph.node[at]
    if node.op_type != "Add":
        return None
    values = editor.values(node.input[1 - i])
    row = values is not None and values.ndim >= 1 and values.size == values.shape[-1] > 1
    return (at, 1 - i) if row else None


def _add(editor: Editor, at: int, shift: Array) -> None:
    """Adds the shift right after node `at`; the sum takes the name of the node's result."""
    import numpy as np

    node = editor.graph.node[at]
    name = node.output[0]
    values = shift.astype(np.float32)
    if node.op_type == "Conv":
        values = values.reshape(-1, *[1] * (len(_kernel(editor, node)) or 2))
    node.output[0] = editor.fresh(f"{name}_uncorrected")
    constant = editor.constant(f"{name}_correction", values)
    editor.insert(at + 1, "Add", [node.output[0], constant], f"{name}_corrected")
    editor.before[at + 1][-1].output[0] = name


def _kernel(editor: Editor, node: Any) -> Sequence[int]:
    found: Sequence[int] = next((a.ints for a in node.attribute if a.name == "kernel_shape"), ())
    return found
