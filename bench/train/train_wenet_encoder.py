"""Train the WeNet mini to write down tones (bench/train/tones.py) with the loss of CTC.

    python -m bench.train.train_wenet_encoder

A second, shorter training is quantisation-aware (bench/train/grids.py) for the two feed-forward
parts of every block, which is what was done to the original.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.train import tones
from bench.train.fit import Schedule, Tensors, fit, keep, task_of
from bench.train.grids import Grid, Ranges, as_they_are, keep_ranges
from bench.train.task import TRAINING, Batch, Task
from bench.train.torch_parts import DEVICE, Scope, as_tensors, initial, layernorm, linear
from planck.models._wenet import EPSILON, position_table
from planck.models.wenet_encoder import CONFIGS

_CONFIG = CONFIGS["mini"]
_TABLE = torch.from_numpy(position_table(_CONFIG.width))


def forward(tensors: Tensors, feeds: Tensors, grid: Grid = as_they_are) -> Tensors:
    """encoder_out f32 [B, T', D], encoder_out_lens i32 [B], ctc_log_probs f32 [B, T', V]."""
    top = Scope(tensors)
    encoder, speech = top / "encoder", feeds["speech"]
    frames = torch.arange(speech.shape[1], device=speech.device)
    mask = (frames < feeds["speech_lengths"][:, None])[:, None, :-2:2][:, :, :-2:2]
    norm = encoder / "global_cmvn"
    x = _subsampled(encoder / "embed", (speech - norm["mean"]) * norm["istd"])
    places = _TABLE[:, : x.shape[1]].to(x.device)
    for layer in range(_CONFIG.layers):
        x = _block(encoder / f"encoders.{layer}", x, mask, places, grid)
    x = layernorm(encoder / "after_norm", x, EPSILON)
    log_probs = linear(top / "ctc" / "ctc_lo", x).log_softmax(dim=2)
    lengths = mask[:, 0].sum(dim=1).int()
    return {"encoder_out": x, "encoder_out_lens": lengths, "ctc_log_probs": log_probs}


def _subsampled(s: Scope, x: Tensor) -> Tensor:
    """Frames [B, T, 80] -> [B, T', D]."""
    x = x[:, None]
    for number in ("0", "2"):
        conv = s / "conv" / number
        x = F.relu(F.conv2d(x, conv["weight"], conv["bias"], stride=2))
    x = x.transpose(1, 2).flatten(2)
    return linear(s / "out" / "0", x) * math.sqrt(_CONFIG.width)


def _block(s: Scope, x: Tensor, mask: Tensor, places: Tensor, grid: Grid) -> Tensor:
    """A conformer block on [B, T', D]; mask bool [B, 1, T']."""
    x = x + 0.5 * _feed_forward(s, x, "_macaron", grid)
    normal = layernorm(s / "norm_mha", x, EPSILON)
    x = x + _attention(s / "self_attn", normal, mask, places)
    normal = layernorm(s / "norm_conv", x, EPSILON)
    x = x + _convolution(s / "conv_module", normal, mask)
    x = x + 0.5 * _feed_forward(s, x, "", grid)
    return layernorm(s / "norm_final", x, EPSILON)


def _feed_forward(s: Scope, x: Tensor, suffix: str, grid: Grid) -> Tensor:
    x = layernorm(s / f"norm_ff{suffix}", x, EPSILON)
    inner = s / f"feed_forward{suffix}"
    return _linear_on_grid(inner / "w_2", F.silu(_linear_on_grid(inner / "w_1", x, grid)), grid)


def _linear_on_grid(s: Scope, x: Tensor, grid: Grid) -> Tensor:
    x, weight = grid(s.path.removesuffix("."), x, s["weight"])
    return F.linear(x, weight, s["bias"])


def _attention(s: Scope, x: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    heads, size = _CONFIG.heads, _CONFIG.size
    query, key, value, place = (
        linear(s / f"linear_{name}", y).unflatten(2, (heads, size))
        for name, y in (("q", x), ("k", x), ("v", x), ("pos", places))
    )
    scores = _products(query + s["pos_bias_u"], key) + _products(query + s["pos_bias_v"], place)
    invalid = ~mask[:, None]
    scores = (scores / math.sqrt(size)).masked_fill(invalid, -torch.inf)
    weights = scores.softmax(dim=3).masked_fill(invalid, 0.0)
    context = (weights @ value.transpose(1, 2)).transpose(1, 2).flatten(2)
    return linear(s / "linear_out", context)


def _products(query: Tensor, key: Tensor) -> Tensor:
    """[B, Lq, H, S], [B, Lk, H, S] -> [B, H, Lq, Lk]."""
    return query.transpose(1, 2) @ key.permute(0, 2, 3, 1)


def _convolution(s: Scope, x: Tensor, mask: Tensor) -> Tensor:
    first, depthwise, second = (
        s / name for name in ("pointwise_conv1", "depthwise_conv", "pointwise_conv2")
    )
    x = x.transpose(1, 2).masked_fill(~mask, 0.0)
    x = F.glu(F.conv1d(x, first["weight"], first["bias"]), dim=1)
    kernel, channels = depthwise["weight"], x.shape[1]
    x = F.conv1d(x, kernel, depthwise["bias"], padding=kernel.shape[2] // 2, groups=channels)
    x = F.conv1d(F.silu(x), second["weight"], second["bias"])
    return x.masked_fill(~mask, 0.0).transpose(1, 2)


def loss(tensors: Tensors, batch: Batch, grid: Grid = as_they_are) -> Tensor:
    """Of CTC, per tone."""
    outputs = forward(tensors, as_tensors(batch.feeds), grid)
    labels = torch.tensor([label for row in batch.answers["labels"] for label in row])
    counts = torch.tensor([len(row) for row in batch.answers["labels"]])
    log_probs = outputs["ctc_log_probs"].transpose(0, 1)
    lengths = outputs["encoder_out_lens"].long()
    return F.ctc_loss(log_probs, labels.to(log_probs.device), lengths, counts, blank=tones.BLANK)


def _normalise(tensors: Tensors) -> None:
    """Mean and inverse deviation of every mel band, out of some utterances for training."""
    speech = tones.make(TRAINING, 0, 64).feeds
    frames = np.concatenate(
        [x[:n] for x, n in zip(speech["speech"], speech["speech_lengths"], strict=True)]
    )
    for name, values in (("mean", frames.mean(axis=0)), ("istd", 1 / frames.std(axis=0))):
        tensors[f"encoder.global_cmvn.{name}"] = torch.from_numpy(values).to(DEVICE)


def main() -> None:
    """Train, store, print."""
    task = task_of("wenet_encoder")
    tensors = initial(task.model, seed=1)
    _normalise(tensors)
    fit(tensors, loss, task.make, Schedule(steps=3000, batch=32, rate=2e-3))
    keep(task.model, task, tensors, forward, shown=2)
    train_on_grids(task, tensors)


def train_on_grids(task: Task, tensors: Tensors) -> None:
    """Go on from float weights with int8 simulated; the ranges settle, then stay."""
    ranges = Ranges()
    on_grids = partial(loss, grid=ranges)
    fit(tensors, on_grids, task.make, Schedule(steps=40, batch=16, rate=2e-4))
    ranges.learns = False
    fit(tensors, on_grids, task.make, Schedule(steps=20, batch=16, rate=1e-4))
    keep("wenet_encoder_qat", task, tensors, forward, shown=2)
    keep_ranges("wenet_encoder_qat", task, tensors, ranges, forward)


if __name__ == "__main__":
    main()
