"""Trained models that lie inside ordinary Python packages: where they are, and inputs for them.

The packages are only looked up, never imported, so their own dependencies need not be installed:
`pip install --no-deps magika==1.0.3 rapidocr-onnxruntime==1.4.4 pillow` is enough, and the extra
`models` of Planck has them too.

magika         file type by content        bytes i32 [B, 2048] -> target_label f32 [B, 214]
ocr_det        where text is               x f32 [B, 3, H, W] -> probabilities f32 [B, 1, H, W]
ocr_rec        what a line of text says    x f32 [B, 3, 48, W] -> f32 [B, W / 8, 6625]
ocr_cls        is a line upside down       x f32 [B, 3, 48, W] -> f32 [B, 2]
"""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from planck.models import lines
from planck.models._optional import MissingPackageError, folder, require
from planck.models._weights import Array

LINE_HEIGHT = 48  # of the pictures of single lines
_STRIDE = 32  # what the detector's height and width must be multiples of
_BYTES = 1024  # that magika takes of either end of a file
_BLOCK = 4096  # that magika reads of either end, before it strips white space
_SMALLEST = 8  # bytes of a file that magika judges by its model
_PADDING = 256  # a token that no byte has


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model file of a package; feeds(shape, seed) returns one array per input."""

    module: str
    package: str
    file: str
    feeds: Callable[[tuple[int, ...], int], dict[str, Array]]


def path(name: str) -> Path:
    """Return where the file of a packaged model lies.

    Errors: ValueError for an unknown name; MissingPackageError (an ImportError) names the package
    to install, and the extra that has it.
    """
    if name not in MODELS:
        raise ValueError(f"there is no packaged model {name!r}; they are " + ", ".join(MODELS))
    model = MODELS[name]
    purpose = f"the trained model {name} (extra: planck[models])"
    file = folder(model.module, model.package, purpose) / model.file
    if not file.is_file():
        raise MissingPackageError(
            f"{purpose} needs {model.file}, which the installed package lacks: "
            f"pip install --no-deps {model.package}",
            name=model.module,
        )
    return file


def copy(name: str, target: str | Path) -> None:
    """Copy the file of a packaged model. Errors: those of `path`; OSError."""
    shutil.copyfile(path(name), target)


def feeds(name: str, shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    """Return inputs for a packaged model; see planck.models.feeds."""
    return MODELS[name].feeds(shape, seed)


def characters() -> list[str]:
    """Return what the outputs of ocr_rec stand for: output 0 is the blank, the last is a space."""
    onnx = require("onnx", "onnx", "reading the characters of ocr_rec")
    model = onnx.load(path("ocr_rec"))
    (listed,) = (entry.value for entry in model.metadata_props if entry.key == "character")
    return ["", *listed.split("\n"), " "]


def file_tokens(content: bytes) -> Array:
    """Return what magika sees of a file: i32 [2048], bytes of either end or 256 for "none"."""
    tokens = np.full(2 * _BYTES, _PADDING, dtype=np.int32)
    front, back = content[:_BLOCK].lstrip()[:_BYTES], content[-_BLOCK:].rstrip()[-_BYTES:]
    tokens[: len(front)] = np.frombuffer(front, dtype=np.uint8)
    tokens[2 * _BYTES - len(back) :] = np.frombuffer(back, dtype=np.uint8)
    return tokens


def files() -> list[Path]:
    """Return the files of the standard library, of many types, in a fixed order."""
    return list(_files())


@lru_cache(maxsize=1)
def _files() -> Sequence[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "__pycache__"}
    found = (file for file in library.rglob("*") if not skipped & set(file.parts))
    return sorted(file for file in found if file.is_file() and file.stat().st_size >= _SMALLEST)


def _magika_feeds(shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    if len(shape) != 1 or shape[0] < 1:
        raise ValueError(f"shape is {shape}, but must be (batch,) with batch >= 1")
    stream = np.random.Generator(np.random.PCG64(seed))
    chosen = stream.integers(len(_files()), size=shape[0])
    return {"bytes": np.stack([file_tokens(_files()[index].read_bytes()) for index in chosen])}


def _page_feeds(shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    batch, height, width = _checked(shape)
    if height % _STRIDE or width % _STRIDE:
        raise ValueError(f"shape is {shape}, but height and width must be multiples of {_STRIDE}")
    size = max(12, min(height, width) // 24)
    count = height // (2 * size)
    text = lines.sentences(batch * count, seed, words=max(1, width // (6 * size)))
    pages = [
        lines.page(text[index * count : (index + 1) * count], height, width, size)
        for index in range(batch)
    ]
    return {"x": np.stack([lines.normalised(page) for page in pages])}


def _line_feeds(shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    batch, height, width = _checked(shape)
    if height != LINE_HEIGHT or width % 8:
        raise ValueError(
            f"shape is {shape}, but must be (batch, {LINE_HEIGHT}, width) with a width of 8 * n"
        )
    text = lines.sentences(batch, seed, words=max(1, width // 96))
    pictures = [lines.fitted(lines.line(sentence, 32), height, width) for sentence in text]
    return {"x": np.stack(pictures)}


def _turned_feeds(shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    """Lines of which every second one is upside down."""
    x = _line_feeds(shape, seed)["x"]
    x[1::2] = x[1::2, :, ::-1, ::-1]
    return {"x": x}


def _checked(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape is {shape}, but must be (batch, height, width), all positive")
    return shape[0], shape[1], shape[2]


_OCR = ("rapidocr_onnxruntime", "rapidocr-onnxruntime==1.4.4")
MODELS = {
    "magika": Packaged("magika", "magika==1.0.3", "models/standard_v3_3/model.onnx", _magika_feeds),
    "ocr_det": Packaged(*_OCR, "models/ch_PP-OCRv4_det_infer.onnx", _page_feeds),
    "ocr_rec": Packaged(*_OCR, "models/ch_PP-OCRv4_rec_infer.onnx", _line_feeds),
    "ocr_cls": Packaged(*_OCR, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", _turned_feeds),
}
