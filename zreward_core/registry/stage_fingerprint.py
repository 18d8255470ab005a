"""What DVC knows of a stage: md5s of its deps, its params, and one hash of both.

The hash of a run's recipe equals that of its entry in dvc.lock, which is how the two find each
other, whether the stage ran or was restored from DVC's cache.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from zreward_core.config import PARAMS_FILE, merge, read_yaml

GRAPH = Path("dvc.yaml")
LOCK = Path("dvc.lock")

Md5s = dict[str, str]
"""Path to md5, as dvc.lock has it; that of a folder ends in ``.dir``."""


def parse_yaml(text: str) -> dict[str, Any]:
    """YAML 1.2 as DVC reads and writes it: there `5e-05` is a number, to PyYAML it is a text."""
    return YAML(typ="safe", pure=True).load(text) or {}


def read_lock(text: str | None = None) -> dict[str, dict[str, Any]]:
    """Stage to its entry in dvc.lock; empty where there is no lock.

    Args:
        text: content of a lock that was kept; without it the one in the current folder.
    """
    if text is None:
        text = LOCK.read_text() if LOCK.is_file() else ""
    return parse_yaml(text).get("stages", {})


def md5s(entry: Mapping[str, Any], kind: str) -> Md5s:
    """Path to md5 of a lock entry's ``deps`` or ``outs``."""
    return {one["path"]: one.get("md5", "") for one in entry.get(kind, [])}


def locked_params(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Params of a lock entry: those of params.yaml by key."""
    return dict(entry.get("params", {}).get(str(PARAMS_FILE), {}))


def current_params(stage: str, overlay: Path | None = None) -> dict[str, Any]:
    """Params that DVC tracks for a stage, with the values they have now."""
    params = parse_yaml(PARAMS_FILE.read_text(encoding="utf-8"))
    if overlay is not None:
        params = merge(params, parse_yaml(overlay.read_text(encoding="utf-8")))
    keys = read_yaml(GRAPH)["stages"][stage].get("params", [])
    return {key: params[key] for key in keys if isinstance(key, str) and key in params}


def current_deps(stage: str) -> Md5s:
    """md5 of each dep of a stage by DVC's own hashing, which equals what dvc.lock will say."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    with Repo(".") as repo:
        deps = repo.stage.load_one(path=str(GRAPH), name=stage).deps
        files = [dep for dep in deps if not isinstance(dep, ParamsDependency) and dep.exists]
        return {str(dep.def_path): str(dep.get_hash().value) for dep in files}


def recipe_hash(deps: Md5s, params: Mapping[str, Any]) -> str:
    """sha256 of what a stage is made from."""
    content = json.dumps({"deps": deps, "params": params}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def recipe_of(entry: Mapping[str, Any]) -> str:
    """``recipe_hash`` of a lock entry."""
    return recipe_hash(md5s(entry, "deps"), locked_params(entry))
