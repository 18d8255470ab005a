"""doctor: verifies what the pipeline relies on but does not read completely at each run."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safetensors import SafetensorError, safe_open

from zreward_core.commands.dvc_cache import (
    cache_folder,
    damaged_files,
    lock_files,
    locked_files,
)
from zreward_core.commands.dvc_locks import dead_processes
from zreward_core.commands.promote import JUDGED_TAG, known_verdict
from zreward_core.config import PARAMS_FILE, UserError, read_yaml
from zreward_core.dvc import (
    GRAPH,
    RWLOCK,
    STAGE_LOCKS,
    holders,
    is_locked,
    process_name,
    read_rwlock,
    read_stages,
    refuse_conflict,
)
from zreward_core.manifest import WHOLE, refuse_pickles
from zreward_core.mlflow_database import database_of
from zreward_core.registry.champion_file import CHAMPION_FILE
from zreward_core.registry.versions import all_versions, champion_of, past_champions
from zreward_core.schemas import read_json
from zreward_core.store import (
    DATABASE,
    MODEL,
    SHA256_TAG,
    checked,
    connect,
    fetch,
    store_errors,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

YAML_FILES = ("*.yaml", "params/*.yaml", "*/dvc.yaml", "data/*.yaml")
CARD, INDEX = "zreward.json", "*.safetensors.index.json"
SHOWN = 3
"""Files that a finding names."""


class Finding(NamedTuple):
    """Something wrong, and its remedy."""

    part: str
    """yaml, cache, locks, registry or models."""
    problem: str
    remedy: str


def examine() -> Iterator[Finding]:
    """Findings of the project in the current folder; nothing is changed."""
    broken = list(yaml_findings())
    yield from broken
    if Path(".dvc").is_dir() and not broken:
        yield from missing_findings()
        yield from cache_findings()  # the cache is described by dvc.lock
    yield from lock_findings()
    yield from registry_findings()
    yield from model_findings()


def describe(findings: list[dict[str, str]]) -> str:
    """Findings as text."""
    lines = [f"{one['part']}: {one['problem']}\n  -> {one['remedy']}" for one in findings]
    return "\n".join(lines) or "cache, registry, locks, model folders and YAML files are intact"


def yaml_findings() -> Iterator[Finding]:
    """YAML files with a merge conflict or malformed content."""
    found = {path for pattern in YAML_FILES for path in Path(".").glob(pattern)}
    for path in sorted({*found, *lock_files()}):
        try:
            refuse_conflict(path)
            read_yaml(path)
        except UserError as error:
            yield Finding("yaml", str(error), f"edit {path}, or `git checkout {path}`")


def missing_findings() -> Iterator[Finding]:
    """Files that the stages need and that are missing; a DVC workspace may have no params."""
    path = GRAPH
    try:
        if GRAPH.is_file() and any(one.get("params") for one in read_stages(GRAPH).values()):
            path = PARAMS_FILE
    except UserError as error:
        yield Finding("yaml", str(error), f"edit {GRAPH}, or `git checkout {GRAPH}`")
        return
    if not path.is_file():
        restore = f"`git checkout {path}`, or `zreward init .` writes that of the demo"
        yield Finding("yaml", f"{path} not found", restore)


def cache_findings() -> Iterator[Finding]:
    """Damaged cache files, and outs of dvc.lock that exist nowhere."""
    try:
        damaged = damaged_files(again=True)
    except UserError as error:
        yield Finding("cache", str(error), "correct the file")
        return
    files, folder = list(locked_files()), cache_folder()
    missing = sorted(
        str(path)
        for path, md5 in files
        if not (path.exists() or (folder / md5[:2] / md5[2:]).is_file())
    )
    if missing:
        yield Finding(
            "cache",
            f"{len(missing)} files of dvc.lock are neither in the workspace nor in the cache:"
            f" {', '.join(missing[:SHOWN])}",
            "`dvc pull` from a remote, or `zreward repro`",
        )
    for path in damaged:
        users = sorted(str(one) for one, md5 in files if md5 == path.parent.name + path.name)
        used = f"used by {', '.join(users[:SHOWN])}" if users else "used by an earlier result"
        yield Finding(
            "cache",
            f"{path}: its content is not that of its md5 ({used})",
            "`zreward repro` moves it away and restores it from the workspace or runs the stage"
            " again; `dvc fetch` restores it from a remote",
        )


def lock_findings() -> Iterator[Finding]:
    """Locks of processes that no longer exist, and of stages that outlived their DVC."""
    content = read_rwlock()
    if content is None:
        yield Finding("locks", f"{RWLOCK} is corrupt", "`zreward repro` removes it")
    else:
        for info in dead_processes(content).values():
            yield Finding(
                "locks",
                f"{RWLOCK} has locks of {process_name(info)}, which no longer exists",
                "`zreward repro` releases them",
            )
    for path in sorted(STAGE_LOCKS.glob("*")):
        if is_locked(path) and not holders():
            owner = path.read_text() or "a process"
            yield Finding(
                "locks",
                f"{owner} still runs the stage {path.name}, but the DVC that started it is gone",
                f"wait for it, or end {owner}",
            )


def registry_findings() -> Iterator[Finding]:
    """A damaged store, versions with other files or unreadable tags, a wrong champion."""
    try:
        client = connect(create=False)
        path = database_of(client.tracking_uri)
        if path is not None:
            yield from _database_findings(path)
        with store_errors():
            versions = all_versions(client)
        for version in versions:
            yield from _version_findings(client, version)
        yield from _alias_findings(client, bool(versions))
    except UserError as error:
        if (
            DATABASE.exists() or "MLFLOW_TRACKING_URI" in os.environ
        ):  # else nothing was registered yet
            yield Finding("registry", str(error), "see the message")
        return
    yield from _choice_findings()


def _version_findings(client: "MlflowClient", version: "ModelVersion") -> Iterator[Finding]:
    name = f"version {version.version}"
    try:
        with store_errors():
            checked(client, version, WHOLE)
    except UserError as error:
        restore = "restore the files from a copy, or `zreward promote` registers the student again"
        yield Finding("registry", f"{name}: {error}", restore)
    if JUDGED_TAG in version.tags and known_verdict(version) is None:
        yield Finding(
            "registry",
            f"{name}: the gate's verdict in its tags gate.* is not readable",
            f"remove its tag {JUDGED_TAG} in MLflow (`zreward ui`): `zreward promote` does not use"
            " the verdict and judges the version again",
        )


def _alias_findings(client: "MlflowClient", any_version: bool) -> Iterator[Finding]:
    """A champion that does not exist or was not recorded, and an unreadable history."""
    champion, past = None, None
    try:
        with store_errors():
            champion = champion_of(client)
        if champion is None and any_version:
            yield Finding(
                "registry", f"no version of {MODEL} is champion", "`zreward promote` sets one"
            )
    except UserError as error:
        yield Finding("registry", str(error), "see the message")
    try:
        with store_errors():
            past = past_champions(client)
    except UserError as error:
        yield Finding("registry", str(error), "see the message")
    if champion is not None and past is not None and past[-1:] != [str(champion.version)]:
        yield Finding(
            "registry",
            f"version {champion.version} was made champion by hand",
            "`zreward adopt` records it",
        )


def _database_findings(path: Path) -> Iterator[Finding]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        try:
            (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            result = str(error)
    if result != "ok":
        yield Finding(
            "registry",
            f"{path} is damaged: {result}",
            "restore it from a copy, or move it away and run `zreward promote`",
        )


def _choice_findings() -> Iterator[Finding]:
    """data/champion.yaml names a version that cannot be fetched."""
    try:
        choice = read_yaml(CHAMPION_FILE)
        if str(choice.get("source", "")).startswith("models:/"):
            fetch(choice["source"], choice.get(SHA256_TAG))
    except UserError as error:
        yield Finding("registry", f"{CHAMPION_FILE}: {error}", "`zreward adopt` writes the file")


def model_findings() -> Iterator[Finding]:
    """Model folders with an unreadable card or weights, or with pickles."""
    remedy = "`zreward repro` restores the folder, if it is an output; else copy it again"
    for path in sorted(Path("data").rglob("*.safetensors")):
        try:
            with safe_open(path, "np") as weights:
                weights.keys()
        except (SafetensorError, OSError) as error:
            yield Finding("models", f"{path} is not readable: {error}", remedy)
    for path in sorted(Path("data").rglob(INDEX)):
        try:
            names = set(read_json(path)["weight_map"].values())
        except (UserError, KeyError, AttributeError) as error:
            yield Finding("models", f"{path} is not readable: {error}", remedy)
            continue
        missing = sorted(name for name in names if not (path.parent / name).is_file())
        if missing:
            yield Finding("models", f"{path} names missing files: {missing[:SHOWN]}", remedy)
    for card in sorted(Path("data").rglob(CARD)):
        try:
            _check_card(card)
            refuse_pickles(card.parent)
        except UserError as error:
            yield Finding("models", str(error), remedy)


def _check_card(path: Path) -> None:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must contain a mapping")
    if "rubric" in content:  # a reward model; else a generator or a pointer to the hub
        from zreward_core.models.card import read_card

        read_card(path.parent)
