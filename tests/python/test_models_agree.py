"""Every model: the numbers of ONNX Runtime, with fusions and without, the same bits always."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import planck
from planck import _core, models
from tests.conftest import Feeds, relative_gap

FULL = os.environ.get("PLANCK_FULL") == "1"
LIMIT = 2e-5
PACKAGED = {"magika": 1e-4, "ocr_det": 1e-4, "ocr_rec": 1e-4, "ocr_cls": 1e-4}
# A small shape for each model, and one whose rows are a batch that may be split.
SHAPES: dict[str, tuple[int, ...]] = {
    "bert_encoder": (3, 9),
    "bert_classifier": (3, 9),
    "minilm": (3, 9),
    "vilbert": (2,),
    "wenet_encoder": (2, 40),
    "wenet_decoder": (2, 16),
    "dab_detr": (1, 128, 160),
    "resnet50": (2, 64, 64),
    "crnn": (2, 32, 48),
    "magika": (2,),
    "ocr_det": (1, 64, 96),
    "ocr_rec": (2, 48, 64),
    "ocr_cls": (2, 48, 96),
}
# What lowering needs stays on: shapes, constants and one form of everything.
FUSIONS = [
    name
    for name in _core.pass_names()
    if name
    not in {
        "dead_code",
        "drop_identity",
        "expand_guard",
        "infer",
        "fold",
        "shapes",
        "simplify",
        "merge_views",
        "cse",
    }
]


@pytest.fixture(scope="module", params=list(SHAPES))
def case(request, model_path) -> tuple[str, Any, Feeds]:
    """Name, path and feeds of a model; packaged ones have one size."""
    name = request.param
    size = {} if name in PACKAGED else {"size": "mini"}
    try:
        path = model_path(name, **size) if size else _packaged(name, request)
        feeds = models.feeds(name, SHAPES[name], seed=7, **size)
    except ImportError as missing:
        pytest.skip(str(missing))
    return name, path, feeds


def _packaged(name: str, request: pytest.FixtureRequest) -> Any:
    path = request.getfixturevalue("tmp_path_factory").mktemp(name) / f"{name}.onnx"
    models.write(name, path)
    return path


def expect_close(got: Feeds, want: Feeds, limit: float) -> None:
    for name, value in want.items():
        if value.dtype.kind == "f":
            assert relative_gap(got[name], value) <= limit, name
        else:
            assert np.array_equal(got[name], value), name


def test_agrees_with_onnx_runtime(case, reference):
    name, path, feeds = case
    plan = planck.build(path)
    expect_close(plan.run(feeds), reference(path, feeds), PACKAGED.get(name, LIMIT))


def test_fusions_change_nothing_but_rounding(case):
    name, path, feeds = case
    fused, plain = planck.build(path), planck.build(path, disabled_passes=FUSIONS)
    assert len(plain.steps) >= len(fused.steps)
    expect_close(fused.run(feeds), plain.run(feeds), PACKAGED.get(name, LIMIT))


def test_bits_are_the_same_for_any_number_of_threads(case):
    _, path, feeds = case
    want = planck.build(path, threads=1).run(feeds)
    for threads in (2, 3, 8):
        got = planck.build(path, threads=threads).run(feeds)
        for name, value in want.items():
            assert np.array_equal(got[name], value, equal_nan=value.dtype.kind == "f"), name


def test_a_row_of_a_batch_is_the_row_alone(case):
    name, path, feeds = case
    if SHAPES[name][0] == 1:
        pytest.skip("the model has one row")
    plan = planck.build(path)
    whole = plan.run(feeds)
    rows = SHAPES[name][0]
    for row in range(rows):
        alone = plan.run({key: value[row : row + 1] for key, value in feeds.items()})
        for key, value in whole.items():
            assert np.array_equal(
                alone[key], value[row : row + 1], equal_nan=value.dtype.kind == "f"
            )


def test_every_node_is_accounted_for(case):
    _, path, _ = case
    plan = planck.build(path)
    covered = {node for step in plan.steps for node in step.nodes}
    assert covered | set(plan.unused) == set(plan.nodes)
