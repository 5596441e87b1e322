"""The parser, and the way from a command's result or error to streams and exit code."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import planck
from planck.cli import bench, build, calibrate, compare, doctor, inspect, lint, run
from planck.cli.errors import INTERRUPTED, block, describe, usage
from planck.cli.show import Result, json_text, print_blocks, write_text

COMMANDS = {
    "build": build,
    "calibrate": calibrate,
    "run": run,
    "compare": compare,
    "bench": bench,
    "inspect": inspect,
    "lint": lint,
    "doctor": doctor,
}

ABOUT = "Builds plans from ONNX models and runs them, with numbers you can trust."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives the exit code; never raises for what a command met."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    options: argparse.Namespace | None = None
    code = 0
    try:
        options = parser().parse_args(arguments)
        result: Result = options.command(options)
        code = 0 if result.ok else 1
        _deliver(result, options.json)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough; the verdict stands
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except Exception as error:
        code = _report(error, options)
    return code


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = _Parser(prog="planck", description=ABOUT, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"planck {planck.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name, module in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_options(sub)
        sub.add_argument("--json", metavar="FILE", help="the result as JSON as well; - for stdout")
        sub.set_defaults(command=module.run)
    return top


class _Parser(argparse.ArgumentParser):
    """Wrong options are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise usage(message, hint="planck COMMAND --help lists the options")


def _deliver(result: Result, target: str | None) -> None:
    """The result as text on stdout, and as JSON where it was asked for."""
    print_blocks(result.blocks, sys.stderr if target == "-" else sys.stdout)
    if target is not None:
        write_text(json_text({"kind": result.kind, **result.data, "ok": result.ok}), target)


def _report(error: Exception, options: argparse.Namespace | None) -> int:
    """One block on stderr, the same as JSON where it was asked for; gives the exit code."""
    if os.environ.get("PLANCK_TRACEBACK") == "1":
        traceback.print_exception(error)
    facts = describe(error)
    print(block(facts), file=sys.stderr)
    target = getattr(options, "json", None)
    if target is not None:
        with contextlib.suppress(OSError):  # the error itself matters more
            write_text(json_text({"kind": "planck.error", **facts, "ok": False}), target)
    return int(facts["exit_code"])
