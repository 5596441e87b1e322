"""Latencies: Planck in this process, each peer in one of its own, in turns.

A peer's process sleeps in a read between its rounds, and every engine has a pause before its round,
so that threads which still spin have gone to sleep. Times are taken around the Python call, inside
the process that makes it.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

from planck.cli.errors import usage
from planck.cli.peers import ENGINES, Call, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Outputs = Mapping[str, NDArray[Any]]

WARMUPS = 3
ROUND_S = 0.2  # a round lasts about this long
MOST_RUNS = 1000  # of one round
PAUSE_S = 0.05
ANSWER_S = 600.0  # longest wait for a peer
STATISTICS = ("min", "median", "mean", "p90", "p95", "p99", "max")


@dataclass
class Latency:
    """Times of one engine in seconds, and its outputs at the last warm-up."""

    engine: str
    version: str
    outputs: Outputs
    seconds: list[float] = field(default_factory=list)

    def milliseconds(self) -> dict[str, float]:
        """Each of STATISTICS."""
        import numpy as np

        times = 1e3 * np.asarray(self.seconds)
        points = dict(zip(STATISTICS[3:6], np.percentile(times, (90, 95, 99)), strict=True))
        points |= {"min": times.min(), "median": np.median(times), "mean": times.mean()}
        points["max"] = times.max()
        return {name: float(points[name]) for name in STATISTICS}

    def to_dict(self, batch: int) -> dict[str, Any]:
        """Plain values for JSON; throughput follows from the median."""
        milliseconds = self.milliseconds()
        per_second = 1e3 / milliseconds["median"] if milliseconds["median"] > 0 else math.inf
        return {
            "engine": self.engine,
            "version": self.version,
            "runs": len(self.seconds),
            "latency_ms": milliseconds,
            "runs_per_second": per_second,
            "rows_per_second": batch * per_second,
        }


def batch_of(feeds: Outputs) -> int:
    """The leading extent that all feeds share, else 1."""
    extents = {array.shape[0] for array in feeds.values() if array.ndim > 0}
    return int(extents.pop()) if len(extents) == 1 else 1


class Engine(Protocol):
    """One engine that is built and warm."""

    latency: Latency

    def round(self, runs: int) -> list[float]:
        """Seconds of each run."""

    def outputs(self, feeds: Outputs) -> Outputs:
        """What it gives for other feeds of the same shapes."""


def measure(
    call: Call,
    version: str,
    peers: Sequence[str],
    problem: Problem,
    rounds: int,
    round_s: float = ROUND_S,
) -> list[Latency]:
    """Times of Planck (`call`) and of peers on the problem's feeds.

    Errors: UsageError when a peer cannot be built or run, with its reason.
    """
    with contextlib.ExitStack() as stack:
        engines: list[Engine] = [Here(call, version, problem.feeds)]
        engines += [stack.enter_context(worker(name, problem)) for name in peers]
        race(engines, rounds, round_s)
        return [engine.latency for engine in engines]


def race(engines: Sequence[Engine], rounds: int, round_s: float = ROUND_S, least: int = 1) -> None:
    """Adds times to each engine's latency; rounds alternate and the first engine rotates.

    least: runs of a round, however long they take.
    """
    counts = [max(least, _runs_of_a_round(engine.round, round_s)) for engine in engines]
    for shift in range(rounds):
        for i in range(len(engines)):
            at = (i + shift) % len(engines)
            time.sleep(PAUSE_S if len(engines) > 1 else 0)
            engines[at].latency.seconds += engines[at].round(counts[at])


class Here:
    """Planck, in this process."""

    def __init__(self, call: Call, version: str, feeds: Outputs, warmups: int = WARMUPS) -> None:
        """Warms up."""
        self._call = call
        self._feeds = feeds
        outputs = [call(feeds) for _ in range(warmups)][-1]
        self.latency = Latency("planck", version, outputs)

    def round(self, runs: int) -> list[float]:
        """Seconds of each run."""
        return time_runs(lambda: self._call(self._feeds), runs)

    def outputs(self, feeds: Outputs) -> Outputs:
        """What it gives for other feeds of the same shapes."""
        return self._call(feeds)


def time_runs(call: Callable[[], Outputs], runs: int) -> list[float]:
    """Seconds of each of `runs` calls."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def _runs_of_a_round(turn: Callable[[int], list[float]], round_s: float) -> int:
    fastest = min(turn(2))
    return max(1, min(MOST_RUNS, math.ceil(round_s / max(fastest, 1e-6))))


class _Worker:
    """This side of a peer's process."""

    def __init__(self, name: str, connection: Connection) -> None:
        self._name = name
        self._connection = connection
        version, outputs = self._answer()
        self.latency = Latency(name, version, outputs)

    def round(self, runs: int) -> list[float]:
        """Seconds of each run."""
        self._connection.send(runs)
        seconds: list[float] = self._answer()
        return seconds

    def outputs(self, feeds: Outputs) -> Outputs:
        """What the engine gives for other feeds of the same shapes."""
        self._connection.send(dict(feeds))
        outputs: Outputs = self._answer()
        return outputs

    def _answer(self) -> Any:
        try:
            if not self._connection.poll(ANSWER_S):
                raise usage(f"{self._name} gave no answer within {ANSWER_S:g} s")
            good, answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise usage(f"the process of {self._name} died") from error
        if not good:
            raise usage(f"{self._name} cannot run this model: {answer}")
        return answer


@contextlib.contextmanager
def worker(name: str, problem: Problem, warmups: int = WARMUPS) -> Iterator[Engine]:
    """A peer, or the reference, in a process that ends with the context. Errors: UsageError."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(name, problem, warmups, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield _Worker(name, ours)
        ours.send(None)
        process.join(5)
    finally:
        ours.close()
        process.kill()
        process.join()


def _serve(name: str, problem: Problem, warmups: int, connection: Connection) -> None:
    """A peer's process: builds, warms up, answers rounds (a count) and feeds until None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    try:
        version, call = ENGINES[name](problem)
        outputs = [call(problem.feeds) for _ in range(warmups)][-1]
        connection.send((True, (version, _copies(outputs))))
        while (request := connection.recv()) is not None:
            if isinstance(request, int):
                connection.send((True, time_runs(lambda: call(problem.feeds), request)))
            else:
                connection.send((True, _copies(call(request))))
    except EOFError:
        return
    except Exception as error:
        connection.send((False, f"{type(error).__name__}: {error}"[:2000]))


def _copies(outputs: Outputs) -> Outputs:
    """An engine may reuse its buffers."""
    return {name: value.copy() for name, value in outputs.items()}
