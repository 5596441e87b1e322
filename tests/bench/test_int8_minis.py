"""The trained minis in int8: what each decides, beside float; PLANCK_FULL=1 takes all held out."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("onnx")

from bench.train.evaluate import QAT, TASKS, in_int8, in_int8_by_training

FULL = os.environ.get("PLANCK_FULL") == "1"
SAMPLES = {"digits": 500, "bert_classifier": 500, "wenet_encoder": 32, "vilbert": 32}
POINT = 0.01


def held_out(name: str) -> int | None:
    return None if FULL else SAMPLES[name]


def lost(name: str, in_float: float, in_bytes: float) -> float:
    """How much of the metric int8 costs; wenet_encoder counts errors, the others what is right."""
    return in_bytes - in_float if name == "wenet_encoder" else in_float - in_bytes


@pytest.mark.parametrize("name", TASKS)
def test_auto_stays_within_a_point_of_float(name: str) -> None:
    row = in_int8(name, ["auto"], held_out(name), 256 if FULL else 64)
    assert lost(name, row["fp32"], row["auto"]) <= POINT


def test_zeros_that_are_kept_in_the_divergence_lose_digits() -> None:
    row = in_int8("digits", ["auto", "entropy", "entropy, zeros kept"], calibrated=64)
    assert row["entropy, zeros kept"] < 0.9
    assert lost("digits", row["fp32"], row["auto"]) <= POINT
    assert lost("digits", row["fp32"], row["entropy"]) <= POINT


@pytest.mark.parametrize("name", QAT)
def test_ranges_of_a_training_stay_within_a_point_of_float(name: str) -> None:
    row = in_int8_by_training(name, held_out(name))
    assert lost(name, row["fp32"], row["int8"]) <= POINT


def test_models_without_such_a_training_are_named() -> None:
    with pytest.raises(ValueError, match="simulated int8 for 'vilbert'"):
        in_int8_by_training("vilbert")
