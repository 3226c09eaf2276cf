"""The command line, one module a noun.

Data go to standard output, everything said to people to standard error. Exit status of every
command: 0 done; 1 the answer is no (disagreement, a check that failed); 2 it could not be done
(bad input, bad arguments); 130 interrupted, 143 told to end; 141 the reader of the output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; see `app.main`. Interrupted while the commands still load, it ends the same."""
    try:
        from featureplane.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    status = run(arguments)
    if arguments is None and status > 128:
        # WHY: after a KeyboardInterrupt, even a handled one, the interpreter may end itself by the signal.
        sys.stdout.flush()
        os._exit(status)
    return status
