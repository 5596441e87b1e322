"""DAB-DETR: the raw graph's counts, its growth by picture, its bytes, values in ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planck import models

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

MINI = (1, 128, 160)
PER_PICTURE = 93  # nodes that a trace has for one more picture
# All ops of the published export but Gemm: no Linear here has two dimensions.
CENSUS = Counter(
    Constant=1479, Unsqueeze=507, Add=428, Concat=276, Shape=276, Mul=260, Reshape=259,
    MatMul=225, Gather=201, Slice=161, Div=153, Transpose=97, Relu=86, Range=84, Cast=80,
    ReduceMean=72, Where=70, ConstantOfShape=63, Pow=62, Sub=60, Expand=59, Equal=58, Conv=54,
    Sqrt=36, Cos=26, Sin=26, ScatterND=19, ReduceSum=18, Softmax=18, ReduceMax=15, Clip=14,
    Sigmoid=14, PRelu=12, Log=7, Max=7, Min=7, Split=4, Squeeze=4, Identity=3, CumSum=2, Pad=2,
    Flatten=1, MaxPool=1, Not=1, Resize=1, Tile=1,
)  # fmt: skip


def run(path: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def relative_gap(got: Any, want: Any) -> float:
    return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))


def test_raw_census() -> None:
    graph = models.build("dab_detr")
    census = graph.census()
    assert census == CENSUS
    expected = {"ScatterND": 19, "Conv": 54, "Softmax": 18, "PRelu": 12, "Resize": 1, "Pad": 2}
    assert {op: census[op] for op in expected} == expected
    assert census["ReduceMean"] / 2 == census["Sqrt"] == 36  # LayerNorm
    assert census["ReduceMax"] == 3 + 12  # sizes, and the softmax of the decoder
    assert census["ReduceSum"] == 18  # dead: the mean over heads


def test_parameters() -> None:
    graph = models.build("dab_detr")
    floats = sum(t.nbytes for t in graph.initializers if t.dtype == np.float32)
    assert 43.5e6 < floats / 4 < 44.5e6


def test_every_batchnorm_is_a_mul_and_an_add() -> None:
    nodes = models.build("dab_detr").nodes
    readers = {value: node for node in nodes for value in node.inputs}
    convs = [node for node in nodes if node.op == "Conv" and "/backbone.0/" in node.name]
    assert len(convs) == 53
    for node in convs:
        scaled = readers[node.outputs[0]]
        assert scaled.op == "Mul"
        assert readers[scaled.outputs[0]].op == "Add"


def test_mini_has_the_chains_of_full() -> None:
    def chain(size: models.Size, layers: tuple[str, ...]) -> list[tuple[str, str]]:
        nodes = models.build("dab_detr", size).nodes
        return [(n.op, n.name) for n in nodes if any(layer in n.name for layer in layers)]

    layers = ("encoder/layers.0/", "encoder/layers.1/", "decoder/layers.0/", "decoder/layers.1/")
    assert chain("mini", layers) == chain("full", layers)
    assert models.build("dab_detr", "mini").census()["ScatterND"] == 2 * 3 + 1


def test_pad_amounts_go_through_a_matrix() -> None:
    nodes = models.build("dab_detr").nodes
    writer = {value: node for node in nodes for value in node.outputs}
    for pad in (node for node in nodes if node.op == "Pad"):
        chain, node = [], writer[pad.inputs[1]]
        while len(chain) < 6:
            chain.append(node.op)
            node = writer[node.inputs[0]]
        assert chain == ["Cast", "Reshape", "Transpose", "Slice", "Reshape", "Concat"]


def test_last_layer_is_taken_by_index_minus_one() -> None:
    graph = models.build("dab_detr")
    writer = {value: node for node in graph.nodes for value in node.outputs}
    for output in graph.outputs:
        gather = writer[output.name]
        index = writer[gather.inputs[1]].attributes["value"]
        assert gather.op == "Gather"
        assert index == -1


def test_box_head_is_not_zero() -> None:
    graph = models.build("dab_detr", "mini")
    last = [t for t in graph.initializers if t.shape == (64, 4)]
    assert len(last) == 1
    assert 0.01 < last[0].make().std() < 0.03


def test_classes_are_rare_at_first() -> None:
    """As published: a relative error of a logit means something, since none is close to zero."""
    graph = models.build("dab_detr", "mini")
    [bias] = [t for t in graph.initializers if t.name.endswith("class_embed.bias")]
    assert bias.shape == (91,)
    np.testing.assert_array_equal(bias.make(), np.float32(-np.log(0.99 / 0.01)))


def test_dynamic_batch_grows_by_picture() -> None:
    one, two, five = (models.build("dab_detr", dynamic_batch=count).nodes for count in (1, 2, 5))
    assert len(two) - len(one) == PER_PICTURE
    assert len(five) - len(one) == 4 * PER_PICTURE
    static = models.build("dab_detr")
    assert [node.op for node in static.nodes] == [node.op for node in one]
    assert static.inputs[0].dims == (1, 3, 800, 800)
    ports = [*static.outputs, *models.build("dab_detr", dynamic_batch=2).outputs]
    assert [port.dims for port in ports] == [
        (1, 300, 91), (1, 300, 4), ("batch_size", 300, 91), ("batch_size", 300, 4),
    ]  # fmt: skip


def test_dynamic_batch_walks_over_pictures(tmp_path: Path) -> None:
    models.write("dab_detr", tmp_path / "one.onnx", "mini")
    models.write("dab_detr", tmp_path / "three.onnx", "mini", dynamic_batch=3)
    onnx.checker.check_model(onnx.load(tmp_path / "three.onnx"), full_check=True)
    feeds = models.feeds("dab_detr", (3, *MINI[1:]), size="mini")
    together = run(tmp_path / "three.onnx", feeds)
    for index in range(3):
        alone = run(tmp_path / "one.onnx", {"inputs": feeds["inputs"][index : index + 1]})
        for name, want in alone.items():
            assert relative_gap(together[name][index : index + 1], want) < 1e-5
    with pytest.raises(Exception, match="Split"):
        run(tmp_path / "three.onnx", models.feeds("dab_detr", (2, *MINI[1:]), size="mini"))


def test_layernorm_as_one_op() -> None:
    census = models.build("dab_detr", opset=17, layernorm="op").census()
    assert census["LayerNormalization"] == 36
    assert census["ReduceMean"] == 0


def test_names_are_unique() -> None:
    graph = models.build("dab_detr", "mini", dynamic_batch=2)
    nodes = [node.name for node in graph.nodes]
    values = [value for node in graph.nodes for value in node.outputs]
    values += [tensor.name for tensor in graph.initializers]
    assert len(set(nodes)) == len(nodes)
    assert len(set(values)) == len(values)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for index, seed in enumerate([5, 5, 6]):
        models.write("dab_detr", tmp_path / str(index), "mini", seed)
    first, again, other = ((tmp_path / str(i)).read_bytes() for i in range(3))
    assert first == again
    assert first != other


@pytest.mark.parametrize("opset", range(11, 19))
def test_opsets_agree(opset: int, tmp_path: Path) -> None:
    models.write("dab_detr", tmp_path / "plain.onnx", "mini")
    models.write("dab_detr", tmp_path / "other.onnx", "mini", opset=opset)
    onnx.checker.check_model(onnx.load(tmp_path / "other.onnx"), full_check=True)
    feeds = models.feeds("dab_detr", MINI, size="mini")
    want, got = (run(tmp_path / f"{name}.onnx", feeds) for name in ("plain", "other"))
    for name in want:
        assert relative_gap(got[name], want[name]) < 1e-5


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"layernorm": "two_sub"}, 1e-5),
        ({"layernorm": "mul"}, 1e-5),
        ({"layernorm": "op", "opset": 17}, 1e-5),
        ({"weights": "fp16"}, 1e-2),
    ],
)
def test_variants_agree(options: dict[str, Any], tolerance: float, tmp_path: Path) -> None:
    models.write("dab_detr", tmp_path / "plain.onnx", "mini")
    models.write("dab_detr", tmp_path / "other.onnx", "mini", **options)
    feeds = models.feeds("dab_detr", MINI, size="mini")
    want, got = (run(tmp_path / f"{name}.onnx", feeds) for name in ("plain", "other"))
    for name in want:
        assert relative_gap(got[name], want[name]) < tolerance


@pytest.mark.parametrize(
    ("size", "shape", "queries"), [("mini", MINI, 20), ("full", (1, 800, 800), 300)]
)
def test_outputs_are_sane(
    size: models.Size,
    shape: tuple[int, ...],
    queries: int,
    model_path: Callable[..., Path],
) -> None:
    path = model_path("dab_detr", size)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    feeds = models.feeds("dab_detr", shape, size=size)
    logits, boxes = run(path, feeds).values()
    assert logits.shape == (1, queries, 91)
    assert boxes.shape == (1, queries, 4)
    assert 0.1 < logits.std() < 5
    assert boxes.min() > 0
    assert boxes.max() < 1
    # Neither the query nor the picture is lost on the way.
    assert boxes.std(axis=1).min() > 0.05
    assert logits.std(axis=1).mean() > 0.005
    other = models.feeds("dab_detr", shape, seed=1, size=size)
    assert np.abs(run(path, other)["pred_logits"] - logits).max() > 0.01


def test_activations_stay_in_bounds(model_path: Callable[..., Path], tmp_path: Path) -> None:
    """Signals neither vanish nor explode on their way through the backbone."""
    model = onnx.load(model_path("dab_detr", "mini"))
    sums = [node.output[0] for node in model.graph.node if "/body/layer" in node.name]
    relus = [name for name in sums if "/relu/" in name]
    for name in relus:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    onnx.save(model, tmp_path / "taps.onnx")
    values = run(tmp_path / "taps.onnx", models.feeds("dab_detr", MINI, size="mini"))
    assert len(relus) == 24
    assert all(0.1 < values[name].std() < 5 for name in relus)


def test_feeds_are_pictures() -> None:
    first, again, other = (
        models.feeds("dab_detr", MINI, seed=seed, size="mini")["inputs"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (1, 3, 128, 160)
    assert first.dtype == np.float32
    assert -2.2 < first.min() < -1
    assert 1 < first.max() < 2.7
    assert 0.5 < first.std() < 1.5
    # Smooth: neighbours differ far less than pixels that lie apart.
    assert np.abs(np.diff(first, axis=3)).mean() < first.std() / 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opset": 10}, "opset is 10, but must be 11 to 18"),
        ({"seed": -1}, "seed is -1"),
        ({"layernorm": "op"}, "needs opset 17 or later, not 12"),
        ({"layernorm": "fused"}, "layernorm is 'fused'"),
        ({"dynamic_batch": -1}, "dynamic_batch is -1, but must not be negative"),
        ({"batch": 2}, "no option 'batch'; the options are layernorm, weights, dynamic_batch"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match=message):
        models.write(**{"name": "dab_detr", "path": path, "size": "mini", **arguments})
    assert not path.exists()


@pytest.mark.parametrize("shape", [(1,), (0, 800, 800), (1, 800, 640), (1, 3, 800, 800)])
def test_bad_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape is .*, but must be \(batch, 800, 800\)"):
        models.feeds("dab_detr", shape)
