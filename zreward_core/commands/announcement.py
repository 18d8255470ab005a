"""What was started, on stderr, for commands that are silent at first. No heavy imports."""

import os
import sys
import threading
from collections.abc import Collection

import typer

from zreward_core.runtime.worker import RUN_STARTED, owns_run

SILENT_SECONDS = 0.5
"""A command that takes longer is named: imports and the opening of files can take seconds."""


def on_terminal() -> bool:
    """Whether a person sees stderr."""
    return sys.stderr.isatty()


def announce_if_slow(context: typer.Context, stages: Collection[str]) -> None:
    """Print the purpose of the invoked command if it still runs after ``SILENT_SECONDS``.

    Only on a terminal: the stderr of a script has errors and progress alone. A worker prints
    nothing, and a stage of a `zreward run` prints its position in the run instead.

    Args:
        context: of the group that the command belongs to.
        stages: names of the commands that are stages.
    """
    name = str(context.invoked_subcommand)
    command = context.command.get_command(context, name)  # type: ignore[attr-defined]
    in_run = name in stages and os.environ.get(RUN_STARTED)
    if command is None or in_run or not owns_run() or "--help" in sys.argv or not on_terminal():
        return
    purpose = command.get_short_help_str(limit=200).removeprefix("Stage: ")
    timer = threading.Timer(SILENT_SECONDS, typer.echo, [f"{name}: {purpose}"], {"err": True})
    timer.daemon = True
    timer.start()
    context.call_on_close(timer.cancel)
