"""What a plan, or any engine, is worth on the held-out samples of a mini's task; no torch.

python -m bench.train.evaluate                      # every mini in fp32, with loss and score
python -m bench.train.evaluate digits --samples 100
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from bench.train import digits, patterns, scenes, tones
from bench.train.task import CALIBRATION, HELD_OUT, Array, Arrays, Task

TASKS: dict[str, Task] = {
    module.TASK.model: module.TASK for module in (digits, patterns, tones, scenes)
}

Function = Callable[[dict[str, Array]], Arrays]


class Runner(Protocol):
    """Runs a model on arrays by name, as planck.Plan does."""

    def run(self, feeds: dict[str, Array]) -> Arrays:
        """Return the outputs by name."""
        ...


def evaluate(name: str, plan: Runner | Function, samples: int | None = None) -> float:
    """Return the metric of a task; the error rate of wenet_encoder is best when low.

    name: digits, bert_classifier (accuracy), wenet_encoder (edits per tone), vilbert (share of
    right regions). plan: a planck.Plan, or a function from feeds to outputs by name. samples: of
    the held-out set; None takes all. Errors: ValueError for another name.
    """
    return next(iter(measure(name, plan, samples).values()))


def measure(name: str, plan: Runner | Function, samples: int | None = None) -> dict[str, float]:
    """Return all measures of a task by name, the metric first; arguments as for `evaluate`."""
    task, run = _task(name), _function(plan)
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for batch in task.batches(HELD_OUT, samples):
        for measure, (total, count) in task.score(run(batch.feeds), batch).items():
            sums[measure] = sums.get(measure, 0.0) + total
            counts[measure] = counts.get(measure, 0.0) + count
    return {measure: sums[measure] / counts[measure] for measure in sums}


def agreement(
    name: str, plan: Runner | Function, reference: Runner | Function, samples: int | None = None
) -> float:
    """Return the share of held-out samples on which two engines decide the same.

    A decision is a class, a region, or for wenet_encoder the whole sequence of tones.
    """
    task, run, expected = _task(name), _function(plan), _function(reference)
    same = total = 0
    for batch in task.batches(HELD_OUT, samples):
        pairs = zip(
            task.decide(run(batch.feeds), batch.feeds),
            task.decide(expected(batch.feeds), batch.feeds),
            strict=True,
        )
        same += sum(a == b for a, b in pairs)
        total += batch.samples
    return same / total


def calibration(name: str, samples: int = 256) -> Iterator[dict[str, Array]]:
    """Yield feeds to calibrate on: no sample of them is held out."""
    return (batch.feeds for batch in _task(name).batches(CALIBRATION, samples))


def _task(name: str) -> Task:
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}; the tasks are " + ", ".join(TASKS))
    return TASKS[name]


def _function(plan: Runner | Function) -> Function:
    return plan.run if hasattr(plan, "run") else plan


def main() -> None:
    """Print every measure of the minis asked for."""
    import planck
    import planck.models

    parser = argparse.ArgumentParser(description="measure the trained minis in fp32")
    parser.add_argument("names", nargs="*", choices=[[], *TASKS])
    parser.add_argument("--samples", type=int)
    arguments = parser.parse_args()
    for name in arguments.names or TASKS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.onnx"
            planck.models.write(name, path, size="mini", trained=True)
            print(name, _text(measure(name, planck.build(path), arguments.samples)))


def _text(measures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in measures.items())


if __name__ == "__main__":
    main()
