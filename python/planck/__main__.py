"""`python -m planck`: the command line."""

from __future__ import annotations

from planck.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
