"""One engine in a process of its own: builds once, then times rounds on request.

The parent talks over a socket whose descriptor is the only argument. Between requests the process
blocks in a read, so it takes no CPU from the engine whose turn it is. Requests and answers:

    Build(...)        -> Built(...)     build, warm up, keep the outputs of the last warm-up
    Round(...)        -> list[float]    seconds of each timed run, by perf_counter in this process
    None                                end

Any exception is answered by Failure and ends the process.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from multiprocessing.connection import Connection

import numpy as np

from bench.peers import Array, Engine, make_engine
from bench.protocol import Build, Built, Failure, Round

EVICT_BYTES = 256 << 20


class Evictor:
    """Pushes other data out of the caches by writing a buffer larger than they are."""

    def __init__(self) -> None:
        self._buffer: Array | None = None

    def walk(self) -> None:
        """Touches every cache line of the buffer; tens of milliseconds."""
        if self._buffer is None:
            self._buffer = np.zeros(EVICT_BYTES // 8, np.int64)
        self._buffer[::8] += 1


def build(request: Build) -> tuple[Engine, Built]:
    """Builds and warms up; the outputs are copied, since an engine may reuse its buffers."""
    if request.cpus:
        os.sched_setaffinity(0, request.cpus)
    start = time.perf_counter()
    engine = make_engine(request.engine, request.problem)
    build_s = time.perf_counter() - start
    outputs: dict[str, Array] = {}
    for _ in range(max(1, request.warmups)):
        outputs = engine.run()
    copies = {name: np.array(value) for name, value in outputs.items()}
    return engine, Built(engine.version, engine.options, copies, build_s)


def time_round(engine: Engine, request: Round, evictor: Evictor) -> list[float]:
    """Seconds of each run; eviction and garbage collection stay outside the timed part."""
    if request.evict == "round":
        evictor.walk()
    seconds = []
    for _ in range(request.runs):
        if request.evict == "run":
            evictor.walk()
        start = time.perf_counter()
        engine.run()
        seconds.append(time.perf_counter() - start)
    return seconds


def serve(connection: Connection) -> None:
    """Answers requests until the parent says None or goes away."""
    engine: Engine | None = None
    evictor = Evictor()
    while (request := connection.recv()) is not None:
        if isinstance(request, Build):
            engine, built = build(request)
            gc.collect()
            gc.disable()
            connection.send(built)
        elif engine is None:
            raise RuntimeError("a round was asked for before the build")
        else:
            connection.send(time_round(engine, request, evictor))


def main() -> int:
    """Serves rounds until the parent closes the connection."""
    connection = Connection(int(sys.argv[1]))
    try:
        serve(connection)
    except EOFError:
        return 0  # the parent is gone
    except Exception as error:
        text = " ".join(str(error).split()) or "no message"
        connection.send(Failure(f"{type(error).__name__}: {text}"[:400]))
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # some engines hang or crash in their static destructors
