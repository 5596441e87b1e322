"""Train the network that reads digits, first in float, then with int8 simulated.

    python -m bench.train.train_digits

The second training is quantisation-aware (bench/train/grids.py) for all products.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.train import digits
from bench.train.fit import Loss, Schedule, Tensors, fit, keep, task_of
from bench.train.grids import Grid, Ranges, as_they_are, keep_ranges
from bench.train.task import Batch
from bench.train.torch_parts import Scope, as_tensors, batch_norm, initial
from planck.models._vision import BATCHNORM_EPSILON
from planck.models.digits import SIDE

_PRICE = 0.3  # of the mean of a Relu


def activations(
    tensors: Tensors, image: Tensor, grid: Grid = as_they_are, training: bool = False
) -> list[Tensor]:
    """What every Relu gives, then the logits f32 [B, 10]."""
    top, found = Scope(tensors), []

    def conv(number: int, x: Tensor) -> Tensor:
        x, weight = grid(f"conv{number}", x, (top / f"conv{number}")["weight"])
        x = F.conv2d(x, weight, padding=1)
        return batch_norm(top / f"bn{number}", x, BATCHNORM_EPSILON, training)

    def relu(x: Tensor) -> Tensor:
        found.append(F.relu(x))
        return found[-1]

    def full(name: str, x: Tensor) -> Tensor:
        x, weight = grid(name, x, (top / name)["weight"])
        return F.linear(x, weight, (top / name)["bias"])

    x = relu(conv(1, image))
    x = relu(conv(3, relu(conv(2, x))) + x)
    x = relu(conv(4, F.max_pool2d(x, 2)))
    x = relu(full("fc1", x.flatten(1)))
    return [*found, full("fc2", x)]


def forward(tensors: Tensors, feeds: Tensors, grid: Grid = as_they_are) -> Tensors:
    """Logits f32 [B, 10]."""
    return {"logits": activations(tensors, feeds["image"], grid)[-1]}


def shifted(split: int, number: int, samples: int) -> Batch:
    """Pictures for training, each moved by up to one pixel both ways, with some noise."""
    batch = digits.make(split, number, samples)
    random = np.random.default_rng([split, number, 5])
    images = np.pad(batch.feeds["image"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = random.integers(0, 3, size=(len(images), 2))
    corners[random.random(len(images)) < 0.5] = 1
    moved = np.stack(
        [
            x[:, row : row + SIDE, column : column + SIDE]
            for x, (row, column) in zip(images, corners, strict=True)
        ]
    )
    moved += (moved > 0) * random.normal(0.0, 0.05, size=moved.shape)
    return Batch({"image": moved.clip(0, 1).astype(np.float32)}, batch.answers)


def sparse_loss(tensors: Tensors, batch: Batch) -> Tensor:
    """Cross entropy, and a price on what the Relus let through: most of it becomes zero."""
    *found, logits = activations(tensors, as_tensors(batch.feeds)["image"], training=True)
    price = torch.stack([x.mean() for x in found]).sum()
    return _entropy(logits, batch) + _PRICE * price


def _entropy(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(logits, as_tensors(batch.answers)["label"])


def grid_loss(grid: Grid) -> Loss:
    """Cross entropy of the network on grids."""

    def loss(tensors: Tensors, batch: Batch) -> Tensor:
        image = as_tensors(batch.feeds)["image"]
        return _entropy(activations(tensors, image, grid)[-1], batch)

    return loss


def main() -> None:
    """Train, store, print; then once more with int8 simulated."""
    task = task_of("digits")
    tensors = initial(task.model, seed=1)
    fit(tensors, sparse_loss, shifted, Schedule(steps=3000, batch=128, rate=4e-3))
    keep("digits", task, tensors, forward, shown=8)
    ranges = Ranges()
    fit(tensors, grid_loss(ranges), shifted, Schedule(steps=600, batch=128, rate=5e-4))
    ranges.learns = False
    fit(tensors, grid_loss(ranges), shifted, Schedule(steps=400, batch=128, rate=2e-4))
    keep("digits_qat", task, tensors, forward, shown=8)
    keep_ranges("digits_qat", task, tensors, ranges, forward)


if __name__ == "__main__":
    main()
