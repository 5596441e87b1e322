"""The profile of a session as a Chrome trace (chrome://tracing, Perfetto)."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from planck import _core
from planck.plan import Step, StepTime

_MOST_EVENTS = 1_000_000  # ONNX Runtime's; what comes after is dropped


class Profile:
    """Events since it was made, from any thread."""

    def __init__(self, prefix: str) -> None:
        """prefix: of the file that `write` makes."""
        self._prefix = prefix
        self._events: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self.start_ns = time.time_ns()

    def add_load(self, begin_ns: int) -> None:
        """Records the building of the plan, which ends now."""
        self._add([self._session_event("session_initialization", begin_ns)])

    def add_run(self, begin_ns: int, steps: Sequence[Step], times: Sequence[StepTime]) -> None:
        """Records a run that ends now, and its steps in their order."""
        events = [self._session_event("model_run", begin_ns)]
        at = float(begin_ns - self.start_ns)
        for index, (step, taken) in enumerate(zip(steps, times, strict=True)):
            node = step.nodes[0] if step.nodes else step.op
            event = self._event("Node", f"{node}_kernel_time", at, taken.seconds * 1e9)
            event["args"] = {
                "op_name": step.op,
                "node_index": str(index),
                "provider": "CPUExecutionProvider",
                "kernel": step.kernel,
                "nodes": list(step.nodes),
                "flops": taken.flops,
            }
            events.append(event)
            at += taken.seconds * 1e9
        self._add(events)

    def write(self) -> str:
        """Writes PREFIX_DATE_TIME.json and returns its name. Errors: FileError."""
        seconds, rest = divmod(self.start_ns, 1_000_000_000)
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(seconds))
        path = f"{self._prefix}_{stamp}_{rest // 1_000_000:03}.json"
        try:
            with open(path, "w", encoding="utf-8") as file, self._lock:
                lines = (json.dumps(event) for event in self._events)
                file.write("[\n" + ",\n".join(lines) + "\n]\n")
        except OSError as error:
            raise _core.FileError(f"cannot write '{path}': {error}") from error
        return path

    def _session_event(self, name: str, begin_ns: int) -> dict[str, Any]:
        return self._event("Session", name, begin_ns - self.start_ns, time.time_ns() - begin_ns)

    @staticmethod
    def _event(category: str, name: str, at: float, ns: float) -> dict[str, Any]:
        """at: nanoseconds since the start; the format counts microseconds."""
        return {
            "cat": category,
            "pid": os.getpid(),
            "tid": threading.get_native_id(),
            "dur": ns / 1e3,
            "ts": at / 1e3,
            "ph": "X",
            "name": name,
            "args": {},
        }

    def _add(self, events: list[dict[str, Any]]) -> None:
        with self._lock:
            self._events += events[: _MOST_EVENTS - len(self._events)]
