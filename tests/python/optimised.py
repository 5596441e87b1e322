"""Models as the optimizers of ONNX Runtime leave them, spelled with onnx.helper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
MaskForm = Literal["raw", "lengths"]
MICROSOFT = "com.microsoft"


class Builder:
    """Nodes, weights and inputs of one graph; values are known by name."""

    def __init__(self, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []

    def input(self, name: str, like: Array, dims: list[str | int]) -> str:
        kind = helper.np_dtype_to_tensor_dtype(like.dtype)
        self._inputs.append(helper.make_tensor_value_info(name, kind, dims))
        return name

    def weight(self, *shape: int, scale: float = 0.1, around: float = 0.0) -> str:
        values = around + scale * self._random.standard_normal(shape)
        return self.constant(values.astype(np.float32))

    def constant(self, values: Array) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(
        self, op: str, *inputs: str, outputs: tuple[str, ...] = (), domain: str = "", **attrs: Any
    ) -> str:
        results = outputs or (f"v{len(self._nodes)}",)
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, results, name, domain=domain, **attrs))
        return results[0]

    def fused(self, op: str, *inputs: str, outputs: tuple[str, ...] = (), **attrs: Any) -> str:
        """A node of domain com.microsoft."""
        return self.node(op, *inputs, outputs=outputs, domain=MICROSOFT, **attrs)

    def model(self, outputs: Mapping[str, int], opset: int = 17) -> ModelProto:
        """outputs: name -> element type."""
        results = [helper.make_tensor_value_info(n, kind, None) for n, kind in outputs.items()]
        graph = helper.make_graph(self._nodes, "optimised", self._inputs, results, self._weights)
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


def bert(mask: MaskForm = "raw", layers: int = 2, heads: int = 4, width: int = 64) -> ModelProto:
    """BERT-mini: feeds of `planck.models.feeds("bert_encoder", ..., size="mini")` fit.

    mask: "raw" gives [B,L] to every Attention; "lengths" the [B] that the embedding counts.
    """
    b = Builder()
    wide = [
        b.input(name, np.zeros((), np.int64), ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    ids, valid, types = (b.node("Cast", name, to=TensorProto.INT32) for name in wide)
    tables = [b.weight(rows, width) for rows in (512, 512, 2)]
    norm = [b.weight(width, around=1.0), b.weight(width)]
    counted = (valid,) if mask == "lengths" else ()
    b.fused(
        "EmbedLayerNormalization",
        *(ids, types, *tables, *norm, *counted),
        outputs=("embedded", "lengths"),
        epsilon=1e-12,
    )
    index = "lengths" if mask == "lengths" else valid
    x = "embedded"
    for layer in range(layers):
        x = _block(b, x, index, heads, width, skip_first=layer % 2 == 0)
    b.node("Identity", x, outputs=("last_hidden_state",))
    first = b.node("Gather", x, b.constant(np.array(0, np.int64)), axis=1)
    pooler = (first, b.weight(width, width), b.weight(width))
    b.fused("FusedGemm", *pooler, outputs=("pooler_output",), transB=1, activation="Tanh")
    kinds = {name: TensorProto.FLOAT for name in ("last_hidden_state", "pooler_output")}
    return b.model(kinds)


def _block(b: Builder, x: str, index: str, heads: int, width: int, skip_first: bool) -> str:
    """One layer; the optimizers put the product into either operand of the skip norm."""

    def add_norm(product: str, skip: str) -> str:
        pair = (skip, product) if skip_first else (product, skip)
        norm = (b.weight(width, around=1.0), b.weight(width), b.weight(width))
        return b.fused("SkipLayerNormalization", *pair, *norm, epsilon=1e-12)

    projections = (b.weight(width, 3 * width), b.weight(3 * width))
    context = b.fused("Attention", x, *projections, index, num_heads=heads)
    x = add_norm(b.node("MatMul", context, b.weight(width, width)), x)
    inner = b.node("MatMul", x, b.weight(width, 4 * width))
    inner = b.fused("BiasGelu", inner, b.weight(4 * width))
    return add_norm(b.node("MatMul", inner, b.weight(4 * width, width)), x)


def save(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
