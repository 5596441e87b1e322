"""One training loop for all minis, and what is kept of a training."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.train.evaluate import TASKS, measure
from bench.train.task import HELD_OUT, TRAINING, Array, Arrays, Batch, Task
from bench.train.torch_parts import as_tensors, named_arrays, rounded, trainable

HERE = Path(__file__).parent
WEIGHTS = HERE.parents[1] / "python" / "planck" / "models" / "trained"
METRICS = HERE / "metrics.json"

Tensors = dict[str, Tensor]
Forward = Callable[[Tensors, Tensors], Tensors]
Loss = Callable[[Tensors, Batch], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Steps of AdamW at a batch size; the rate rises for a tenth of them, then falls to zero."""

    steps: int
    batch: int
    rate: float
    decay: float = 0.01


def fit(
    tensors: Tensors, loss: Loss, make: Callable[[int, int, int], Batch], plan: Schedule
) -> None:
    """Train tensors in place on batches of the training split, printing the loss now and then."""
    parameters = trainable(tensors)
    optimiser = torch.optim.AdamW(parameters, lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.rate, total_steps=plan.steps, pct_start=0.1
    )
    began, recent = time.monotonic(), 0.0
    for step, batch in enumerate(_batches(make, plan), start=1):
        optimiser.zero_grad()
        value = loss(tensors, batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        recent += (float(value.detach()) - recent) / min(step, 50)
        if step % 200 == 0 or step == plan.steps:
            print(f"step {step}: loss {recent:.4f}, {time.monotonic() - began:.0f} s", flush=True)


def _batches(make: Callable[[int, int, int], Batch], plan: Schedule) -> Iterator[Batch]:
    """Training batches in their order; TRAIN_WORKERS processes make them ahead of time."""
    batch = partial(_training_batch, make, plan.batch)
    workers = int(os.environ.get("TRAIN_WORKERS", "0"))
    if workers == 0:
        yield from map(batch, range(plan.steps))
        return
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.imap(batch, range(plan.steps))


def _training_batch(make: Callable[[int, int, int], Batch], samples: int, number: int) -> Batch:
    return make(TRAINING, number, samples)


def keep(stem: str, task: Task, tensors: Tensors, forward: Forward, shown: int) -> None:
    """Store weights in half precision, what torch says of `shown` samples, and the measures.

    Both come from the rounded weights, on the held-out set.
    """
    stored = rounded(tensors)

    def run(feeds: dict[str, Array]) -> Arrays:
        with torch.no_grad():
            outputs = forward(stored, as_tensors(feeds, "cpu"))
        return {name: x.numpy() for name, x in outputs.items()}

    save(WEIGHTS / f"{stem}.npz", dict(named_arrays(tensors)))
    save(HERE / "expected" / f"{stem}.npz", run(task.make(HELD_OUT, 0, shown).feeds))
    note(stem, measure(task.model, run))


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name as a compressed .npz file."""
    np.savez_compressed(path, **arrays)


def note(stem: str, measures: dict[str, float]) -> None:
    """Print measures and write them down under the name of the weights."""
    print(stem, ", ".join(f"{name} {value:.4f}" for name, value in measures.items()), flush=True)
    record = json.loads(METRICS.read_text(encoding="utf-8")) if METRICS.exists() else {}
    record[stem] = measures
    text = json.dumps(dict(sorted(record.items())), indent=2)
    METRICS.write_text(text + "\n", encoding="utf-8")


def task_of(model: str) -> Task:
    """The task of a model, with one thread for torch, as everything is small."""
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(int(os.environ.get("TRAIN_THREADS", "1")))
    torch.manual_seed(0)
    return TASKS[model]
