"""ONNX's backend suite: every case in a worker process, so that a crash or a hang only counts."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import unittest
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

import planck
from planck.backend import PlanckBackend

Outcome = Literal["pass", "wrong", "refused", "untyped", "crash", "hang"]
OUTCOMES: tuple[Outcome, ...] = ("pass", "wrong", "refused", "untyped", "crash", "hang")
TIME_LIMIT = 30.0  # seconds for one case; few take more than a tenth of one
REAL_TIME_LIMIT = 300.0  # whole networks of the "Real" kind

# Cases whose own tolerance cannot hold, each with its reason.
TOLERANCES: dict[str, dict[str, float]] = {
    # The expanded function is fused back: nothing between the products is rounded to half.
    "test_attention_4d_causal_fp16_expanded": {"atol": 6e-4},
}


class Backend(PlanckBackend):
    """One thread, and no model skipped as not compatible: a refusal has to show its reason."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> Any:
        return super().prepare(model, device, threads=1, **options)

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **options: Any) -> bool:
        return True


@dataclass(frozen=True)
class Case:
    """A case of the suite; `op` is what its row of the table is called."""

    name: str
    kind: str
    op: str
    run: Callable[[], None]


@dataclass(frozen=True)
class Result:
    name: str
    kind: str
    op: str
    outcome: Outcome
    detail: str = ""


def cases() -> list[Case]:
    """All CPU cases, sorted by kind and name. Takes seconds: onnx makes them on the way."""
    from onnx.backend.test import BackendTest

    home = tempfile.mkdtemp(prefix="planck-onnx-")  # where models on disk get their expectations
    os.environ["ONNX_HOME"] = home
    os.environ["ONNX_MODELS"] = os.path.join(home, "models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classes = BackendTest(Backend, __name__, test_kwargs=TOLERANCES).test_cases
    ops = _node_ops()
    found = []
    for class_name, test_case in classes.items():
        kind = class_name.removeprefix("OnnxBackend").removesuffix("Test").removesuffix("Model")
        for name in dir(test_case):
            if name.startswith("test_") and name.endswith("_cpu"):
                plain = name.removesuffix("_cpu")
                op = ops.get(plain, kind) if kind == "Node" else kind
                found.append(Case(plain, kind, op, _bound(test_case, name)))
    return sorted(found, key=lambda case: (case.kind, case.name))


def _bound(test_case: type, name: str) -> Callable[[], None]:
    return lambda: getattr(test_case, name)(None)


def _node_ops() -> dict[str, str]:
    """Name of a node case -> the op that it is about; an expanded function counts for its op."""
    from onnx.backend.test.loader import load_model_tests

    tests = load_model_tests(kind="node")
    ops = {t.name: t.model.graph.node[-1] for t in tests if "_expanded" not in t.name}
    text = {n: f"{op.domain}.{op.op_type}".lstrip(".") for n, op in ops.items()}
    for test in tests:
        if "_expanded" in test.name:
            text[test.name] = text[test.name.partition("_expanded")[0]]
    return text


def outcome_of(case: Case) -> tuple[Outcome, str]:
    """Runs a case in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            case.run()
        except planck.InternalError as error:
            return "untyped", f"InternalError: {_line(error)}"
        except planck.Error as error:
            return "refused", f"{type(error).__name__}: {_line(error)}"
        except (AssertionError, unittest.SkipTest) as error:
            return "wrong", _line(error, 300)
        except BaseException as error:
            return "untyped", f"{type(error).__name__}: {_line(error)}"
    return "pass", ""


def _line(error: BaseException, most: int = 160) -> str:
    return " ".join(str(error).split())[:most]


def _work(selected: Sequence[Case], start: int, pipe: Connection) -> None:
    """A worker: sends the outcome of every case from `start` on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for case in selected[start:]:
        pipe.send(outcome_of(case))
    pipe.close()
    os._exit(0)


def run(selected: Sequence[Case]) -> Iterator[Result]:
    """Outcomes in order. A worker that dies or hangs is replaced, behind the guilty case."""
    fork = multiprocessing.get_context("fork")  # a worker starts with the cases in memory
    done = 0
    while done < len(selected):
        ours, theirs = fork.Pipe(duplex=False)
        worker = fork.Process(target=_work, args=(selected, done, theirs), daemon=True)
        worker.start()
        theirs.close()
        while done < len(selected):
            case = selected[done]
            outcome, detail = _next(ours, REAL_TIME_LIMIT if case.kind == "Real" else TIME_LIMIT)
            if outcome == "crash":
                worker.join()
                detail = f"exit code {worker.exitcode}"
            yield Result(case.name, case.kind, case.op, outcome, detail)
            done += 1
            if outcome in ("crash", "hang"):
                break
        worker.kill()
        worker.join()


def _next(pipe: Connection, limit: float) -> tuple[Outcome, str]:
    if not pipe.poll(limit):
        return "hang", f"no result after {limit:.0f} s"
    try:
        outcome, detail = pipe.recv()
    except EOFError:
        return "crash", ""
    return outcome, detail
