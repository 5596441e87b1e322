"""Train the network that reads digits, first in float, then with int8 simulated.

    python -m bench.train.train_digits

The second training is quantisation-aware: every product sees its input and its weights on grids
of 255 levels, and the gradient passes as if they were not there (straight-through estimator:
Y. Bengio, N. Leonard, A. Courville, "Estimating or Propagating Gradients Through Stochastic
Neurons", 2013). The ranges are stored under the names that pytorch-quantization gives its buffers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.train import digits
from bench.train.evaluate import measure
from bench.train.fit import HERE, Schedule, Tensors, fit, keep, note, save, task_of
from bench.train.task import Array, Arrays, Batch
from bench.train.torch_parts import Scope, as_tensors, batch_norm, initial, rounded
from planck.models._vision import BATCHNORM_EPSILON
from planck.models.digits import SIDE

# Of a module's input and its weight: what the product sees in their place.
Grid = Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]]
_LEVELS = 127
_PRICE = 0.3  # of the mean of a Relu


def as_they_are(module: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """No grid."""
    return x, weight


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


def forward(tensors: Tensors, feeds: Tensors) -> Tensors:
    """Logits f32 [B, 10]."""
    return {"logits": activations(tensors, feeds["image"])[-1]}


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


class Ranges:
    """Ranges of the inputs, the largest |x| of every module: a moving average while it learns."""

    def __init__(self) -> None:
        self.inputs: dict[str, float] = {}
        self.learns = True

    def __call__(self, module: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Both on their grids: the input per tensor, the weight per output channel."""
        largest = float(x.detach().abs().max())
        if self.learns:
            known = self.inputs.get(module, largest)
            self.inputs[module] = known + 0.02 * (largest - known)
        on_grid = _on_grid(x, torch.tensor(self.inputs[module], device=x.device), -_LEVELS - 1)
        return on_grid, _on_grid(weight, weight_range(weight), -_LEVELS)


def weight_range(weight: Tensor) -> Tensor:
    """The largest |w| of every output channel, of the weight's rank."""
    return weight.detach().abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True)


def _on_grid(x: Tensor, largest: Tensor, lowest: int) -> Tensor:
    """x rounded to multiples of largest / 127; the gradient is 1 inside the range, 0 outside."""
    scale = largest / _LEVELS
    inside = torch.minimum(torch.maximum(x, scale * lowest), largest)
    steps = torch.clamp(torch.round(x / scale), lowest, _LEVELS)
    return inside + (steps * scale - inside).detach()


def train_on_grid(tensors: Tensors) -> Ranges:
    """Go on from float weights with int8 simulated; the ranges settle, then stay."""
    ranges = Ranges()

    def loss(tensors: Tensors, batch: Batch) -> Tensor:
        image = as_tensors(batch.feeds)["image"]
        return _entropy(activations(tensors, image, ranges)[-1], batch)

    fit(tensors, loss, shifted, Schedule(steps=600, batch=128, rate=5e-4))
    ranges.learns = False
    fit(tensors, loss, shifted, Schedule(steps=400, batch=128, rate=2e-4))
    return ranges


def keep_ranges(tensors: Tensors, ranges: Ranges) -> None:
    """Store the ranges, and what the network is worth on the grids in torch."""
    stored = rounded(tensors)
    amax: dict[str, Array] = {}
    for module, largest in ranges.inputs.items():
        weight = stored[f"{module}.weight"]
        amax[f"{module}._input_quantizer._amax"] = np.array(largest, dtype=np.float32)
        amax[f"{module}._weight_quantizer._amax"] = weight_range(weight).numpy()
    save(HERE / "ranges" / "digits_qat.npz", amax)

    def run(feeds: dict[str, Array]) -> Arrays:
        with torch.no_grad():
            image = torch.from_numpy(feeds["image"])
            return {"logits": activations(stored, image, ranges)[-1].numpy()}

    note("digits_qat_int8", measure("digits", run))


def main() -> None:
    """Train, store, print; then once more with int8 simulated."""
    task = task_of("digits")
    tensors = initial(task.model, seed=1)
    fit(tensors, sparse_loss, shifted, Schedule(steps=3000, batch=128, rate=4e-3))
    keep("digits", task, tensors, forward, shown=8)
    ranges = train_on_grid(tensors)
    keep("digits_qat", task, tensors, forward, shown=8)
    keep_ranges(tensors, ranges)


if __name__ == "__main__":
    main()
