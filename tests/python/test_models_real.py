"""Packaged models: they are found, copied and fed; without their packages the error says so."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planck import models
from planck.models import lines, real

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

MAGIKA, OCR = "magika", "rapidocr_onnxruntime"
# name, package, nodes, opset, shape of the feeds, output
CASES = [
    ("magika", MAGIKA, 95, 15, (3,), (3, 214)),
    ("ocr_det", OCR, 672, 12, (2, 96, 160), (2, 1, 96, 160)),
    ("ocr_rec", OCR, 860, 12, (2, 48, 320), (2, 40, 6625)),
    ("ocr_cls", OCR, 566, 11, (4, 48, 192), (4, 2)),
]
NAMES = [case[0] for case in CASES]


def need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    if package == OCR:
        pytest.importorskip("PIL", reason="pillow draws the text")


def run(path: Path, feeds: dict[str, Any]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, feeds)
    return output


def test_they_have_names() -> None:
    assert models.names()[-4:] == NAMES == list(real.MODELS)


@pytest.mark.parametrize(("name", "package", "nodes", "opset", "shape", "output"), CASES)
def test_file_and_feeds(
    name: str,
    package: str,
    nodes: int,
    opset: int,
    shape: tuple[int, ...],
    output: tuple[int, ...],
    tmp_path: Path,
) -> None:
    need(package)
    path = tmp_path / "m.onnx"
    models.write(name, path)
    assert path.read_bytes() == real.path(name).read_bytes()
    model = onnx.load(path)
    assert len(model.graph.node) == nodes
    assert model.opset_import[0].version == opset
    values = run(path, models.feeds(name, shape))
    assert values.shape == output
    assert np.isfinite(values).all()
    assert package not in sys.modules


@pytest.mark.parametrize(("name", "package"), [case[:2] for case in CASES])
def test_feeds_repeat(name: str, package: str) -> None:
    need(package)
    shape = next(case[4] for case in CASES if case[0] == name)
    first, again, other = (models.feeds(name, shape, seed=seed) for seed in (1, 1, 2))
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
        assert (value != other[key]).any()


def test_magika_knows_python(tmp_path: Path) -> None:
    need(MAGIKA)
    models.write("magika", tmp_path / "m.onnx")
    sources = [file for file in real.files() if file.suffix == ".py"][:20]
    x = np.stack([real.file_tokens(file.read_bytes()) for file in sources])
    labels = run(tmp_path / "m.onnx", {"bytes": x}).argmax(axis=1)
    assert np.bincount(labels).max() >= 18


def test_file_tokens() -> None:
    tokens = real.file_tokens(b"  abc \n")
    assert tokens.dtype == np.int32
    assert tokens.shape == (2048,)
    assert tokens[:5].tolist() == [*b"abc \n"]
    assert tokens[-5:].tolist() == [*b"  abc"]
    assert (tokens[5:-5] == 256).all()
    long = bytes(range(65, 165)) * 100
    assert real.file_tokens(long)[:1024].tolist() == [*long[:1024]]
    assert real.file_tokens(long)[1024:].tolist() == [*long[-1024:]]
    assert (real.file_tokens(b"") == 256).all()


def test_recogniser_reads_a_line(tmp_path: Path) -> None:
    need(OCR)
    models.write("ocr_rec", tmp_path / "m.onnx")
    characters = real.characters()
    assert len(characters) == 6625
    assert characters[0] == ""
    assert characters[-1] == " "
    x = lines.fitted(lines.line("Planck 1900", 32), 48, 240)[None]
    best = run(tmp_path / "m.onnx", {"x": x})[0].argmax(axis=1)
    kept = best[np.insert(best[1:] != best[:-1], 0, True)]
    assert "".join(characters[index] for index in kept).strip() == "Planck 1900"


def test_classifier_sees_what_is_upside_down(tmp_path: Path) -> None:
    need(OCR)
    models.write("ocr_cls", tmp_path / "m.onnx")
    turned = run(tmp_path / "m.onnx", models.feeds("ocr_cls", (6, 48, 192))).argmax(axis=1)
    assert turned.tolist() == [0, 1, 0, 1, 0, 1]


def test_sentences_repeat() -> None:
    assert lines.sentences(3, 7) == lines.sentences(3, 7) != lines.sentences(3, 8)
    assert all(len(text.split()) == 5 for text in lines.sentences(20, 0))


# Errors.


@pytest.mark.parametrize("name", NAMES)
def test_missing_package(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    package = "magika==1.0.3" if name == "magika" else "rapidocr-onnxruntime==1.4.4"
    message = rf"{name} \(extra: planck\[models\]\) needs the package {package}, .*pip install"
    with pytest.raises(ImportError, match=message) as caught:
        models.write(name, tmp_path / "m.onnx")
    assert type(caught.value).__name__ == "MissingPackageError"
    assert list(tmp_path.iterdir()) == []


def test_other_version_of_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(real, "folder", lambda *_: tmp_path)
    with pytest.raises(ImportError, match="which the installed package lacks: pip install"):
        real.path("magika")


def test_drawing_needs_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"drawing text needs the package pillow"):
        models.feeds("ocr_det", (1, 64, 64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "mini"}, "magika is a file of a package, as it is: it has no size"),
        ({"opset": 17}, "it has no opset"),
        ({"external_data": True}, "it has no external_data"),
        ({"layernorm": "op"}, "it has no layernorm"),
    ],
)
def test_nothing_to_choose(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        models.write("magika", tmp_path / "m.onnx", **arguments)


def test_no_graph() -> None:
    with pytest.raises(ValueError, match="magika is a file of a package: write copies it"):
        models.build("magika")
    with pytest.raises(ValueError, match="no packaged model 'bert'; they are magika, ocr_det"):
        real.path("bert")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("magika", (1, 2048), r"must be \(batch,\)"),
        ("magika", (0,), r"must be \(batch,\)"),
        ("ocr_det", (1, 100, 64), "multiples of 32"),
        ("ocr_det", (1, 64), r"must be \(batch, height, width\)"),
        ("ocr_rec", (1, 32, 320), r"must be \(batch, 48, width\)"),
        ("ocr_cls", (1, 48, 190), r"with a width of 8 \* n"),
    ],
)
def test_bad_shapes(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.feeds(name, shape)
