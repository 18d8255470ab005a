"""The launch file, which says how stages are started, and its name in messages."""

from pathlib import Path

LAUNCH_FILE = Path("launch.yaml")
LAUNCH_ORIGIN = Path(".zreward/launch_file")
"""In the workspace of a profile: path in the project of the file of which launch.yaml is a copy."""


def launch_file_name() -> str:
    """The launch file as messages name it: in a workspace, the file in the project to correct."""
    if LAUNCH_ORIGIN.is_file():
        return LAUNCH_ORIGIN.read_text(encoding="utf-8")
    return str(LAUNCH_FILE)
