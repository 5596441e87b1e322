"""What commands print: text and tables, plain or by rich, and JSON.

Strings of a model are the words of a stranger: all text passes `clean` before it is printed, and
rich gets it as finished text, never as markup.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from planck.calibration import write_text as write_file

SCHEMA = 1
WIDTH = 60  # longest name in a table


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first `left` columns are names, the others numbers."""

    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    title: str = ""
    left: int = 1


@dataclass(frozen=True)
class Facts:
    """Pairs of a label and its text."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Verdict:
    """A sentence that says whether all is well."""

    ok: bool
    text: str


Block = Table | Facts | Verdict | str


@dataclass(frozen=True)
class Result:
    """What a command found: `data` for JSON under `kind`, `blocks` for people, and the verdict."""

    kind: str
    data: Mapping[str, Any]
    blocks: Sequence[Block] = field(default=())
    ok: bool = True


def clean(text: str, width: int = WIDTH) -> str:
    """Text that a terminal shows as it is: escapes for control characters, at most `width`.

    >>> clean("a" + chr(27) + "[31m" + chr(10) + "b")
    'a\\\\x1b[31m\\\\nb'
    """
    part = text if len(text) <= 2 * width else text[:width] + "..." + text[-width:]
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in part)
    if len(shown) <= width:
        return shown
    tail = (width - 3) * 2 // 3  # the end of a name tells more than its beginning
    return shown[: width - 3 - tail] + "..." + shown[len(shown) - tail :]


def print_blocks(blocks: Iterable[Block], stream: TextIO) -> None:
    """Rich tables on a terminal that can show them, plain text everywhere else."""
    console = _console(stream)
    for i, block in enumerate(blocks):
        if i > 0 and not isinstance(block, Verdict):
            print(file=stream)
        if console is None:
            print(plain_text(block), file=stream)
        else:
            console.print(_rich(block))


def plain_text(block: Block) -> str:
    """A block as text without any escape sequence."""
    if isinstance(block, str):
        return "\n".join(clean(line, 4000) for line in block.split("\n"))
    if isinstance(block, Verdict):
        return f"{'ok' if block.ok else 'FAILED'}: {clean(block.text, 4000)}"
    if isinstance(block, Facts):
        width = max((len(label) for label, _ in block.rows), default=0)
        return "\n".join(f"{label:<{width}}  {clean(text, 400)}" for label, text in block.rows)
    return "\n".join(_plain_lines(block))


def _plain_lines(table: Table) -> list[str]:
    cells = [tuple(table.header), *(_cells(row) for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < table.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return [table.title, *lines] if table.title else lines


def _cells(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(clean(cell) for cell in row)


def _console(stream: TextIO) -> Any:
    """A rich console, or None where plain text is right."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    options: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    if os.environ.get("NO_COLOR"):
        options["color_system"] = None  # no escape sequence at all
    return Console(file=stream, **options)


def _rich(block: Block) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    if isinstance(block, Verdict):
        return Text(plain_text(block), style="bold green" if block.ok else "bold red")
    if not isinstance(block, Table):
        return Text(plain_text(block))
    title = Text(block.title, style="bold") if block.title else None
    table = RichTable(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, name in enumerate(block.header):
        is_name = i < block.left
        table.add_column(
            Text(name),
            justify="left" if is_name else "right",
            overflow="fold",
            no_wrap=not is_name,
        )
    for row in block.rows:
        table.add_row(*(Text(cell) for cell in _cells(row)))
    return table


def json_text(data: Mapping[str, Any]) -> str:
    """Strict JSON with the schema number first: what is not finite becomes null."""
    return json.dumps({"schema": SCHEMA, **_plain(data)}, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def write_text(text: str, target: str) -> None:
    """Writes to a file, or to stdout for "-". Errors: FileError."""
    if target == "-":
        sys.stdout.write(text)
        return
    write_file(target, text)


def note(text: str) -> None:
    """A line of the log, on stderr."""
    print(clean(text, 400), file=sys.stderr)


def size_text(count: int) -> str:
    """Bytes for people.

    >>> size_text(2780928)
    '2.8 MB'
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def shape_text(shape: Sequence[int | str]) -> str:
    """A shape as ONNX people write it.

    >>> shape_text(("batch", 128))
    '[batch,128]'
    """
    return "[" + ",".join(str(extent) for extent in shape) + "]"
