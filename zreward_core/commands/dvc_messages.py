"""DVC's command with fewer messages: `python -m zreward_core.commands.dvc_messages ARGUMENTS`.

`zreward repro` starts it and does not read its output: so the stages inherit the terminal, and
those of a killed `zreward` can go on. Warnings and errors are shown as DVC writes them.
"""

import logging
import sys

from dvc.cli import main
from dvc.ui import ui

from zreward_core.dvc import RESTORED, UNCHANGED

COMMAND = ">"
"""Before a stage's command, which follows the stage's name."""
HIDDEN = {
    "",
    "Generating lock file '%s'",
    "Updating lock file '%s'",
    "\nTo track the changes with git, run:\n\n%s",
    "\nTo enable auto staging, run:\n\n\tdvc config core.autostage true",
    "Use `dvc push` to send your updates to remote storage.",
}
LISTED = {
    "Stage '%s' didn't change, skipping": UNCHANGED,
    "Stage '%s' is cached - skipping run, checking out outputs": RESTORED,
}
"""Message about a stage that is not run to the line that lists all such stages."""


class Messages(logging.Filter):
    """Hides and collects messages; one that DVC words differently is shown as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._stages: dict[str, list[str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether DVC shows a message."""
        if record.levelno >= logging.WARNING:
            return True
        first = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        if record.msg in LISTED:
            self._stages.setdefault(LISTED[record.msg], []).append(first)
            return False
        if record.msg in HIDDEN or (record.msg == "%s %s" and first == COMMAND):
            return False
        self.list_stages()
        return True

    def write(self, *objects: object, **options: object) -> None:
        """Show what DVC does not log, its last line."""
        self.list_stages()
        if objects[:1] not in [(text,) for text in HIDDEN]:
            type(ui).write(ui, *objects, **options)

    def list_stages(self) -> None:
        """Print a line for the stages that were not run since the last one."""
        for outcome, names in self._stages.items():
            print(f"{outcome}: {', '.join(names)}", flush=True)
        self._stages.clear()


def run(arguments: list[str]) -> int:
    """Run DVC; returns its exit code."""
    messages = Messages()
    for handler in logging.getLogger("dvc").handlers:
        handler.addFilter(messages)
    ui.write = messages.write  # type: ignore[method-assign]
    try:
        return main(arguments)
    finally:
        messages.list_stages()


if __name__ == "__main__":
    sys.argv[0] = "dvc"  # DVC writes the command line into its locks
    sys.exit(run(sys.argv[1:]))
