"""`plan.memory`: what it states before a run is what the run takes."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
import planck.models
from planck.cli import main

SHAPES = [
    ("bert_encoder", (1, 1)),
    ("bert_encoder", (2, 5)),
    ("bert_encoder", (8, 128)),
    ("bert_encoder", (64, 64)),
    ("resnet50", (1, 64, 64)),
    ("resnet50", (3, 64, 64)),
    ("resnet50", (64, 64, 64)),
    ("vilbert", (4,)),
]


def stated(plan: planck.Plan, feeds: dict[str, Any]) -> planck.Memory:
    return plan.memory({name: array.shape for name, array in feeds.items()})


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_a_run_takes_what_was_stated(
    name: str,
    shape: tuple[int, ...],
    model_path: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    feeds = planck.models.feeds(name, shape, size="mini")
    with caplog.at_level(logging.INFO, "planck"):
        plan = planck.build(model_path(name))  # asks for the level
        need = stated(plan, feeds)
        assert plan.stats == planck.Stats(0, 0, 0, 0, 0), "nothing was allocated or bound"
        outputs = plan.run(feeds)
    assert plan.stats.arena_bytes == need.arena_bytes
    (bound,) = re.findall(r"new shapes \[.*\]: (\d+) bytes of arena", caplog.text)
    assert int(bound) == need.packed_bytes <= need.arena_bytes < need.packed_bytes + (2 << 20)
    assert need.input_bytes == sum(array.nbytes for array in feeds.values())
    assert need.output_bytes == sum(array.nbytes for array in outputs.values())
    assert need.constant_bytes == plan.constant_bytes and need.threads == plan.threads


def test_one_arena_serves_the_largest_shape(model_path: Callable[..., Path]) -> None:
    plan = planck.build(model_path("resnet50"))
    largest = 0
    for shape in ((2, 64, 64), (64, 64, 64), (1, 64, 64)):
        feeds = planck.models.feeds("resnet50", shape, size="mini")
        largest = max(largest, stated(plan, feeds).arena_bytes)
        plan.run(feeds)
        assert plan.stats.arena_bytes == largest
    assert largest > 2 << 20


def test_tensors(model_path: Callable[..., Path]) -> None:
    plan = planck.build(model_path("bert_encoder"))
    need = plan.memory({"input_ids": (4, 32)})
    sizes = [tensor.bytes for tensor in need.tensors]
    assert sizes == sorted(sizes, reverse=True)
    for tensor in need.tensors:
        assert tensor.bytes == math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
    by_name = {tensor.name: tensor for tensor in need.tensors}
    hidden = by_name["last_hidden_state"]
    assert (hidden.kind, hidden.dtype, hidden.shape) == ("output", "float32", (4, 32, 64))
    assert by_name["attention_mask"].kind == "input"
    arena = [tensor for tensor in need.tensors if tensor.kind == "arena"]
    assert max(t.bytes for t in arena) <= need.packed_bytes <= sum(t.bytes + 64 for t in arena)
    parts = need.arena_bytes + need.constant_bytes + need.input_bytes + need.output_bytes
    assert need.total_bytes == parts + need.threads * need.scratch_bytes


def test_a_loaded_plan_needs_the_same(model_path: Callable[..., Path], tmp_path: Path) -> None:
    plan = planck.build(model_path("bert_encoder"))
    plan.save(tmp_path / "x.plan")
    shapes = {"input_ids": (3, 7)}
    assert planck.load(tmp_path / "x.plan").memory(shapes) == plan.memory(shapes)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({}, "input 'input_ids' is missing"),
        ({"ids": (1, 2)}, "the model has no input 'ids'"),
        ({"input_ids": (1, 2, 3)}, "rank 3 instead of 2"),
        ({"input_ids": (1, -2)}, "has a negative extent"),
        ({"input_ids": (1, 2), "attention_mask": (1, 3)}, "'length' is 3 here and 2"),
    ],
)
def test_wrong_shapes(
    shapes: dict[str, tuple[int, ...]], words: str, model_path: Callable[..., Path]
) -> None:
    plan = planck.build(model_path("bert_encoder"))
    with pytest.raises(planck.FeedError, match=words):
        plan.memory(shapes)
    assert plan.memory({"input_ids": (1, 2)}).input_bytes == 48


def test_limit(model_path: Callable[..., Path]) -> None:
    limits = planck.Limits(max_tensor_bytes=1 << 20)
    plan = planck.build(model_path("bert_encoder"), limits=limits)
    assert plan.memory({"input_ids": (1, 8)}).arena_bytes > 0
    with pytest.raises(planck.LimitError) as caught:
        plan.memory({"input_ids": (512, 512)})
    assert caught.value.option == "max_tensor_bytes"


def test_inspect(
    model_path: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, record = model_path("bert_encoder"), tmp_path / "m.json"
    arguments = ["inspect", str(path), "--memory", "input_ids=2x5"]
    assert main([*arguments, "--json", str(record)]) == 0
    printed = capsys.readouterr().out
    assert "memory of a run: largest tensors" in printed and "of each" not in printed
    data = json.loads(record.read_text())["memory"]
    need = planck.build(path).memory({"input_ids": (2, 5)})
    assert data["total_bytes"] == need.total_bytes
    assert data["tensors"][0]["bytes"] == need.tensors[0].bytes
    assert main(["inspect", str(path), "--memory", "input_ids"]) == 2
    assert "--memory 'input_ids' has no '='" in capsys.readouterr().err


def large_outputs(model_path: Callable[..., Path]) -> tuple[planck.Plan, dict[str, Any]]:
    """A plan whose first output takes more than 2 MiB, with its feeds."""
    plan = planck.build(model_path("wenet_decoder"))
    feeds = planck.models.feeds("wenet_decoder", (8, 16), size="mini")
    assert plan.run(feeds)["decoder_out"].nbytes > 2 << 20
    return plan, feeds


def address(array: Any) -> int:
    return int(array.ctypes.data)


def test_memory_of_large_outputs_is_used_again(model_path: Callable[..., Path]) -> None:
    plan, feeds = large_outputs(model_path)
    first = plan.run(feeds)["decoder_out"]
    place, numbers = address(first), first.copy()
    del first
    again = plan.run(feeds)["decoder_out"]
    assert address(again) == place
    assert again.flags.writeable and again.flags.c_contiguous
    np.testing.assert_array_equal(again, numbers)


def test_an_output_that_is_held_stays(model_path: Callable[..., Path]) -> None:
    plan, feeds = large_outputs(model_path)
    part = plan.run(feeds)["decoder_out"][1:2, 3]  # a view holds the whole array
    numbers = part.copy()
    others = {**feeds, "encoder_out": -feeds["encoder_out"]}
    for _ in range(3):
        later = plan.run(others)["decoder_out"]
        assert not np.shares_memory(later, part)
        np.testing.assert_array_equal(part, numbers)
    del plan
    np.testing.assert_array_equal(part, numbers)  # it outlives its plan


def test_large_outputs_of_changing_shapes(model_path: Callable[..., Path]) -> None:
    plan, feeds = large_outputs(model_path)
    numbers = plan.run(feeds)["decoder_out"].copy()
    more = planck.models.feeds("wenet_decoder", (9, 16), size="mini")
    for _ in range(2):
        assert plan.run(more)["decoder_out"].shape[0] == 9
        np.testing.assert_array_equal(plan.run(feeds)["decoder_out"], numbers)
