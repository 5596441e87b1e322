"""Int8 simulated in training: the grids, the ranges that are learnt, and the file they go to.

Products see their input and their weights on grids of 255 levels, and the gradient passes as if
these were not there (straight-through estimator: Y. Bengio, N. Leonard, A. Courville, "Estimating
or Propagating Gradients Through Stochastic Neurons", 2013). The ranges are stored under the names
that pytorch-quantization gives its buffers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.train.evaluate import measure
from bench.train.fit import HERE, Tensors, note, save
from bench.train.task import Array, Arrays, Task
from bench.train.torch_parts import as_tensors, rounded

# Of a module's name, its input and its weight: what the product sees in their place.
Grid = Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]]
_LEVELS = 127


def as_they_are(module: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """No grid."""
    return x, weight


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


def keep_ranges(
    stem: str,
    task: Task,
    tensors: Tensors,
    ranges: Ranges,
    forward: Callable[[Tensors, Tensors, Grid], Tensors],
) -> None:
    """Store the ranges, and what the network is worth on its grids in torch."""
    stored = rounded(tensors)
    amax: dict[str, Array] = {}
    for module, largest in ranges.inputs.items():
        weight = stored[f"{module}.weight"]
        amax[f"{module}._input_quantizer._amax"] = np.array(largest, dtype=np.float32)
        amax[f"{module}._weight_quantizer._amax"] = weight_range(weight).numpy()
    save(HERE / "ranges" / f"{stem}.npz", amax)

    def run(feeds: dict[str, Array]) -> Arrays:
        with torch.no_grad():
            outputs = forward(stored, as_tensors(feeds, "cpu"), ranges)
        return {name: x.numpy() for name, x in outputs.items()}

    note(f"{stem}_int8", measure(task.model, run))
