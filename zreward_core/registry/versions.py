"""Versions of the student in the model registry, and which of them is champion.

The alias ``champion`` is authoritative. A tag of the model lists the versions that had it, so that
an alias moved by hand in MLflow can be distinguished from a promotion.
"""

import io
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zreward_core.config import UserError, parse_json
from zreward_core.manifest import MANIFEST_TAG, hub_snapshot, make_manifest, refuse_pickles
from zreward_core.mlflow_database import locked
from zreward_core.schemas import file_hashes, tree_hash
from zreward_core.store import (
    ALIAS,
    MODEL,
    SHA256_TAG,
    connect,
    experiment_id,
    store_errors,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPIONS_TAG = "champions"
DEMOTED_TAG = "demoted"
"""Tag of a version that lost the alias by hand; it is not promoted again automatically."""
MAX_CHAMPIONS = 100
VERSION = re.compile(r"[1-9][0-9]*")
PACKAGES = ("mlflow", "torch", "transformers", "safetensors", "pillow")


def all_versions(client: "MlflowClient") -> list["ModelVersion"]:
    """All versions of the student, newest first."""
    found = list(client.search_model_versions(f"name='{MODEL}'"))
    return sorted(found, key=lambda one: int(one.version), reverse=True)


def version_of(client: "MlflowClient", sha256: str) -> "ModelVersion | None":
    """The version with this hash and a manifest, or None."""
    found = [
        one
        for one in all_versions(client)
        if one.tags.get(SHA256_TAG) == sha256 and MANIFEST_TAG in one.tags
    ]
    return found[0] if found else None


def champion_of(client: "MlflowClient") -> "ModelVersion | None":
    """The version that has the alias, or None.

    Raises:
        UserError: the alias points to a version that does not exist.
    """
    model = _model(client)
    number = model.aliases.get(ALIAS) if model else None
    if number is None:
        return None
    for one in all_versions(client):
        if str(one.version) == str(number):
            return one
    raise UserError(
        f"the alias {ALIAS} of {MODEL} points to version {number}, which does not exist: give the"
        " alias to another version in MLflow (`zreward ui`), then run `zreward adopt`"
    )


def past_champions(client: "MlflowClient") -> list[str]:
    """Versions that have had the alias, oldest first, the current one included.

    Versions that were deleted in MLflow may be among them.

    Raises:
        UserError: the tag is not a list of version numbers.
    """
    model = _model(client)
    text = model.tags.get(CHAMPIONS_TAG, "[]") if model else "[]"
    try:
        found = parse_json(text)
    except ValueError:
        found = None
    # numbers: SQLite stores return int, servers str
    if not isinstance(found, list) or not all(VERSION.fullmatch(str(one)) for one in found):
        raise UserError(
            f"the tag {CHAMPIONS_TAG} of {MODEL} is {text[:80]!r}, not a list of version numbers:"
            " remove the tag in MLflow (`zreward ui`), then run `zreward adopt`, which begins a"
            " new list"
        )
    return [str(one) for one in found]


def _model(client: "MlflowClient") -> "RegisteredModel | None":
    """The registered model; None if nothing was registered yet."""
    found = client.search_registered_models(f"name='{MODEL}'")
    return found[0] if found else None


def set_champion(client: "MlflowClient", version: str, champions: list[str] | None = None) -> None:
    """Move the alias to a version and append the version to the history.

    Args:
        version: number of the version.
        champions: the history before the move; None: as recorded.
    """
    before = past_champions(client) if champions is None else champions
    if before[-1:] != [str(version)]:
        before = [*before, str(version)]
    client.set_registered_model_alias(MODEL, ALIAS, version)
    client.set_registered_model_tag(MODEL, CHAMPIONS_TAG, json.dumps(before[-MAX_CHAMPIONS:]))
    if DEMOTED_TAG in client.get_model_version(MODEL, version).tags:
        client.delete_model_version_tag(MODEL, version, DEMOTED_TAG)


def demote(client: "MlflowClient", version: str, reason: str) -> None:
    """Mark a version as one that lost the alias by hand."""
    client.set_model_version_tag(MODEL, version, DEMOTED_TAG, reason)


def tag_version(client: "MlflowClient", version: str, tags: Mapping[str, object]) -> None:
    """Set tags of a version."""
    for name, value in tags.items():
        client.set_model_version_tag(MODEL, version, name, str(value))


def register(
    client: "MlflowClient",
    folder: Path,
    code: Path,
    run_id: str,
    tags: Mapping[str, str],
    lineage: Path,
) -> "ModelVersion":
    """Register a student's folder as a new version, in one transaction with its tags.

    Args:
        folder: safetensors, tokenizer and card; its name is "student".
        code: source file of the pyfunc model (models from code, nothing is pickled).
        run_id: the run that produced the folder.
        tags: tags of the version, in addition to its hash and manifest.
        lineage: folder written by ``lineage.capture``.

    Raises:
        UserError: a file of the folder may be a pickle, or it is a pointer to a branch.
    """
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    refuse_pickles(folder)
    hub_snapshot(folder)
    assert folder.name == "student"  # MLflow names the artifact after the folder
    flavor = _HashedPyfunc()
    with _as_current(client), _quiet():
        info = Model.log(
            artifact_path=None,
            name="student",
            flavor=flavor,
            flavor_name=mlflow.pyfunc.__name__,
            run_id=run_id,
            python_model=str(code),
            artifacts={"student": str(folder.resolve()), "lineage": str(lineage)},
            signature=ModelSignature(
                inputs=Schema([ColSpec("string", "prompt"), ColSpec("string", "image")])
            ),
            pip_requirements=[f"{name}=={installed(name)}" for name in PACKAGES],
        )
        hashes = {SHA256_TAG: tree_hash(folder), MANIFEST_TAG: make_manifest(flavor.files, folder)}
        found = mlflow.register_model(info.model_uri, MODEL, tags={**tags, **hashes})
    return client.get_model_version(MODEL, str(found.version))


class _HashedPyfunc:
    """MLflow's pyfunc flavor; records the hash of each file before it is stored."""

    def save_model(self, path: str, **arguments: Any) -> None:
        """Save the model; ``files`` is then its manifest."""
        import mlflow

        mlflow.pyfunc.save_model(path, **arguments)
        for cache in list(Path(path).rglob("__pycache__")):
            shutil.rmtree(cache)
        self.files = file_hashes(Path(path))


def stand_in_run(client: "MlflowClient", reason: str) -> str:
    """An empty run for a version whose own run was not tracked."""
    tags: dict[str, Any] = {"mlflow.note.content": reason}
    run = client.create_run(experiment_id(client), run_name="register", tags=tags)
    client.set_terminated(run.info.run_id)
    return run.info.run_id


@contextmanager
def registry(create: bool = True) -> Iterator["MlflowClient"]:
    """The store for changes of versions and of the alias, by one process at a time.

    Args:
        create: create the store if it does not exist.

    Raises:
        UserError: there is no store, or it fails.
    """
    if not create:
        connect(create=False)  # before the lock makes a folder
    with locked():
        client = connect(create, write=True)
        with store_errors():
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MLflow's advice to add type hints and an input example; there is a signature."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore", UserWarning)
        yield


@contextmanager
def _as_current(client: "MlflowClient") -> Iterator[None]:
    """Within the block MLflow's module-level functions use the client's store."""
    wanted = {
        "MLFLOW_TRACKING_URI": client.tracking_uri,
        "MLFLOW_EXPERIMENT_ID": experiment_id(client),
    }
    kept = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
