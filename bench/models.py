"""Model benchmark: Planck and its peers on the same model, interleaved in one run.

Goals: ratios that drift, turbo and a busy neighbour touch as little as possible. Every engine has a
process of its own that blocks on a socket between its rounds; the rounds of a case alternate, and
the engine that begins a round rotates; times are taken inside the worker. Absolute times are for
reading, ratios for judging. Non-goal: throughput with several streams.

    python bench/models.py [--only bert] [--rounds 9] [--threads 2] [--json PATH] [--check]

An int8 case measures Planck on its own Q/DQ file beside its float self, and each peer in every
form that it has for the model (forms.py): the fastest one counts.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a script's path has only bench/

from bench import environment, forms, masking, report
from bench.cases import Case, Thresholds, load_cases, load_thresholds
from bench.peers import ROOT, Array, Problem, cosine, import_planck, relative_error
from bench.protocol import Build, Built, Failure, Round
from bench.report import CaseResult, EngineResult, render

__all__ = ["CaseResult", "EngineResult", "main", "render", "run_cases"]

CACHE = ROOT / "build" / "models"
IDLE_S = 0.05  # least pause between two engines
SETTLE_LIMIT_S = 2.0  # longest wait for the threads of an engine to stop spinning
WARMUPS = 3
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


class WorkerError(RuntimeError):
    """A worker gave no reading; the message is the reason."""


class Worker:
    """The parent's end of one engine process; see worker.py for the protocol."""

    def __init__(self, engine: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=_worker_environment(),
            )
        self._connection = Connection(ours.detach())
        self.engine = engine

    def build(self, problem: Problem, cpus: tuple[int, ...]) -> Built:
        """Builds and warms up the engine."""
        answer = self._ask(Build(self.engine, problem, cpus, WARMUPS))
        assert isinstance(answer, Built)
        return answer

    def round(self, runs: int, evict: str) -> list[float]:
        """Seconds of each timed run."""
        answer = self._ask(Round(runs, evict))
        assert isinstance(answer, list)
        return answer

    def settle(self) -> bool:
        """Waits until the engine's threads sleep; False when they still run after the limit."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        used = self._cpu_s()
        while True:
            time.sleep(IDLE_S)
            before, used = used, self._cpu_s()
            if used - before <= TICK_S:
                return True
            if time.monotonic() > deadline:
                return False

    def close(self) -> None:
        """Ends the process, by force if it does not go."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._connection.close()
        self._log.close()

    def _ask(self, request: Build | Round) -> object:
        try:
            self._connection.send(request)
            if not self._connection.poll(self._timeout_s):
                self._process.kill()
                raise WorkerError(f"no answer within {self._timeout_s:g} s")
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise WorkerError(self._death()) from None
        if isinstance(answer, Failure):
            raise WorkerError(answer.reason)
        return answer

    def _death(self) -> str:
        """How the process ended, with the last line that it printed."""
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"the process died with {how}" + (f": {lines[-1][:200]}" if lines else "")

    def _cpu_s(self) -> float:
        """CPU seconds that all threads of the process have used, in ticks of the kernel."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return 0.0
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * TICK_S


def _worker_environment() -> dict[str, str]:
    """The parent's environment, with this tree importable and numpy's own pool off."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}


def prepare(case: Case) -> Problem:
    """Writes the case's model into the cache unless it is there, and makes its feeds."""
    models = import_planck("planck.models")
    path = _cached_model(models, case)
    feeds = models.feeds(case.model, case.shape, case.seed, size=case.size)
    dims, outputs = _interface(path, {name: feed.shape for name, feed in feeds.items()})
    problem = Problem(
        str(path), dict(feeds), outputs, dims, case.precision, case.threads, case.denormals
    )
    return _quantised(case, problem) if case.precision == "int8" else problem


def _quantised(case: Case, problem: Problem) -> Problem:
    """The problem on the Q/DQ file, with the model's other forms; RuntimeError without the file."""
    path = Path(problem.path)
    samples = forms.Samples(case.model, case.size, case.calibrated or case.shape)
    made = {name: forms.written(path, name, samples) for name in forms.FORMS}
    if made["qdq"].reason:
        raise RuntimeError(made["qdq"].reason)
    paths = {name: form.path for name, form in made.items() if form.path}
    missing = {name: form.reason for name, form in made.items() if form.reason}
    paths["float"] = problem.path
    return replace(problem, path=paths["qdq"], forms=paths, missing=missing)


def _cached_model(models: Any, case: Case) -> Path:
    """The model file; its name carries a hash of the generator, and older ones are deleted."""
    sources = sorted(Path(models.__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    stem = f"{case.model}-{case.size}"
    path = CACHE / f"{stem}-{digest}.onnx"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        for stale in CACHE.glob(f"{stem}-*"):
            stale.unlink()
        partial = path.with_suffix(".partial")
        models.write(case.model, partial, size=case.size)
        partial.rename(path)
    return path


def _interface(
    path: Path, shapes: dict[str, tuple[int, ...]]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Values of the model's symbolic dimensions for these feeds, and the names of its outputs."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    dims: dict[str, int] = {}
    for value in graph.input:
        declared = value.type.tensor_type.shape.dim
        for dim, size in zip(declared, shapes.get(value.name, ()), strict=False):
            if dim.dim_param in ("", "?"):  # the latter is a converter's word for "any"
                continue
            if dims.setdefault(dim.dim_param, size) != size:
                raise ValueError(f"dimension {dim.dim_param} is both {dims[dim.dim_param]}, {size}")
    return dims, tuple(value.name for value in graph.output)


@dataclass(frozen=True)
class Method:
    """How a run measures; goes into its record. `mode` leaves room for runs under load."""

    rounds: int = 9
    evict: bool = True
    timeout_s: float = 600.0
    mode: str = "quiet"

    def describe(self) -> dict[str, Any]:
        """The method in words and numbers, for the JSON record."""
        return {
            "mode": self.mode,
            "rounds": self.rounds,
            "warmups": WARMUPS,
            "idle_ms": 1e3 * IDLE_S,
            "evict": "256 MB written before each round, or before each run where cold is run"
            if self.evict
            else "never",
            "order": "one process per engine, interleaved, first engine rotates",
            "time": "perf_counter in the worker, Python call included; median of round medians",
        }


def run_case(
    case: Case,
    engines: Sequence[str],
    method: Method,
    problem: Problem,
    cpus: tuple[int, ...] = (),
) -> dict[str, EngineResult]:
    """Readings of every engine; a failure anywhere makes that engine "not measured"."""
    readings = {name: EngineResult() for name in engines}
    outputs: dict[str, dict[str, Array]] = {}
    if case.reference not in (*engines, *case.peers):  # a peer may be left out on purpose
        outputs |= _answers(case.reference, method, problem, cpus)
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in engines:
            worker = Worker(name, method.timeout_s)
            stack.callback(worker.close)
            with _keep_reason(readings[name]):
                built = worker.build(problem, cpus)
                outputs[name] = built.outputs
                readings[name].version = built.version
                readings[name].options = built.options
                readings[name].build_s = built.build_s
                readings[name].settled = worker.settle()
                workers[name] = worker
        _run_rounds(case, workers, readings, method)
    _compare(readings, outputs, case.reference)
    return readings


def _answers(
    engine: str, method: Method, problem: Problem, cpus: tuple[int, ...]
) -> dict[str, dict[str, Array]]:
    """Outputs of an engine that is not timed, under its name; empty where it has none."""
    worker = Worker(engine, method.timeout_s)
    try:
        return {engine: worker.build(problem, cpus).outputs}
    except WorkerError as error:
        print(f"{engine}, the reference, has no answer: {error}", file=sys.stderr)
        return {}
    finally:
        worker.close()


@contextlib.contextmanager
def _keep_reason(result: EngineResult) -> Iterator[None]:
    """Turns a worker's failure into the engine's reason; its earlier rounds do not count."""
    try:
        yield
    except WorkerError as error:
        result.failure = str(error)
        result.rounds = []


def _run_rounds(
    case: Case, workers: dict[str, Worker], readings: dict[str, EngineResult], method: Method
) -> None:
    evict = case.cold if method.evict else "none"
    order = list(workers)
    for turn in range(method.rounds if order else 0):
        shift = turn % len(order)
        for name in order[shift:] + order[:shift]:
            result = readings[name]
            if result.failure is not None:
                continue
            with _keep_reason(result):
                result.rounds.append(workers[name].round(case.runs, evict))
                result.settled &= workers[name].settle()


def _compare(
    readings: dict[str, EngineResult], outputs: dict[str, dict[str, Array]], reference: str
) -> None:
    """Fills in each engine's error and cosine against the reference engine, if it answered."""
    right = outputs.get(reference)
    if right is None:
        return
    for name in readings.keys() & outputs.keys():
        try:
            readings[name].error = relative_error(outputs[name], right)
            readings[name].cosine = cosine(outputs[name], right)
        except ValueError as error:
            readings[name].error_note = str(error)


def run_cases(
    cases: Sequence[Case],
    engines: Sequence[str] | None = None,
    rounds: int = 9,
    *,
    method: Method | None = None,
    limits: Thresholds | None = None,
    make_problem: Callable[[Case], Problem] = prepare,
    progress: Callable[[str], None] | None = None,
) -> list[CaseResult]:
    """Measures every case on every engine and judges it by the goal of this machine's class.

    An engine is a row of peers.ENGINES or an importable `module:Class`; None takes those of each
    case. `progress` gets a line at the start of each case. Never raises for an engine or a model:
    the reason stands in the result.

    >>> results = run_cases(load_cases(only="minilm-1x32"), rounds=6)  # doctest: +SKIP
    >>> print(render(results))                                         # doctest: +SKIP
    """
    method = method or Method(rounds=rounds)
    limits = limits or load_thresholds()
    classes = environment.goal_classes()
    results = []
    for case in cases:
        names = case.engines if engines is None else engines
        if progress:
            progress(f"{case.id}, {case.threads} threads, {method.rounds} rounds")
        try:
            problem = make_problem(case)
        except Exception as error:
            reason = f"no model: {type(error).__name__}: {error}"
            readings = {name: EngineResult(failure=reason) for name in names}
        else:
            cpus = environment.pick_cpus(case.threads)
            readings = run_case(case, names, method, problem, cpus)
        results.append(CaseResult(case, readings, limits.goals_of(case, classes), limits))
    return results


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/models.py", description="Planck against its peers")
    parser.add_argument("--only", default="", help="parts of the ids of cases, with commas")
    parser.add_argument("--rounds", type=int, default=9, help="rounds per engine (at least 6)")
    parser.add_argument("--engines", help="comma-separated, instead of each row's own")
    parser.add_argument("--threads", type=int, help="instead of each row's own count")
    parser.add_argument("--isa", choices=masking.LEVELS, help="hide more from all engines")
    parser.add_argument("--json", metavar="PATH", help="record; - for stdout")
    parser.add_argument("--no-evict", action="store_true", help="leave the caches alone")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one answer")
    parser.add_argument("--scale", action="store_true", help="time per sample against batch 1")
    parser.add_argument("--check", action="store_true", help="exit 1 unless every goal is met")
    return parser.parse_args(arguments)


def _write_record(record: dict[str, Any], target: str | None, only: str) -> None:
    """Writes the JSON to `target`, or to bench/results under the case set and the CPU class."""
    text = json.dumps(record, indent=1) + "\n"
    if target == "-":
        print(text, end="")
        return
    name = f"models-{only.replace(',', '-') or 'all'}-{record['environment']['cpu_class']}.json"
    path = Path(target) if target else ROOT / "bench" / "results" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f"record: {os.path.relpath(path)}", file=sys.stderr)


def failures(results: Sequence[CaseResult], *, scale: bool = False) -> list[str]:
    """What a check has to fail for: goals not met, wrong answers, and on request growth."""
    lines = [f"{r.case.id}: {r.verdict()}" for r in results if r.failed()]
    if scale:
        lines += [
            f"{growth.batched.case.id}: time per sample {growth.verdict()}"
            for growth in report.growths(results)
            if growth.engine == growth.batched.subject and growth.verdict() != "flat"
        ]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status is 1 when --check fails and 2 when no case matches."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _arguments(given)
    cases = load_cases(only=options.only, threads=options.threads)
    if not cases:
        print(f"no case matches {options.only!r}", file=sys.stderr)
        return 2
    if options.rounds < 6:
        print("fewer than six rounds: a trial, not a result to quote", file=sys.stderr)
    if options.isa:
        os.environ |= masking.variables(options.isa)
    method = Method(options.rounds, not options.no_evict, options.timeout)
    before = environment.record()
    results = run_cases(
        cases,
        options.engines.split(",") if options.engines else None,
        method=method,
        progress=lambda line: print(line, file=sys.stderr),
    )
    table = render(results, detail=True, scale=options.scale)
    print(table, file=sys.stderr if options.json == "-" else sys.stdout)
    described = method.describe() | {
        "command": ["python", "bench/models.py", *given],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load_average_after": list(os.getloadavg()),
    }
    _write_record(report.to_json(results, before, described), options.json, options.only)
    failed = failures(results, scale=options.scale)
    if options.check and failed:
        print("\n".join(["check failed:", *failed]), file=sys.stderr)
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
