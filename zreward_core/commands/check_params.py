"""The check of params.yaml and launch.yaml as a whole, before the first stage of a run."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zreward_core
from zreward_core.commands import gate
from zreward_core.config import (
    PARAMS_FILE,
    StageConfig,
    TopLevel,
    UserError,
    params_source,
    read_params,
    unknown_key,
)
from zreward_core.dvc import GRAPH, read_stages
from zreward_core.launch_file import LAUNCH_FILE
from zreward_core.runtime.launch_settings import read_launcher
from zreward_core.schemas import digest, file_hash

CHECKED = Path(".zreward/checked_params")
"""Hash of the params and the code that were last found valid."""


def check_params(
    stages: Sequence[str], overlay: Path | None = None, launch_file: Path = LAUNCH_FILE
) -> None:
    """Validate every section of the effective params, and the launcher of every stage.

    Every stage of a run calls this; as importing all stages takes seconds, params that were found
    valid are not checked again.

    Args:
        stages: names of the modules in ``zreward_core.stages``.
        overlay: a YAML file merged over params.yaml.
        launch_file: that of the profile, whose workspace has a copy of it.

    Raises:
        UserError: a section or key is unknown or missing, or a value is invalid (all of them are
            named); or the launch file is invalid.
    """
    params = read_params(overlay)
    key = digest(*(file_hash(path) for path in _decisive(overlay, launch_file)))
    if CHECKED.is_file() and CHECKED.read_text(encoding="utf-8") == key:
        return
    configs: dict[str, type[StageConfig]] = {
        name: importlib.import_module(f"zreward_core.stages.{name}").Config for name in stages
    }
    check_sections(params, {**configs, "promote": gate.Config}, _tracked(), params_source(overlay))
    for name in stages:
        read_launcher(name, tuple(stages), path=launch_file)
    CHECKED.parent.mkdir(parents=True, exist_ok=True)
    CHECKED.write_text(key, encoding="utf-8")


def check_sections(
    params: Mapping[str, Any],
    configs: Mapping[str, type[StageConfig]],
    tracked: Iterable[str],
    source: str,
) -> None:
    """Validate every section of params.

    Args:
        params: as ``read_params`` returns them.
        configs: config of each section of ours.
        tracked: keys that dvc.yaml tracks; those of other stages than ours are not validated.
        source: name of the file in messages.

    Raises:
        UserError: a key is unknown or missing, or a value invalid; all of them are named.
    """
    tracked = list(dict.fromkeys(tracked))
    known = {*configs, *tracked, *TopLevel.model_fields}
    faults = []
    for section in params:
        if section not in known:
            faults.append(unknown_key(source, [], section, known))
        elif section in configs:
            try:
                config = configs[section].of_section(section, params, source)
                faults += [f"{source}: {fault}" for fault in config.faults(section)]
            except UserError as error:
                faults.append(str(error))
    for section in tracked:
        if section not in params:
            faults.append(
                f"{source}: '{section}', which dvc.yaml tracks, is missing; add it, if"
                f" only as `{section}: {{}}`"
            )
    if faults:
        raise UserError("\n".join(faults))


def _decisive(overlay: Path | None, launch_file: Path) -> Iterable[Path]:
    """Files that decide whether params are valid."""
    yield PARAMS_FILE
    if overlay is not None:
        yield overlay
    yield from (path for path in (GRAPH, launch_file) if path.is_file())
    package = Path(zreward_core.__file__).parent
    yield from sorted(path for path in package.rglob("*") if path.suffix in (".py", ".yaml"))


def _tracked() -> list[str]:
    """First parts of the keys that dvc.yaml tracks: a project's own stages have sections too."""
    stages = read_stages(GRAPH).values() if GRAPH.is_file() else ()
    lists = [stage.get("params") for stage in stages if isinstance(stage, dict)]
    params = [param for one in lists if isinstance(one, list) for param in one]
    return sorted({param.split(".")[0] for param in params if isinstance(param, str)})
