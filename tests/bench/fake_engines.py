"""Engines for the benchmark's own tests; each is named `fake_engines:Class` in a case."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from bench.peers import Array, Problem


class Steady:
    """Doubles its input."""

    def __init__(self, problem: Problem) -> None:
        self.version = "1.0"
        self.options: dict[str, Any] = {"threads": problem.threads}
        self._x = problem.feeds["x"]

    def run(self) -> dict[str, Array]:
        time.sleep(0.001)
        return {"y": 2 * self._x}


class Chatty(Steady):
    """Prints to stdout, which must not reach the protocol."""

    def run(self) -> dict[str, Array]:
        print("a line that is no answer", flush=True)
        return super().run()


class Unbuildable:
    """Refuses to build."""

    def __init__(self, problem: Problem) -> None:
        raise RuntimeError("no kernel\nfor Frobnicate")


class Failing(Steady):
    """Works in the warm-up and in the first timed rounds, then raises."""

    calls = 0

    def run(self) -> dict[str, Array]:
        self.calls += 1
        if self.calls > 6:
            raise RuntimeError("out of breath")
        return super().run()


class Dying(Steady):
    """Ends its process without a word to the parent."""

    def run(self) -> dict[str, Array]:
        os.write(2, b"illegal thing\n")
        os.abort()


class Hanging(Steady):
    """Never answers."""

    def run(self) -> dict[str, Array]:
        time.sleep(60.0)
        return {}


class Wrong(Steady):
    """Quick, but not right."""

    def run(self) -> dict[str, Array]:
        return {"y": 2 * self._x + np.float32(1)}
