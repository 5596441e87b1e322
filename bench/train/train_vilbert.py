"""Train the ViLBERT mini to find the region that a phrase names (bench/train/scenes.py).

python -m bench.train.train_vilbert
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.train import scenes
from bench.train.fit import Schedule, Tensors, fit, keep, task_of
from bench.train.task import Batch
from bench.train.torch_parts import (
    Scope,
    additive_mask,
    as_tensors,
    attention,
    encoder_block,
    feed_forward,
    initial,
    layernorm,
    linear,
    residual_norm,
    token_embeddings,
)
from planck.models.vilbert import CONFIGS, REGIONS

_EPSILON, _LOWEST = 1e-5, -10000.0
_WIDTHS_IN_TRAINING = (24, 48, REGIONS)  # regions of a batch, in turn
_CONFIG = CONFIGS["mini"]


def forward(tensors: Tensors, feeds: Tensors) -> Tensors:
    """Logits f32 [B, regions, 1]."""
    top = Scope(tensors)
    scope = top / "bert"
    text_mask = additive_mask(feeds["input_mask"], _LOWEST)
    mask = additive_mask(feeds["image_mask"], _LOWEST)
    text = token_embeddings(scope / "embeddings", feeds["question"], feeds["segment_ids"], _EPSILON)
    vision = _region_embeddings(scope / "v_embeddings", feeds["features"], feeds["spatials"])
    encoder, before = scope / "encoder", _CONFIG.text.layers - _CONFIG.connections
    for layer in range(before):
        name = f"layer.{layer}"
        text = encoder_block(encoder / name, text, text_mask, _CONFIG.text.heads, _EPSILON)
    for k in range(_CONFIG.connections):
        last = k == _CONFIG.connections - 1
        vision, text = _connection(
            encoder / f"c_layer.{k}", (text, vision), (text_mask, mask), last
        )
        name = f"v_layer.{k}"
        vision = encoder_block(encoder / name, vision, mask, _CONFIG.vision.heads, _EPSILON)
        if not last:
            name = f"layer.{before + k}"
            text = encoder_block(encoder / name, text, text_mask, _CONFIG.text.heads, _EPSILON)
    lowered = (1.0 - feeds["image_mask"].float()) * _LOWEST
    return {"vision_logit": linear(top / "vil_logit", vision) + lowered[..., None]}


def _region_embeddings(s: Scope, features: Tensor, spatials: Tensor) -> Tensor:
    image = linear(s / "image_embeddings", features)
    place = linear(s / "image_location_embeddings", spatials)
    return layernorm(s / "LayerNorm", image + place, _EPSILON)


def _connection(
    s: Scope, inputs: tuple[Tensor, Tensor], masks: tuple[Tensor, Tensor], last: bool
) -> tuple[Tensor, Tensor]:
    """Each stream (text, vision) asks the other -> (vision, text); the last leaves the text."""
    text, vision = inputs
    heads, ask, put = _CONFIG.bi_heads, s / "biattention", s / "biOutput"
    seen = attention(ask, vision, text, masks[0], heads, ("query1", "key2", "value2"))
    if not last:
        read = attention(ask, text, vision, masks[1], heads, ("query2", "key1", "value1"))
        text = feed_forward(s, residual_norm(put, read, text, _EPSILON, "2"), _EPSILON, "t_")
    vision = residual_norm(put, seen, vision, _EPSILON, "1")
    return feed_forward(s, vision, _EPSILON, "v_"), text


def make(split: int, number: int, samples: int) -> Batch:
    """Training batches of few and of many regions; few cost less."""
    regions = _WIDTHS_IN_TRAINING[number % len(_WIDTHS_IN_TRAINING)]
    return scenes.make(split, number, samples * REGIONS // (2 * regions), regions)


def loss(tensors: Tensors, batch: Batch) -> Tensor:
    """Binary cross-entropy x 100 regions as it is measured, and cross entropy over the regions.

    The second alone says which region is the best one, and learns faster.
    """
    logits = forward(tensors, as_tensors(batch.feeds))["vision_logit"][..., 0]
    overlap = as_tensors(batch.answers)["overlap"][..., 0]
    binary = F.binary_cross_entropy_with_logits(logits, overlap, reduction="none").sum(dim=1)
    return binary.mean() + F.cross_entropy(logits, overlap.argmax(dim=1))


def main() -> None:
    """Train, store, print."""
    task = task_of("vilbert")
    tensors = initial(task.model, seed=1)
    fit(tensors, loss, make, Schedule(steps=6000, batch=64, rate=2e-3))
    for name in ("word_embeddings", "position_embeddings"):
        table = tensors[f"bert.embeddings.{name}.weight"]
        table.data[scenes.unused(name)] = 0.0  # these rows were never read, nor trained
    keep(task.model, task, tensors, forward, shown=4)


if __name__ == "__main__":
    main()
