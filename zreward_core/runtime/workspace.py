"""Workspaces of profiles: a profile other than the demo runs in its own copy of the project."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from zreward_core.config import PARAMS_FILE, UserError, merge, read_params
from zreward_core.dvc import program, users
from zreward_core.launch_file import LAUNCH_FILE, LAUNCH_ORIGIN
from zreward_core.runtime.drops import mirror_drops
from zreward_core.runtime.launch_settings import DEMO, launch_file_of, profile_file
from zreward_core.schemas import replaced

WORKSPACES = Path(".zreward/workspaces")
CHAMPION_FILE = "data/champion.yaml"
BASES = "data/bases"
COPIED = ("dvc.yaml", ".dvcignore", "zreward_core", "data/rubric.yaml", BASES, CHAMPION_FILE)
NOT_COPIED = shutil.ignore_patterns("__pycache__", "project")
"""The package's folder ``project`` is what `zreward init` writes; no stage reads it."""
DEPS = ("data/drops/prompts", "data/drops/image_folders")
"""Deps of candidates, which DVC requires to exist."""
BENCH = Path("benchmarks")
COMPARISON = (
    *("stages.yaml", "methods.yaml", "cell.py", "table.py", "report.py"),
    *("settings.py", "settings.yaml"),
)
FINDINGS = "findings.md"
"""Discussion of the demo profile's tables; empty for other profiles."""


class InUse(UserError):
    """A run in a workspace reads the files that an update would replace."""


def make_workspace(
    profile: str | None, overlay: dict[str, Any] | None = None, name: str | None = None
) -> Path:
    """Create or update the workspace of a profile; results in it are kept.

    Args:
        profile: name of a file ``params/NAME.yaml`` that is merged over params.yaml, unless it is
            standalone.
        overlay: values merged over those.
        name: of the workspace; the profile if None.

    Returns:
        The workspace's folder, ready for `dvc repro`.

    Raises:
        InUse: processes run stages of the workspace; nothing was changed.
        UserError: no such profile, a file of the project is missing, or a standalone profile has no
            launch file.
    """
    if profile == DEMO:
        raise UserError(
            f"{DEMO} has no workspace: it is {PARAMS_FILE} itself and runs in {Path.cwd()}; run the"
            " command there"
        )
    file = profile_file(profile) if profile is not None else None
    params, launch = merge(read_params(file), overlay or {}), launch_file_of(profile)
    folder = WORKSPACES / str(name or profile)
    if running := users(folder):
        raise InUse(
            f"{folder} is in use by {'; '.join(running)}, and was not changed: wait until it ends,"
            " or stop it, then run the command again"
        )
    for name in COPIED:
        target = folder / name
        if not Path(name).exists():
            raise UserError(f"{name} not found: restore it, workspaces copy it")
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(name).is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(name, target, ignore=NOT_COPIED)
        elif not (name == CHAMPION_FILE and target.is_file()):  # the workspace keeps its own
            shutil.copyfile(name, target)
    optional = {LAUNCH_FILE: launch}
    optional |= {BENCH / name: BENCH / name for name in COMPARISON}
    for target, source in optional.items():
        if source.is_file():
            (folder / target).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, folder / target)
    if (folder / BENCH).is_dir():
        (folder / BENCH / FINDINGS).touch()
    with replaced(folder / LAUNCH_ORIGIN) as partial:
        partial.write_text(str(launch), encoding="utf-8")
    mirror_drops(folder)
    for dep in DEPS:
        (folder / dep).mkdir(parents=True, exist_ok=True)
    (folder / PARAMS_FILE).write_text(yaml.safe_dump(params, sort_keys=False))
    if not (folder / ".dvc").is_dir():
        for arguments in (["init", "--no-scm", "--quiet"], ["config", "core.analytics", "false"]):
            subprocess.run([program("dvc"), *arguments], cwd=folder, check=True)
    return folder
