"""`planck calibrate`, and the scale files that `planck build --int8` takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
import planck.models
from planck.cli import main
from planck.cli.calibrate import batches


@pytest.fixture(scope="module")
def model(model_path: Callable[..., Path]) -> Path:
    return model_path("bert_encoder")


@pytest.fixture(scope="module")
def data(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two shards of 40 and 3 samples."""
    folder = tmp_path_factory.mktemp("data")
    feeds = planck.models.feeds("bert_encoder", (43, 6), size="mini")
    for name, rows in (("a", slice(0, 40)), ("b", slice(40, 43))):
        arrays: dict[str, Any] = {k: v[rows] for k, v in feeds.items()}
        np.savez(folder / f"{name}.npz", **arrays)
    return folder


def test_batches_are_all_samples_in_order(data: Path) -> None:
    whole = list(batches([str(data)], 16))
    assert [len(b["input_ids"]) for b in whole] == [16, 16, 8, 3]
    feeds = planck.models.feeds("bert_encoder", (43, 6), size="mini")
    joined = np.concatenate([b["input_ids"] for b in whole])
    assert np.array_equal(joined, feeds["input_ids"])
    again = list(batches([str(data / "a.npz"), str(data / "b.npz")], 16))
    assert len(again) == len(whole)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["calibrate", "MODEL", "--data", "DATA"], "the result would be lost"),
        (["calibrate", "MODEL", "-o", "x"], "needs either --data or --load"),
        (["calibrate", "--data", "DATA", "-o", "x"], "--data needs a model"),
        (["build", "MODEL", "--calib", "x"], "--calib is for int8 builds"),
        (["build", "MODEL", "--int8", "--precision", "fp32"], "contradict"),
        (["build", "MODEL", "--int8", "--calib", "/nonexistent"], "cannot read '/nonexistent'"),
        (["build", "MODEL", "--int8", "--calib", "CACHE"], "covers no tensor of the model"),
        (["build", "MODEL", "--int8", "--calib", "CACHE", "--calib-kind", "tao"], "tensor_scales"),
    ],
)
def test_wrong_calls(
    arguments: list[str],
    says: str,
    model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "other.cache"
    cache.write_text("TRT-8600-EntropyCalibration2\nother: 3c010204\n")
    names = {"MODEL": str(model), "DATA": str(data), "CACHE": str(cache)}
    assert main([names.get(a, a) for a in arguments]) in (2, 3)
    assert says in capsys.readouterr().err


def test_a_folder_without_arrays(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(planck.UsageError, match=r"no \.npz files"):
        list(batches([str(tmp_path)], 16))
    np.savez(tmp_path / "x.npz", a=np.zeros(3), b=np.zeros(4))
    with pytest.raises(planck.FeedError, match="first extent"):
        list(batches([str(tmp_path)], 16))


def test_shards_merge_to_the_same_bits(model: Path, data: Path, tmp_path: Path) -> None:
    def call(*arguments: Any) -> dict[str, Any]:
        record = tmp_path / "record.json"
        assert main([*map(str, arguments), "--json", str(record)]) == 0
        result: dict[str, Any] = json.loads(record.read_text())
        return result

    whole, parts = tmp_path / "whole", [tmp_path / "a", tmp_path / "b"]
    first = call("calibrate", model, "--data", data, "--batch", 1, "-o", whole)
    assert (first["samples"], first["batches"], first["kind"]) == (43, 43, "planck.calibrate")
    for part in parts:
        source = data / f"{part.name}.npz"
        call("calibrate", model, "--data", source, "--batch", 1, "-o", part)
    cache, scales = tmp_path / "x.cache", tmp_path / "x.json"
    merged = call("calibrate", "--load", *reversed(parts), "--cache", cache, "--scales", scales)
    assert merged["samples"] == 43 and {"cache", "scales"} == merged["written"].keys()
    again = call("calibrate", "--load", whole, "--cache", tmp_path / "again.cache")
    assert cache.read_bytes() == (tmp_path / "again.cache").read_bytes()
    assert again["tensors"] == merged["tensors"]
    bound = planck.import_scales(cache, model=model)
    assert (
        bound.names
        == planck.Scales.from_json(scales).names
        == tuple(row["name"] for row in merged["tensors"])
    )
    assert list(bound) == [n for n in planck.import_scales(whole, model=model) if n in bound]
    other = call("calibrate", "--load", whole, "--method", "minmax", "--cache", cache)
    assert other["method"] == "minmax" and any(
        row["threshold"] > was["threshold"]
        for row, was in zip(other["tensors"], again["tensors"], strict=True)
    )


def test_calibration_text_is_shown(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(data), "--method", "entropy", "-o", str(tmp_path / "x")]
    assert main(["calibrate", str(model), *options]) == 0
    text = capsys.readouterr().out
    assert "43 samples in 4 batches" in text and "SQNR dB" in text and "entropy" in text


def test_int8_by_every_file_that_calibrate_writes(model: Path, data: Path, tmp_path: Path) -> None:
    files = {"-o": tmp_path / "x.calibration", "--scales": tmp_path / "x.json"}
    files["--cache"] = tmp_path / "x.cache"
    where = [str(part) for pair in files.items() for part in pair]
    assert main(["calibrate", str(model), "--data", str(data), "--all-tensors", *where]) == 0
    out, record = tmp_path / "x.plan", tmp_path / "record.json"
    hashes = []
    for path in files.values():
        options = ["--int8", "--calib", str(path), "-o", str(out), "--json", str(record)]
        assert main(["build", str(model), *options]) == 0
        result = json.loads(record.read_text())
        assert result["scales"]["file"] == str(path) and result["scales"]["notes"]
        assert planck.load(out).precision == "int8"
        hashes.append(result["sha256"])
    assert hashes[1] == hashes[2]  # symmetric scales both; the statistics are solved anew
