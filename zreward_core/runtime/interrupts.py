"""How a long command ends on Ctrl-C (SIGINT). No heavy imports."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from zreward_core.runtime.worker import owns_run

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of an interrupted command."""
OF_DVC = "DVC_STAGE"
"""Set by DVC in the environment of a stage, whose end `zreward repro` reports."""


@contextmanager
def resumable(name: str, kept: str) -> Iterator[None]:
    """If the block is interrupted, end with exit code 130 and one line on how to continue.

    Workers print nothing: of all processes, the one that was called does.

    Args:
        name: of the command.
        kept: what is kept, such as "finished parts are kept in a.parquet.parts".
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code != INTERRUPTED:  # that of its workers
            raise
        if owns_run() and OF_DVC not in os.environ:
            start = "\n" if sys.stderr.isatty() else ""  # behind ^C or a progress bar
            sys.stderr.write(f"{start}{name} interrupted: {kept}, and the same command continues\n")
        sys.exit(INTERRUPTED)
