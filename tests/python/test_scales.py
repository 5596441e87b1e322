"""Scales: grids that cannot be are refused, and JSON keeps every bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
from planck import Scales, TensorScale


def grid(**changes: Any) -> TensorScale:
    fields: dict[str, Any] = {"name": "x", "scale": np.array([0.5]), "zero_point": np.array([0])}
    return TensorScale(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scale": np.array([0.0])}, "the scale 0.0"),
        ({"scale": np.array([-1.0])}, "the scale -1.0"),
        ({"scale": np.array([math.nan])}, "the scale nan"),
        ({"scale": np.array([math.inf])}, "the scale inf"),
        ({"zero_point": np.array([128])}, r"zero point 128, outside \[-128, 127\]"),
        ({"zero_point": np.array([-1]), "dtype": "u8"}, r"zero point -1, outside \[0, 255\]"),
        ({"zero_point": np.array([0.0])}, "zero points of type float64"),
        ({"scale": np.ones(3)}, "3 scales and 1 zero points"),
        ({"scale": np.ones(3), "zero_point": np.zeros(3, int)}, "3 scales; expected one, or an"),
        ({"dtype": "s16"}, "'s16'; expected 's8' or 'u8'"),
        ({"axis": 1.5}, "axis 1.5"),
    ],
)
def test_grids_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(planck.CalibrationError, match=f"'x'.*{says}"):
        grid(**changes)


def test_json_keeps_every_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scales = Scales(
        [
            grid(name="a: b [c]", scale=random.random(1), threshold=1 / 3),
            grid(name="w", scale=random.random(5), zero_point=np.arange(5), dtype="u8", axis=1),
        ],
        kind="ranges",
        method="mse",
        model_hash="ab",
        notes=["assumed"],
    )
    scales.to_json(tmp_path / "scales.json")
    again = Scales.from_json(tmp_path / "scales.json")
    assert again == scales == Scales.from_json(scales.to_json())
    assert again["w"].scale.tobytes() == scales["w"].scale.tobytes()
    assert again.names == ("a: b [c]", "w")
    assert (again.kind, again.method, again.model_hash) == ("ranges", "mse", "ab")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", planck.CorruptError),
        ("{}", planck.CorruptError),
        ('{"format": "planck.scales", "version": 9}', planck.VersionError),
        ('{"format": "planck.scales", "version": 1, "tensors": [{}]}', planck.CorruptError),
        ('{"format": "other", "version": 1}', planck.CorruptError),
    ],
)
def test_damaged_json(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Scales.from_json(text)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(planck.FileError):
        Scales.from_json(tmp_path / "none.json")


def test_ranges() -> None:
    scales = Scales.from_ranges({"a": 1.0, "dead": 0.0, "tiny": 1e-40})
    assert scales["a"].scale.view(np.uint32)[0] == 0x3C010204
    assert (scales["dead"].scale[0], scales["dead"].note) == (1, "dead")
    assert scales["tiny"].scale[0] == 2.0**-126
    with pytest.raises(planck.CalibrationError, match="'a' has the range -1"):
        Scales.from_ranges({"a": -1.0})


def test_one_name_twice() -> None:
    with pytest.raises(planck.CalibrationError, match="'x' has two scales"):
        Scales([grid(), grid()], kind="ranges")
