"""What int8 costs trained models, measured on their own tasks.

    python bench/int8_accuracy.py [--only minilm,magika,ocr] [--full] [--json PATH]

Each row is a model under a recipe: calibrated on samples that the measurement does not see,
quantised by `planck.build(precision="int8")`, and compared with the float plan. Goals: one number
for each model that a precision has to keep. Non-goals: speed, which `bench/models.py` has.
minilm  cosine of sentence embeddings to the float ones (mean and worst), and the share of
        sentences whose nearest neighbour stays the same
magika  share of files that keep their label
ocr     share of characters of drawn lines that are read right, in float and in int8
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pydoc
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a script's path has only bench/

from bench import ocr
from bench.peers import Array, import_planck

Feeds = dict[str, Array]
BATCH = 8
_MODULES = """
    argparse ast asyncio base64 calendar cmath codecs collections concurrent.futures
    configparser contextlib copy csv ctypes datetime decimal difflib dis email.message enum
    fractions ftplib functools gettext glob gzip hashlib heapq html.parser http.client
    http.cookiejar imaplib inspect io ipaddress itertools json locale logging lzma mailbox math
    mimetypes multiprocessing numbers operator os pathlib pickle platform plistlib poplib pprint
    queue random re sched secrets selectors shelve shlex shutil signal smtplib socket
    socketserver ssl statistics string struct subprocess sys tarfile tempfile textwrap threading
    timeit tokenize traceback tracemalloc types typing unittest unittest.mock urllib.parse
    urllib.request uuid warnings wave weakref xml.dom.minidom xml.etree.ElementTree
    xmlrpc.client zipfile zlib
"""
DOCUMENTED = re.findall(r"\S+", _MODULES)


@dataclass(frozen=True, slots=True)
class Row:
    """A model under a recipe: what was measured by name, on how many samples of which kind."""

    model: str
    recipe: str
    samples: str
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is quantised: what is smoothed first, thresholds, options of placement."""

    name: str
    smooth: str = ""  # "norms", "all" (planck.smooth), or nothing
    solve: dict[str, Any] = field(default_factory=dict)
    placement: dict[str, Any] = field(default_factory=dict)


# --- quantising -------------------------------------------------------------------------------


def int8_plan(path: Path, samples: Sequence[Feeds], recipe: Recipe) -> Any:
    """The plan of a model file in int8, with scales from the samples."""
    planck = import_planck()
    model: Any = path
    if recipe.smooth:
        smoothed = planck.smooth(path, samples[:4], groups=recipe.smooth)
        model = smoothed.SerializeToString()
    scales = planck.calibrate(model, samples).solve(**recipe.solve)
    return planck.build(model, precision="int8", scales=scales, placement=recipe.placement)


def written(name: str, folder: str) -> Path:
    """The model of planck.models as a file."""
    path = Path(folder) / f"{name}.onnx"
    import_planck("planck.models").write(name, path)
    return path


# --- MiniLM -----------------------------------------------------------------------------------

MINILM = (
    Recipe("auto"),
    Recipe("norms smoothed", smooth="norms"),
    Recipe("all smoothed", smooth="all"),
    Recipe(
        "all smoothed, FFN out float", "all", placement={"exclude": ["*layer.?/output/dense/*"]}
    ),
)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences out of the docstrings of the standard library, each once, in a random order."""
    found: dict[str, None] = {}
    for name in DOCUMENTED:
        for text in _docstrings(importlib.import_module(name)):
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
                if 30 <= len(sentence) <= 250:
                    found[sentence] = None
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(found))
    listed = list(found)
    if count > len(listed):
        raise ValueError(f"count is {count}; the docstrings have {len(listed)} sentences")
    return [listed[index] for index in order[:count]]


def _docstrings(module: Any) -> Iterator[str]:
    for holder in (module, *(v for _, v in sorted(vars(module).items()) if inspect.isclass(v))):
        for _, value in sorted(vars(holder).items()):
            if inspect.isroutine(value) or inspect.isclass(value):
                yield pydoc.getdoc(value)


def token_feeds(texts: Sequence[str]) -> list[Feeds]:
    """Batches of about the same length, so that little is padding."""
    tokenize = import_planck("planck.models").tokenize
    return [tokenize(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]


def embeddings(plan: Any, batches: Sequence[Feeds]) -> Array:
    """f32 [sentences, width], rows of length 1."""
    return np.concatenate([plan.run(feeds)["sentence_embedding"] for feeds in batches])


def compared(want: Array, got: Array) -> dict[str, float]:
    """Cosines of rows of length 1, and how many rows keep their nearest neighbour."""
    cosines = (want * got).sum(axis=1)
    return {
        "cosine": float(cosines.mean()),
        "worst cosine": float(cosines.min()),
        "nearest kept": float((_nearest(want) == _nearest(got)).mean()),
    }


def _nearest(rows: Array) -> Array:
    likeness = rows @ rows.T
    np.fill_diagonal(likeness, -np.inf)
    nearest: Array = likeness.argmax(axis=1)
    return nearest


def minilm(
    count: int = 1000, calibrated: int = 64, recipes: Sequence[Recipe] = MINILM
) -> list[Row]:
    """Sentence embeddings; `count` sentences are measured, others calibrate."""
    texts = sentences(count + calibrated)
    measured = token_feeds(sorted(texts[:count], key=len))
    samples = token_feeds(texts[count:])
    out = []
    with tempfile.TemporaryDirectory() as folder:
        path = written("minilm", folder)
        want = embeddings(import_planck().build(path), measured)
        for recipe in recipes:
            got = embeddings(int8_plan(path, samples, recipe), measured)
            out.append(Row("minilm", recipe.name, f"{count} sentences", compared(want, got)))
    return out


# --- magika -----------------------------------------------------------------------------------

MAGIKA = (Recipe("auto"),)


def magika(count: int = 500, calibrated: int = 64, recipes: Sequence[Recipe] = MAGIKA) -> list[Row]:
    """Labels of files of the standard library; others calibrate."""
    real = import_planck("planck.models.real")
    files = real.files()
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(files))
    tokens = [real.file_tokens(files[i].read_bytes()) for i in order[: count + calibrated]]
    batches = [
        {"bytes": np.stack(tokens[start : start + BATCH])} for start in range(0, len(tokens), BATCH)
    ]
    split = -(-calibrated // BATCH)
    out = []
    with tempfile.TemporaryDirectory() as folder:
        path = written("magika", folder)
        want = _labels(import_planck().build(path), batches[split:])
        for recipe in recipes:
            got = _labels(int8_plan(path, batches[:split], recipe), batches[split:])
            kept = {"same label": float((want == got).mean())}
            out.append(Row("magika", recipe.name, f"{len(want)} files", kept))
    return out


def _labels(plan: Any, batches: Sequence[Feeds]) -> Array:
    return np.concatenate([plan.run(feeds)["target_label"].argmax(axis=1) for feeds in batches])


# --- OCR --------------------------------------------------------------------------------------

OCR = (Recipe("auto"),)
_SIZE = 32  # of the font, in pixels
_SEED = 7  # of the lines that calibrate; 0 is that of the measured ones


def text_reading(
    count: int = 200, calibrated: int = 20, recipes: Sequence[Recipe] = OCR
) -> list[Row]:
    """Detector and recogniser together on drawn pages."""
    planck = import_planck()
    out = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [written(name, folder) for name in ("ocr_det", "ocr_rec")]
        floats = [planck.build(path) for path in paths]
        samples: tuple[list[Feeds], list[Feeds]] = ([], [])
        models = [_spied(plan, kept) for plan, kept in zip(floats, samples, strict=True)]
        _read(models[0], models[1], calibrated, _SEED)
        before = _read(_model(floats[0]), _model(floats[1]), count, 0)
        for recipe in recipes:
            plans = [int8_plan(p, s, recipe) for p, s in zip(paths, samples, strict=True)]
            after = _read(_model(plans[0]), _model(plans[1]), count, 0)
            measured = {"float characters": before, "int8 characters": after}
            out.append(Row("ocr", recipe.name, f"{count} lines", measured))
    return out


def _model(plan: Any) -> ocr.Model:
    output = plan.outputs[0].name
    return lambda x: np.asarray(plan.run({"x": x})[output])


def _spied(plan: Any, kept: list[Feeds]) -> ocr.Model:
    """The model, and what it was fed with is kept."""
    model = _model(plan)

    def run(x: Array) -> Array:
        kept.append({"x": np.array(x)})
        return model(x)

    return run


def _read(detector: ocr.Model, recogniser: ocr.Model, count: int, seed: int) -> float:
    """Share of characters that are right, of `count` lines."""
    lines = import_planck("planck.models.lines")
    characters = import_planck("planck.models.real").characters()
    texts = lines.sentences(count, seed)
    step = ocr.LINES_PER_PAGE
    height = -(-step * 2 * _SIZE // 32) * 32
    wrong = total = 0
    for page in (texts[start : start + step] for start in range(0, count, step)):
        pixels = lines.page(page, height, ocr.PAGE_WIDTH, _SIZE)
        drawn = "\n".join(page)
        wrong += ocr.edits(drawn, ocr.read_page(detector, recogniser, pixels, characters))
        total += len(drawn)
    return 1 - wrong / total


# --- table ------------------------------------------------------------------------------------

TASKS: dict[str, tuple[Callable[..., list[Row]], int, int]] = {  # samples: quick, full
    "minilm": (minilm, 200, 1000),
    "magika": (magika, 100, 500),
    "ocr": (text_reading, 20, 200),
}


def table(rows: Sequence[Row]) -> str:
    """A line for each row, numbers to five places."""
    lines = []
    for row in rows:
        numbers = "  ".join(f"{name} {value:.5f}" for name, value in row.measured.items())
        lines.append(f"{row.model:<8} {row.recipe:<24} {row.samples:<16} {numbers}")
    return "\n".join(lines)


def main() -> None:
    """Prints the table, a task at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(TASKS), help="tasks, with commas between them")
    parser.add_argument("--full", action="store_true", help="as many samples as are quoted")
    parser.add_argument("--json", help="also write the rows here")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.only.split(","):
        if name not in TASKS:
            parser.error(f"there is no task {name!r}; they are {', '.join(TASKS)}")
        task, quick, full = TASKS[name]
        found = task(full if options.full else quick)
        print(table(found), flush=True)
        rows += found
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
