"""DAB-DETR after the passes: what must be there, what must be gone, and the same numbers."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
from planck import _core, models
from planck.models import tables

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

FULL = os.environ.get("PLANCK_FULL") == "1"
SIZES = {"mini": (1, 128, 160), "full": (1, 800, 800)}
LAYERS = {"mini": 2, "full": 6}
# How the original writes lists of pictures, padding and updates of slices: shapes alone decide.
GONE = {
    "ScatterND", "CumSum", "Pad", "Resize", "Where", "NonZero", "Shape", "Range", "Expand", "Tile",
    "Reshape", "Slice", "Cast", "Not", "Equal", "ReduceMax", "ReduceMean", "ReduceSum", "Pow",
    "Conv", "BatchNormalization", "Softmax",
}  # fmt: skip
full_only = pytest.mark.skipif(not FULL, reason="130 GFLOP: PLANCK_FULL=1 runs it")
each_size = pytest.mark.parametrize("size", ["mini", pytest.param("full", marks=full_only)])
PathOf = Callable[..., Path]


def census(path: Path, *disabled: str) -> Counter[str]:
    """Ops of the graph after the passes, without our domain."""
    text = _core.graph_text(str(path), {"disabled_passes": list(disabled)})
    calls = (line.split(" = ", 1)[1] for line in text.splitlines() if " = " in line)
    return Counter(
        call.split("(")[0].removeprefix("planck.") for call in calls if not call.startswith("const")
    )


def oracle(path: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_left(model_path: PathOf, size: models.Size) -> None:
    path, layers = model_path("dab_detr", size), LAYERS[size]
    left = census(path)
    assert {op: left[op] for op in GONE if left[op]} == {}
    # The attention among the queries of layer 0 depends on weights only, and so does its norm.
    assert left["Attention"] == 3 * layers - 1
    norms = left["LayerNormalization"] + left["AddLayerNorm"]
    assert norms == 2 * layers + (3 * layers - 1) + 1
    raw = models.build("dab_detr", size).census()
    assert left["Convolution"] == raw["Conv"]  # a Mul and an Add of each are in its weights


@pytest.mark.parametrize("size", SIZES)
def test_heads_of_all_layers_without_the_pick(model_path: PathOf, size: str) -> None:
    layers = LAYERS[size]
    left = census(model_path("dab_detr", size), "crop_first")
    norms = left["LayerNormalization"] + left["AddLayerNorm"]
    assert norms == 2 * layers + (3 * layers - 1) + layers  # full: 35


def test_numbers_of_the_full_model() -> None:
    raw = models.build("dab_detr").census()
    assert raw["Sqrt"] == 36 and raw["ScatterND"] == 19
    assert raw["Conv"] == 54 and raw["Softmax"] == 18
    layers = LAYERS["full"]
    assert 3 * layers - 1 == 17 and 5 * layers == 30


def test_keys_and_values_of_all_layers_are_one_product(model_path: PathOf) -> None:
    plan = planck.build(model_path("dab_detr", "mini"))
    text = plan.explain()
    # Content keys of layer 1 and values of both; the content keys of layer 0 have an addend.
    assert "planck.Linear -> f32[20,1,192]" in text
    assert plan.steps


@each_size
def test_every_node_is_covered(model_path: PathOf, size: str) -> None:
    path = model_path("dab_detr", size)
    plan = planck.build(path)
    names = Counter(node.name for node in onnx.load(path, load_external_data=False).graph.node)
    covered = {name for step in plan.steps for name in step.nodes} | set(plan.unused)
    assert covered == set(names)


@each_size
def test_agrees(model_path: PathOf, size: models.Size) -> None:
    path = model_path("dab_detr", size)
    feeds = models.feeds("dab_detr", SIZES[size], seed=3, size=size)
    plan, want = planck.build(path), oracle(path, feeds)
    start = time.perf_counter()
    got = plan.run(feeds)
    image = tables.detr_image(1000 * (time.perf_counter() - start), got, want)
    assert got.keys() == want.keys() == tables.DETR_PUBLISHED.keys()
    print(tables.detr_table([image]))
    rows = tables.detr_rows([image])
    assert [row.output for row in rows if not row.good] == []
    for row in rows:
        assert row.absolute.max <= 2e-5 * np.ptp(want[row.output])


def test_every_tensor_beside_the_reference(model_path: PathOf) -> None:
    """Those that the plan holds before the model would make them, too."""
    path = model_path("dab_detr", "mini")
    feeds = models.feeds("dab_detr", SIZES["mini"], seed=6, size="mini")
    rows = planck.compare(planck.build(path), reference="double", data=[feeds]).rows
    assert {row.name for row in rows} > {"pred_logits", "pred_boxes"}
    assert not [row.name for row in rows if row.floating and row.cumulative.sqnr_db < 80]


def test_agrees_without_fusions(model_path: PathOf) -> None:
    path = model_path("dab_detr", "mini")
    feeds = models.feeds("dab_detr", SIZES["mini"], seed=4, size="mini")
    names = ["slice_updates", "crop_first", "attention_3d", "softmax", "layer_norm", "linear"]
    plain = planck.build(path, disabled_passes=names).run(feeds)
    for name, value in planck.build(path).run(feeds).items():
        assert np.abs(value - plain[name]).max() <= 2e-5 * np.abs(plain[name]).max()


def test_one_and_two_threads_give_the_same_bits(model_path: PathOf) -> None:
    path = model_path("dab_detr", "mini")
    feeds = models.feeds("dab_detr", SIZES["mini"], seed=5, size="mini")
    one, two = (planck.build(path, threads=threads).run(feeds) for threads in (1, 2))
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)
