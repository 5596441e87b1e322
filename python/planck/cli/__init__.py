"""The command line: `planck build | run | compare | bench | inspect | doctor`.

Results go to stdout, progress and errors to stderr. Exit codes: 0 good; 1 a mismatch (accuracy,
latency gate, precision contract); 2 usage (options, feeds, a missing file or package); 3 a model or
plan was rejected, at load or at run; 4 a limit of resources; 70 an error of ours; 130 interrupted.

Goals: every string of a model is harmless once printed; every command has `--json`; nothing but
NumPy is needed, and rich only draws. Non-goal: semantics of its own, since a command does nothing
that the Python package does not do.
"""

from __future__ import annotations

from planck.cli.app import main

__all__ = ["main"]
