"""What a plan, or any engine, is worth on the held-out samples of a mini's task; no torch.

python -m bench.train.evaluate                      # every mini in fp32, with loss and score
python -m bench.train.evaluate digits --samples 100
python -m bench.train.evaluate --int8               # the metric in int8, a column per method
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.train import digits, patterns, scenes, tones
from bench.train.task import CALIBRATION, HELD_OUT, Array, Arrays, Task

TASKS: dict[str, Task] = {
    module.TASK.model: module.TASK for module in (digits, patterns, tones, scenes)
}

Function = Callable[[dict[str, Array]], Arrays]

# How thresholds are found, by the heading of a column: arguments of planck.Calibration.solve.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "auto": ("auto", {}),
    "mse": ("mse", {}),
    "minmax": ("minmax", {}),
    "percentile": ("percentile", {}),
    "entropy": ("entropy", {}),
    "entropy, zeros kept": ("entropy", {"zero_policy": "keep"}),
}
RANGES = Path(__file__).parent / "ranges"
QAT = ("digits", "wenet_encoder")  # have weights of a training that simulated int8


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


def in_int8(
    name: str,
    methods: Sequence[str] = tuple(METHODS),
    samples: int | None = None,
    calibrated: int = 256,
) -> dict[str, float]:
    """Return the metric of a mini in float ("fp32") and in int8 by each of METHODS.

    samples: of the held-out set; None takes all. calibrated: samples of the calibration, one for
    all methods. Errors: ValueError for an unknown name, KeyError for an unknown method.
    """
    import planck

    with tempfile.TemporaryDirectory() as folder:
        path = _written(name, folder, True)
        out = {"fp32": evaluate(name, planck.build(path), samples)}
        seen = planck.calibrate(path, list(calibration(name, calibrated)))
        for column in methods:
            method, options = METHODS[column]
            scales = seen.solve(method, **options)
            plan = planck.build(path, precision="int8", scales=scales)
            out[column] = evaluate(name, plan, samples)
        return out


def in_int8_by_training(name: str, samples: int | None = None) -> dict[str, float]:
    """Return the metric of the QAT weights in float ("fp32") and in int8 by their own ranges.

    name: of QAT. Errors: ValueError for another.
    """
    import planck

    if name not in QAT:
        raise ValueError(f"no training simulated int8 for {name!r}; it did for " + ", ".join(QAT))
    with tempfile.TemporaryDirectory() as folder:
        path = _written(name, folder, "qat")
        scales = planck.import_scales(RANGES / f"{name}_qat.npz", model=path)
        plan = planck.build(path, precision="int8", scales=scales)
        float_plan = planck.build(path)
        return {
            "fp32": evaluate(name, float_plan, samples),
            "int8": evaluate(name, plan, samples),
        }


def _written(name: str, folder: str, trained: bool | str) -> Path:
    import planck.models

    path = Path(folder) / f"{name}.onnx"
    planck.models.write(name, path, size="mini", trained=trained)
    return path


def _task(name: str) -> Task:
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}; the tasks are " + ", ".join(TASKS))
    return TASKS[name]


def _function(plan: Runner | Function) -> Function:
    return plan.run if hasattr(plan, "run") else plan


def main() -> None:
    """Print every measure of the minis asked for."""
    import planck

    parser = argparse.ArgumentParser(description="measure the trained minis")
    parser.add_argument("names", nargs="*", choices=[[], *TASKS])
    parser.add_argument("--samples", type=int, help="of the held-out set (all)")
    parser.add_argument("--int8", action="store_true", help="a table of the metric in int8")
    arguments = parser.parse_args()
    names = arguments.names or list(TASKS)
    if arguments.int8:
        _print_int8(names, arguments.samples)
        return
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            plan = planck.build(_written(name, folder, True))
            print(name, _text(measure(name, plan, arguments.samples)))


def _print_int8(names: Sequence[str], samples: int | None) -> None:
    columns = ["fp32", *METHODS, "QAT fp32", "QAT int8"]
    print("| model | " + " | ".join(columns) + " |")
    print("| --- " * (1 + len(columns)) + "|")
    for name in names:
        row = in_int8(name, samples=samples)
        if name in QAT:
            row |= {f"QAT {k}": v for k, v in in_int8_by_training(name, samples).items()}
        cells = (f"{row[c]:.2%}" if c in row else "" for c in columns)
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


def _text(measures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in measures.items())


if __name__ == "__main__":
    main()
