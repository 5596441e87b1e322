"""ViLBERT is what it claims: the census of the published export, its feeds and its values."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planck import models
from planck.models import vilbert

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

# The published export, less one Constant that nothing explains.
CENSUS = Counter(
    Constant=461, Add=403, Unsqueeze=230, Gather=228, MatMul=227, Shape=226, Mul=117,
    ReduceMean=116, Div=114, Concat=112, Reshape=112, Transpose=112, Sub=61, Pow=58, Sqrt=58,
    Softmax=28, Erf=28, Cast=4, Range=1, Expand=1,
)  # fmt: skip
FULL = os.environ.get("PLANCK_FULL") == "1"
OUTSIDE = 65  # nodes that are in no block
BLOCK = 94
INPUTS = {
    "question": ("int64", (20,)),
    "features": ("float32", (100, 2048)),
    "spatials": ("float32", (100, 5)),
    "segment_ids": ("int64", (20,)),
    "input_mask": ("int64", (20,)),
    "image_mask": ("int64", (100,)),
}


def run(path: Path, feeds: dict[str, Any]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    (logit,) = ort.InferenceSession(str(path), options).run(None, feeds)
    return logit


def mini(folder: Path, **options: Any) -> Path:
    path = folder / "mini.onnx"
    models.write("vilbert", path, "mini", **options)
    return path


# Structure.


def test_census_of_full() -> None:
    graph = models.build("vilbert")
    assert graph.census() == CENSUS
    assert len(graph.nodes) == 2697 == OUTSIDE + 28 * BLOCK
    assert len(graph.initializers) == 657
    assert graph.opset == 11


def test_weight_products_and_parameters() -> None:
    graph = models.build("vilbert")
    weights = {t.name for t in graph.initializers}
    products = [n for n in graph.nodes if n.op == "MatMul"]
    assert sum(n.inputs[1] in weights for n in products) == 171
    floats = [t for t in graph.initializers if t.dtype == np.float32]
    assert 218.3e6 < sum(t.nbytes for t in floats) / 4 < 218.5e6


def test_mini_has_the_blocks_of_full() -> None:
    """1 live text layer, 2 vision layers and 3 halves of connections."""
    graph = models.build("vilbert", "mini")
    assert len(graph.nodes) == OUTSIDE + (1 + 2 + 3) * BLOCK
    assert graph.census()["Softmax"] == 6

    def chain(size: models.Size, module: str) -> list[tuple[str, str]]:
        nodes = models.build("vilbert", size).nodes
        return [(n.op, n.name) for n in nodes if f"/{module}/" in n.name]

    for module in ("layer.0", "v_layer.1", "c_layer.0", "embeddings", "v_embeddings", "vil_logit"):
        assert chain("mini", module) == chain("full", module)


def test_dead_parts_are_absent() -> None:
    names = [node.name for node in models.build("vilbert").nodes]
    assert not any("/layer.11/" in name for name in names)
    assert not any("/c_layer.5/biattention/query2/" in name for name in names)
    assert not any("/c_layer.5/t_output/" in name for name in names)
    assert any("/c_layer.4/t_output/" in name for name in names)


@pytest.mark.parametrize("size", ["full", "mini"])
def test_ports(size: models.Size) -> None:
    graph = models.build("vilbert", size)
    assert [port.name for port in graph.inputs] == list(INPUTS)
    for port in graph.inputs:
        assert (port.dtype, port.dims) == (
            INPUTS[port.name][0],
            ("batch_size", *INPUTS[port.name][1]),
        )
    (logit,) = graph.outputs
    assert (logit.name, logit.dtype, logit.dims) == (
        "vision_logit",
        "float32",
        ("batch_size", 100, 1),
    )


def test_names_are_unique() -> None:
    graph = models.build("vilbert", "mini")
    values = [value for node in graph.nodes for value in node.outputs]
    values += [tensor.name for tensor in graph.initializers]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("spelling", "extra", "less"),
    [
        ("two_sub", Counter(Sub=58), Counter()),
        ("mul", Counter(Mul=58), Counter(Pow=58, Constant=58)),
    ],
)
def test_layernorm_spellings(spelling: str, extra: Counter[str], less: Counter[str]) -> None:
    census = models.build("vilbert", layernorm=spelling).census()
    assert (census - CENSUS, CENSUS - census) == (extra, less)


def test_layernorm_as_one_op() -> None:
    census = models.build("vilbert", opset=17, layernorm="op").census()
    assert census["LayerNormalization"] == 58
    assert census["ReduceMean"] == census["Pow"] == 0


@pytest.mark.parametrize(("spelling", "epsilon"), [("exploded", 1e-5), ("two_sub", 1e-12)])
def test_layernorm_epsilon(spelling: str, epsilon: float) -> None:
    nodes = models.build("vilbert", "mini", layernorm=spelling).nodes
    (constant,) = (n for n in nodes if n.name == "/bert/embeddings/LayerNorm/Constant_1")
    assert constant.attributes["value"] == np.float32(epsilon)


def test_arange_by_nonzero() -> None:
    census = models.build("vilbert", arange="nonzero").census()
    assert census - CENSUS == Counter(
        Unsqueeze=1, ConstantOfShape=1, NonZero=1, Transpose=1, Squeeze=1
    )
    assert CENSUS - census == Counter(Range=1, Constant=2)


# Files and values.


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    files = [mini(tmp_path, seed=seed).read_bytes() for seed in (5, 5, 6)]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"arange": "nonzero"},
        {"arange": "nonzero", "opset": 18},
        {"layernorm": "two_sub"},
        {"layernorm": "mul"},
        {"layernorm": "op", "opset": 17},
        {"opset": 13},
    ],
    ids=str,
)
def test_variants_agree(options: dict[str, Any], tmp_path: Path) -> None:
    feeds = models.feeds("vilbert", (3,), size="mini", masked_row=True)
    plain = run(mini(tmp_path), feeds)
    path = mini(tmp_path, **options)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == options.get("opset", 11)
    # Beside -10000 the spacing of float32 is 1e-3; two_sub has another epsilon.
    valid = feeds["image_mask"] == 1
    logit = run(path, feeds)
    np.testing.assert_allclose(logit[valid], plain[valid], atol=1e-4)
    np.testing.assert_allclose(logit[~valid], plain[~valid], atol=2e-3)


def test_half_weights(tmp_path: Path) -> None:
    feeds = models.feeds("vilbert", (2,), size="mini")
    plain = run(mini(tmp_path), feeds)
    half = mini(tmp_path, weights="fp16")
    types = {t.data_type for t in onnx.load(half).graph.initializer}
    assert types == {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    np.testing.assert_allclose(run(half, feeds), plain, atol=1e-2)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_runs_at_any_batch(batch: int, tmp_path: Path) -> None:
    feeds = models.feeds("vilbert", (batch,), seed=batch, size="mini")
    logit = run(mini(tmp_path), feeds)
    assert logit.shape == (batch, 100, 1) and logit.dtype == np.float32
    valid = feeds["image_mask"] == 1
    assert np.abs(logit[valid]).max() < 100
    assert (np.abs(logit[~valid] + 10000) < 100).all()
    assert logit[valid].std() > 0.01


def test_masked_row_stays_finite(tmp_path: Path) -> None:
    feeds = models.feeds("vilbert", (2,), size="mini", masked_row=True)
    assert feeds["image_mask"][-1].sum() == feeds["input_mask"][-1].sum() == 0
    logit = run(mini(tmp_path), feeds)
    assert np.isfinite(logit).all()


def test_padding_changes_nothing(tmp_path: Path) -> None:
    """What lies under the masks has no influence on the valid regions."""
    path = mini(tmp_path)
    feeds = models.feeds("vilbert", (2,), seed=1, size="mini")
    valid = feeds["image_mask"] == 1
    assert not valid.all() and not feeds["input_mask"].all()
    other = {key: value.copy() for key, value in feeds.items()}
    other["features"][~valid] = 3.0
    other["spatials"][~valid] = 0.5
    other["question"][feeds["input_mask"] == 0] = 7
    np.testing.assert_allclose(run(path, other)[valid], run(path, feeds)[valid], atol=1e-5)


def test_both_streams_matter(tmp_path: Path) -> None:
    path = mini(tmp_path)
    feeds = models.feeds("vilbert", (1,), seed=1, size="mini")
    plain = run(path, feeds)
    for name, change in (("question", 1), ("segment_ids", 1), ("features", 1.0), ("spatials", 1.0)):
        changed = feeds | {name: feeds[name] + np.asarray(change, feeds[name].dtype)}
        if name == "segment_ids":
            changed[name] = 1 - feeds[name]
        assert np.abs(run(path, changed) - plain).max() > 1e-5, name


@pytest.mark.skipif(not FULL, reason="writes 874 MB: PLANCK_FULL=1 runs it")
def test_full_size_runs(tmp_path: Path) -> None:
    path = tmp_path / "full.onnx"
    models.write("vilbert", path)
    parameters = sum(t.nbytes for t in models.build("vilbert").initializers)
    assert parameters < path.stat().st_size < parameters + 1_000_000
    feeds = models.feeds("vilbert", (2,), seed=3)
    logit = run(path, feeds)
    path.unlink()
    assert logit.shape == (2, 100, 1)
    assert np.isfinite(logit).all()
    assert logit[feeds["image_mask"] == 1].std() > 0.01


# Feeds and arguments.


@pytest.mark.parametrize("size", ["full", "mini"])
def test_feeds_follow_the_rules(size: models.Size) -> None:
    feeds = models.feeds("vilbert", (33,), seed=4, size=size)
    assert list(feeds) == list(INPUTS)
    for name, value in feeds.items():
        assert (value.dtype, value.shape) == (INPUTS[name][0], (33, *INPUTS[name][1]))
    ids, mask = feeds["question"], feeds["input_mask"]
    valid = mask.sum(axis=1)
    assert valid[0] == 20 and valid.min() >= 2
    assert (ids[:, 0] == 101).all()
    assert (ids[np.arange(33), valid - 1] == 102).all()
    assert (ids[mask == 0] == 0).all()
    assert ids.max() < vilbert.CONFIGS[size].vocabulary
    assert feeds["segment_ids"].max() == 1


def test_regions_follow_the_rules() -> None:
    feeds = models.feeds("vilbert", (33,), seed=4)
    features, boxes, mask = feeds["features"], feeds["spatials"], feeds["image_mask"]
    regions = mask.sum(axis=1)
    assert regions[0] == 100 and 10 <= regions.min() < 30
    assert (np.diff(mask, axis=1) <= 0).all()
    assert not features[mask == 0].any() and not boxes[mask == 0].any()
    assert features.min() == 0 and features.max() > 20 * features[mask == 1].mean()
    for row, count in enumerate(regions):
        mean = features[row, 1:count].mean(axis=0)
        np.testing.assert_allclose(features[row, 0], mean, rtol=1e-4, atol=1e-6)
    assert (boxes[:, 0] == [0, 0, 1, 1, 1]).all()
    x1, y1, x2, y2, area = np.moveaxis(boxes[mask == 1], 1, 0)
    assert (x1 <= x2).all() and (y1 <= y2).all() and boxes.min() >= 0 and boxes.max() <= 1
    np.testing.assert_allclose(area, (x2 - x1) * (y2 - y1), atol=1e-6)


def test_targets() -> None:
    feeds = models.feeds("vilbert", (9,), seed=2, masked_row=True)
    targets = vilbert.targets(feeds, seed=1)
    assert targets.shape == (9, 100, 1) and targets.dtype == np.float32
    assert targets.min() == 0
    assert (targets[:-1, 1:].max(axis=(1, 2)) == 1).all()  # the reference box itself
    assert not targets[feeds["image_mask"] == 0].any()
    np.testing.assert_array_equal(targets, vilbert.targets(feeds, seed=1))
    assert (targets != vilbert.targets(feeds, seed=2)).any()


def test_targets_of_known_boxes() -> None:
    boxes = np.zeros((1, 100, 5), np.float32)
    boxes[0, :2] = [[0, 0, 1, 1, 1], [0, 0, 0.5, 0.5, 0.25]]
    mask = np.zeros((1, 100), np.int64)
    mask[0, :2] = 1
    overlap = vilbert.targets({"spatials": boxes, "image_mask": mask})
    assert overlap[0, :3, 0].tolist() == [0.25, 1.0, 0.0]


def test_feeds_repeat() -> None:
    first, again, other = (models.feeds("vilbert", (2,), seed=s, size="mini") for s in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert (first["features"] != other["features"]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arange": "loop"}, "arange is 'loop', but must be 'range' or 'nonzero'"),
        ({"layernorm": "fused"}, "layernorm is 'fused'"),
        ({"layernorm": "op"}, "needs opset 17 or later, not 11"),
        ({"weights": "int8"}, "weights is 'int8'"),
        ({"opset": 10}, "opset is 10"),
        ({"size": "huge"}, "size is 'huge'"),
        ({"labels": 3}, "vilbert has no option 'labels'; the options are arange, layernorm"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.build(**{"name": "vilbert", "size": "mini", **options})


@pytest.mark.parametrize("shape", [(), (0,), (2, 20)])
def test_bad_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape is .* but must be \(batch,\)"):
        models.feeds("vilbert", shape)
