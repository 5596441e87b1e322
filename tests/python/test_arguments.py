"""Arguments of the wrong kind: one typed sentence each, and every form of a model and of data."""

from __future__ import annotations

import copy
import os
import pickle
import re
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planck
import planck.models

onnx = pytest.importorskip("onnx")

BATCHES = [planck.models.feeds("digits", (8,), size="mini", seed=s) for s in range(4)]
ONE = BATCHES[0]
PLAN_SAYS = r"expected a planck.Plan"
DATA_SAYS = r"expected an iterable of feeds"
MODEL_SAYS = r"expected the path of an ONNX file, its bytes or an onnx.ModelProto"


@pytest.fixture(scope="module")
def digits(model_path: Callable[..., Path]) -> Path:
    return model_path("digits")


@pytest.fixture(scope="module")
def plan(digits: Path) -> planck.Plan:
    return planck.build(digits)


# --- models --------------------------------------------------------------------------------------


def test_every_form_of_a_model_gives_the_same_plan(digits: Path, plan: planck.Plan) -> None:
    data = digits.read_bytes()
    want = plan.run(ONE)["logits"].tobytes()
    for form in (str(digits), digits, data, bytearray(data), memoryview(data), onnx.load(digits)):
        assert planck.build(form).run(ONE)["logits"].tobytes() == want
        assert planck.calibrate(form, BATCHES).samples == 32


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "build": lambda model, data: planck.build(model),
    "calibrate": planck.calibrate,
    "placement": lambda model, data: planck.placement(model, {}),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("model", [None, 3, [ONE]])
def test_what_is_no_model(call: str, model: Any) -> None:
    with pytest.raises(planck.UsageError, match=MODEL_SAYS):
        CALLS[call](model, BATCHES)


def test_hints_at_what_was_meant(digits: Path, plan: planck.Plan) -> None:
    with digits.open("rb") as file, pytest.raises(planck.UsageError, match=MODEL_SAYS) as error:
        planck.build(file)
    assert "model.read()" in error.value.hint
    with pytest.raises(planck.UsageError, match="model is Plan") as error:
        planck.calibrate(plan, BATCHES)
    assert "built already" in error.value.hint


OTHER_FORMATS = {
    b"\x89PLAN\r\n\x1a\x01": ("a plan of Planck", "planck.load"),
    b"ftrt\0\0\0\0": ("an engine of TensorRT", "built from"),
    b"version https://git-lfs.github.com/spec/v1\n": ("a pointer of Git LFS", "git lfs pull"),
    b"PK\x03\x04\x14\0\0\0": ("a zip archive", "torch.onnx.export"),
    b"\x80\x04\x95\x10\0": ("a pickle", "torch.onnx.export"),
    b"\x89HDF\r\n\x1a\n\0": ("HDF5", "export"),
    b"\x1c\0\0\0TFL3\0": ("TensorFlow Lite", "tf2onnx"),
    b"\x1c\0\0\0ORTM\0": ("ONNX Runtime's own format", ".onnx"),
    b"\x40\0\0\0\0\0\0\0" + b'{"w":{}}': ("a safetensors file", "export"),
    b"<!DOCTYPE html><html>": ("markup", "fetch"),
    b'{"nodes": []}': ("JSON", ".onnx"),
    b"TRT-8600-EntropyCalibration2\nx: 3c010204\n": ("a calibration cache", "--calib"),
}


@pytest.mark.parametrize("data", OTHER_FORMATS)
def test_files_of_other_formats_are_named(data: bytes) -> None:
    name, hint = OTHER_FORMATS[data]
    with pytest.raises(planck.ParseError, match="no ONNX model but .*" + re.escape(name)) as error:
        planck.build(data)
    assert hint in error.value.hint and name in error.value.got


def test_paths_that_no_file_has(plan: planck.Plan) -> None:
    for path in ("a\0b", "\udcff.onnx"):
        for call in (planck.build, planck.load, plan.save):
            with pytest.raises(planck.FileError, match="no name of a file"):
                call(path)


def test_a_full_disk(plan: planck.Plan) -> None:
    report = planck.compare(plan, "double", ONE)
    calls = (plan.save, planck.Scales.from_ranges({"x": 1.0}).to_json, report.to_json)
    for call in calls:
        with pytest.raises(planck.FileError, match="No space left on device") as error:
            call("/dev/full")
        assert "free some space" in error.value.hint


def test_writing_goes_through_links_and_devices(plan: planck.Plan, tmp_path: Path) -> None:
    scales = planck.Scales.from_ranges({"x": 1.0})
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    for write, text in ((plan.save, plan.to_bytes()), (scales.to_json, scales.to_json().encode())):
        target.write_bytes(b"old")
        link.symlink_to(target)
        write(link)
        assert link.is_symlink() and target.read_bytes().startswith(text)
        link.unlink()
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        thread = threading.Thread(target=write, args=(pipe,))
        thread.start()
        assert select.select([reader], [], [], 60.0)[0]  # before that a read would find no writer
        os.set_blocking(reader, True)
        with os.fdopen(reader, "rb") as file:
            assert file.read().startswith(text)
        thread.join()
        assert pipe.is_fifo() and sorted(p.name for p in tmp_path.iterdir()) == ["pipe", "target"]
        pipe.unlink()
        with pytest.raises(planck.FileError, match="Is a directory"):
            write(tmp_path)


@pytest.mark.parametrize("what", [None, "digits.onnx", ONE])
def test_what_is_no_plan(what: Any) -> None:
    for call in (planck.compare, planck.int8_report):
        with pytest.raises(planck.UsageError, match=PLAN_SAYS) as error:
            call(what, "double", ONE) if call is planck.compare else call(what)
        assert "planck.build(model)" in error.value.hint
    if not isinstance(what, str):
        with pytest.raises(planck.UsageError, match="expected the path of a file"):
            planck.load(what)


# --- data ----------------------------------------------------------------------------------------


class Indexed:
    """A data set that is read by index, as torch's are."""

    def __getitem__(self, index: int) -> Any:
        return BATCHES[index]

    def __len__(self) -> int:
        return len(BATCHES)


class Reader:
    """A calibration reader; `end` says how it ends."""

    def __init__(self, end: str) -> None:
        self._feeds = iter(BATCHES)
        self._end = end

    def get_next(self) -> Any:
        return next(self._feeds) if self._end == "raises" else next(self._feeds, None)


def generated() -> Iterator[Any]:
    yield from BATCHES


def test_every_form_of_data_gives_the_same_counts(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for index, feeds in enumerate(BATCHES):
        np.savez(folder / f"{index}.npz", **feeds)
    images = [feeds["image"] for feeds in BATCHES]
    np.savez(tmp_path / "all.npz", image=np.concatenate(images))
    shards = sorted(folder.iterdir())
    want = planck.calibrate(digits, BATCHES).solve("minmax")
    for data in (
        generated(), Indexed(), Reader("None"), Reader("raises"), folder, str(folder), shards,
        tmp_path / "all.npz", images, np.stack(images), generated, list(BATCHES),
    ):  # fmt: skip
        calibration = planck.calibrate(digits, data)
        assert calibration.samples == 32
        assert calibration.solve("minmax") == want


@pytest.mark.parametrize("data", [None, 3, b"data.npz"])
def test_what_is_no_data(digits: Path, plan: planck.Plan, data: Any) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "calibrate": lambda: planck.calibrate(digits, data),
        "compare": lambda: planck.compare(plan, "double", data),
        "smooth": lambda: planck.smooth(digits, data),
        "correct_bias": lambda: planck.correct_bias(digits, digits, data),
    }
    for call in calls.values():
        with pytest.raises(planck.UsageError, match=DATA_SAYS):
            call()


def test_data_that_are_not_there(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(planck.FileError, match=r"nothing\.npz"):
        planck.calibrate(digits, tmp_path / "nothing.npz")
    with pytest.raises(planck.CalibrationError, match=r"has no \.npz files"):
        planck.calibrate(digits, tmp_path)
    (tmp_path / "data.txt").write_text("1 2 3")
    with pytest.raises(planck.UsageError, match=r"expected the path of an \.npz file or a folder"):
        planck.calibrate(digits, tmp_path / "data.txt")


def test_items_that_make_no_feeds(digits: Path) -> None:
    labelled = [(feeds["image"], np.arange(8)) for feeds in BATCHES]
    with pytest.raises(planck.FeedError, match=r"batch 0 .* is tuple of 2") as error:
        planck.calibrate(digits, labelled)
    assert "({'image': x} for x, label in data)" in error.value.hint
    with pytest.raises(planck.FeedError, match=r"input 'image' in batch 0 .* makes no array"):
        planck.calibrate(digits, [{"image": [[1.0], [1.0, 2.0]]}])


def test_comparisons_take_the_same_data(plan: planck.Plan, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", **ONE)
    for data in (ONE, [ONE, ONE], generated(), tmp_path / "one.npz", [ONE["image"]]):
        assert planck.compare(plan, "double", data).ok


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, -1, "2", 1.5, True, 2**70])
def test_threads_that_cannot_be(digits: Path, threads: Any) -> None:
    plan_bytes = b""
    for call in (
        lambda: planck.build(digits, threads=threads),
        lambda: planck.calibrate(digits, BATCHES, threads=threads),
        lambda: planck.load(plan_bytes, threads=threads),
    ):
        with pytest.raises(planck.UsageError, match="expected a whole number of at least 1"):
            call()


OPTIONS: dict[str, tuple[Any, str]] = {
    "dims": ([1], "dims is list; expected sizes by name"),
    "initializers": ("w", "initializers is str; expected arrays by name"),
    "fed_initializers": ("w", "fed_initializers is 'w'; expected a list of names"),
    "disabled_passes": ("linear", "disabled_passes is 'linear'; expected a list of names"),
    "progress": (3, "progress is 3; expected True, False or a callback"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_a_build(digits: Path, name: str) -> None:
    value, text = OPTIONS[name]
    with pytest.raises(planck.UsageError, match=text):
        planck.build(digits, **{name: value})


def test_placements(digits: Path) -> None:
    calibration = planck.calibrate(digits, BATCHES)
    scales = calibration.solve()

    def built(placement: Any, **options: Any) -> Any:
        return planck.build(digits, precision="int8", placement=placement, **options)

    for placement in ("cnn", planck.placement(digits, scales)):
        with pytest.raises(
            planck.UsageError, match=r"expected options of planck\.quantize by name"
        ):
            built(placement, scales=scales)
    with pytest.raises(planck.UsageError, match="'dynamic' changes the model") as error:
        built({"recipe": "dynamic"})
    assert 'planck.quantize(model, None, recipe="dynamic")' in error.value.hint
    with pytest.raises(planck.UsageError, match=r"scales is list; expected planck\.Scales"):
        planck.quantize(digits, [scales])  # type: ignore[arg-type]


def test_scales_of_another_model_are_warned_of(
    digits: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calibration = planck.calibrate(digits, BATCHES)
    planck.build(digits, precision="int8", calibration=calibration)
    assert "another model file" not in caplog.text
    other = onnx.load(digits)
    other.producer_name = "other"
    planck.build(other, precision="int8", calibration=calibration)
    assert "another model file" in caplog.text
    caplog.clear()
    planck.quantize(other, calibration.solve())
    assert "another model file" in caplog.text


def test_placements_as_text(digits: Path) -> None:
    placed = planck.placement(digits, planck.calibrate(digits, BATCHES).solve())
    assert f"{len(placed.kept)} products and convolutions stay float" in str(placed)
    assert all(kept.reason in str(placed) for kept in placed.kept)
    assert "scales 0.0" in repr(placed) and "array(" not in repr(placed)


def test_calls_of_a_plan(plan: planck.Plan) -> None:
    with pytest.raises(planck.UsageError, match="timeout is '1'; expected more than 0 seconds"):
        plan.run(ONE, timeout="1")  # type: ignore[arg-type]
    with pytest.raises(planck.UsageError, match="shapes is str; expected the shapes of inputs"):
        plan.memory("image")  # type: ignore[arg-type]
    with pytest.raises(planck.FeedError, match="expected whole numbers"):
        plan.memory({"image": (1.5, 1, 8, 8)})  # type: ignore[dict-item]
    with pytest.raises(planck.UsageError, match="names is 'logits'; expected a list of names"):
        plan.taps(ONE, "logits")
    with pytest.raises(planck.UsageError, match="the plan has no symbol 'bach'; it has 'batch'"):
        planck.int8_report(plan, sizes={"bach": 1})


def test_names_that_are_no_utf8(digits: Path, plan: planck.Plan) -> None:
    name = "\udc80"
    calls: list[Callable[[], Any]] = [
        lambda: plan.run({name: ONE["image"]}),
        lambda: plan.run(ONE, out={name: ONE["image"]}),
        lambda: plan.memory({name: (1, 1, 8, 8)}),
        lambda: plan.taps(ONE, [name]),
        lambda: planck.build(digits, dims={name: 3}),
        lambda: planck.calibrate(digits, BATCHES, tensors=[name]),
        lambda: planck.quantize(digits, planck.Scales.from_ranges({"image": 1.0}), exclude=[name]),
        lambda: planck.Scales.from_ranges({name: 1.0}),
    ]
    for call in calls:
        with pytest.raises(planck.UsageError, match="UTF-8"):  # a FeedError is one
            call()


def test_more_arguments(digits: Path, plan: planck.Plan) -> None:
    scale: Any = planck.TensorScale
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: plan.run(ONE, cancel=3), "cancel is 3; expected a planck.Cancel"),  # type: ignore[arg-type]
        (lambda: plan.run(ONE, times=()), "expected a list"),  # type: ignore[arg-type]
        (lambda: planck.load(b"", verify="yes"), "verify is 'yes'; expected True or False"),  # type: ignore[arg-type]
        (lambda: planck.compare(plan, "double", ONE, min_sqnr_db="9"), "decibels"),  # type: ignore[arg-type]
        (lambda: planck.compare(plan, "double", ONE, progress=3), "callback"),  # type: ignore[arg-type]
        (lambda: scale("x", ["a"], [0]), "expected numbers"),
        (lambda: planck.Scales.from_ranges({"x": "a"}), "expected a number"),  # type: ignore[dict-item]
        (lambda: planck.Scales.from_ranges([1]), "expected the largest"),  # type: ignore[arg-type]
        (lambda: planck.Calibration.from_bytes("x"), "data is str; expected bytes"),  # type: ignore[arg-type]
    ]
    for call, text in calls:
        with pytest.raises(planck.Error, match=text):
            call()


def test_shapes_beyond_all_memory(plan: planck.Plan) -> None:
    """Extents that multiply beyond 64 bits, and broadcast arrays whose copy no memory holds."""
    with pytest.raises(planck.LimitError, match="the shapes of this run are too large") as error:
        plan.memory({"image": (2**62, 1, 8, 8)})
    assert error.value.option == "max_tensor_bytes"
    with pytest.raises(planck.FeedError, match="expected whole numbers"):
        plan.memory({"image": (2**64, 1, 8, 8)})
    with pytest.raises(planck.OutOfMemoryError, match="input 'image'"):
        plan.run({"image": np.broadcast_to(ONE["image"][:1], (2**40, 1, 8, 8))})


def test_plans_are_shared_and_not_pickled(plan: planck.Plan) -> None:
    assert copy.copy(plan) is plan and copy.deepcopy([plan])[0] is plan
    with pytest.raises(TypeError, match=r"plan\.save"):
        pickle.dumps(plan)


def test_what_was_calibrated_has_no_gaps(digits: Path, tmp_path: Path) -> None:
    calibration = planck.calibrate(digits, BATCHES)
    calibration.save(tmp_path / "calibration")
    notes = planck.import_scales(tmp_path / "calibration", model=digits).notes
    assert any(note.startswith("covers") for note in notes)
    assert not any("without scales" in note for note in notes)


def test_binary_files_that_are_no_scales(digits: Path) -> None:
    with pytest.raises(planck.ParseError, match="no scale file that Planck knows") as error:
        planck.import_scales(digits)
    assert "planck.calibrate" in error.value.hint
