"""Tables of static HTML for notebooks: no scripts, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A paragraph and a table under it.

    >>> table("1 < 2", [], [["<b>"]])[9:]
    ' 2</p><table><thead><tr></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    import html

    head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    return (
        f"<p>{html.escape(caption)}</p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
