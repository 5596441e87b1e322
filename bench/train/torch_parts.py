"""The layers of planck.models in torch, over tensors under the names of the module tree.

Shapes in the docstrings: B batch, L length, D width, H heads, S = D / H.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

import planck.models
from bench.train.task import Array
from planck.models._weights import Generated, Kind
from planck.models.bert import Config

DEVICE = os.environ.get("TRAIN_DEVICE", "cpu")  # where trainings run; what is kept runs on the CPU


class Initial:
    """First weights of a training, and the record of what a graph asks for.

    As planck.models generates them, but without biases, and with products that keep a signal's
    strength: a deviation of 0.02 is that of wide layers.
    """

    def __init__(self, seed: int) -> None:
        self._generated = Generated(seed)
        self.tensors: dict[str, Array] = {}

    def tensor(self, name: str, shape: tuple[int, ...], kind: Kind) -> Array:
        """Return f32 [shape] and remember it."""
        values = self._generated.tensor(name, shape, "lecun" if kind == "weight" else kind)
        if kind in ("scale", "residual_scale", "variance"):
            values = np.ones_like(values)
        elif kind == "bias":
            values = np.zeros_like(values)
        self.tensors[name] = values
        return values


def initial(name: str, seed: int) -> dict[str, Tensor]:
    """All parameters of the mini of a model, ready to be trained."""
    graph, source = planck.models.build(name, size="mini"), Initial(seed)
    graph.take_weights_from(source)
    for tensor in graph.initializers:
        tensor.make()
    return {
        key: torch.tensor(values, requires_grad="running_" not in key, device=DEVICE)
        for key, values in source.tensors.items()
    }


@dataclass(frozen=True, slots=True)
class Scope:
    """The tensors of a module: scope / "encoder" is a sub-module, scope["weight"] a tensor."""

    tensors: dict[str, Tensor]
    path: str = ""

    def __truediv__(self, module: str) -> Scope:
        return Scope(self.tensors, f"{self.path}{module}.")

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.path + name]

    def get(self, name: str) -> Tensor | None:
        """The tensor, or None when the module has none of that name."""
        return self.tensors.get(self.path + name)


def linear(s: Scope, x: Tensor) -> Tensor:
    """[..., inputs] -> [..., outputs]."""
    return F.linear(x, s["weight"], s.get("bias"))


def layernorm(s: Scope, x: Tensor, epsilon: float) -> Tensor:
    """Over the last axis."""
    return F.layer_norm(x, x.shape[-1:], s["weight"], s["bias"], epsilon)


def attention(
    s: Scope,
    queries: Tensor,
    keys: Tensor,
    mask: Tensor,
    heads: int,
    modules: tuple[str, str, str] = ("query", "key", "value"),
) -> Tensor:
    """From queries [B, Lq, Dq] to keys [B, Lk, Dk] -> [B, Lq, H * S]; mask is added to scores."""

    def split(x: Tensor) -> Tensor:
        return x.unflatten(2, (heads, -1)).transpose(1, 2)

    query, key, value = (
        split(linear(s / name, x)) for name, x in zip(modules, (queries, keys, keys), strict=True)
    )
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3]) + mask
    return (scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2)


def residual_norm(
    s: Scope, x: Tensor, residual: Tensor, epsilon: float, number: str = ""
) -> Tensor:
    """Linear, plus the residual, LayerNorm."""
    return layernorm(s / f"LayerNorm{number}", linear(s / f"dense{number}", x) + residual, epsilon)


def feed_forward(s: Scope, x: Tensor, epsilon: float, prefix: str = "") -> Tensor:
    """Linear, GELU, Linear, residual and LayerNorm on [..., D]."""
    hidden = F.gelu(linear(s / f"{prefix}intermediate" / "dense", x))
    return residual_norm(s / f"{prefix}output", hidden, x, epsilon)


def encoder_block(s: Scope, x: Tensor, mask: Tensor, heads: int, epsilon: float) -> Tensor:
    """A post-norm transformer block on [B, L, D]."""
    attended = attention(s / "attention" / "self", x, x, mask, heads)
    x = residual_norm(s / "attention" / "output", attended, x, epsilon)
    return feed_forward(s, x, epsilon)


def additive_mask(mask: Tensor, lowest: float) -> Tensor:
    """i64 [B, L], 1 = valid -> f32 [B, 1, 1, L]: 0 where valid, `lowest` elsewhere."""
    return (1.0 - mask[:, None, None].float()) * lowest


def token_embeddings(s: Scope, ids: Tensor, types: Tensor, epsilon: float) -> Tensor:
    """ids and types i64 [B, L] -> f32 [B, L, D]."""
    places = (s / "position_embeddings")["weight"][: ids.shape[1]]
    words = (s / "word_embeddings")["weight"][ids]
    x = words + (s / "token_type_embeddings")["weight"][types] + places
    return layernorm(s / "LayerNorm", x, epsilon)


def bert_trunk(s: Scope, feeds: dict[str, Tensor], config: Config, epsilon: float) -> Tensor:
    """Embeddings and blocks -> f32 [B, L, D]."""
    mask = additive_mask(feeds["attention_mask"], -1e9)
    x = token_embeddings(s / "embeddings", feeds["input_ids"], feeds["token_type_ids"], epsilon)
    for layer in range(config.layers):
        x = encoder_block(s / "encoder" / f"layer.{layer}", x, mask, config.heads, epsilon)
    return x


def batch_norm(s: Scope, x: Tensor, epsilon: float, training: bool) -> Tensor:
    """Over the channels of [B, C, H, W]; training moves the running statistics."""
    parameters = (s[name] for name in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *parameters, training=training, momentum=0.02, eps=epsilon)


def as_tensors(feeds: dict[str, Array], device: str = DEVICE) -> dict[str, Tensor]:
    """Arrays by name as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(x)).to(device) for name, x in feeds.items()}


def trainable(tensors: dict[str, Tensor]) -> Iterable[Tensor]:
    """The tensors that a training moves."""
    return [x for x in tensors.values() if x.requires_grad]


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, without gradients, with values that half precision holds, as they are stored."""
    return {name: x.detach().cpu().half().float() for name, x in tensors.items()}


def named_arrays(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Array]]:
    """Tensors by name as arrays f16, for the archive."""
    return ((name, x.detach().cpu().half().numpy()) for name, x in tensors.items())
