"""Versions of the student in the model registry, and which of them is champion.

The alias ``champion`` is authoritative. A tag of the model lists the versions that had it, so that
an alias moved by hand in MLflow can be distinguished from a promotion.
"""

import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zreward_core.schemas import write_json
from zreward_core.store import ALIAS, MODEL, SHA256_TAG, experiment_id, make_manifest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPIONS_TAG = "champions"
DEMOTED_TAG = "demoted"
"""Tag of a version that lost the alias by hand; it is not promoted again automatically."""
MAX_CHAMPIONS = 100
PACKAGES = ("mlflow", "torch", "transformers", "safetensors", "pillow")


def all_versions(client: "MlflowClient") -> list["ModelVersion"]:
    """All versions of the student, newest first."""
    found = list(client.search_model_versions(f"name='{MODEL}'"))
    return sorted(found, key=lambda one: int(one.version), reverse=True)


def version_of(client: "MlflowClient", sha256: str) -> "ModelVersion | None":
    """The version with this hash, or None."""
    found = [one for one in all_versions(client) if one.tags.get(SHA256_TAG) == sha256]
    return found[0] if found else None


def champion_of(client: "MlflowClient") -> "ModelVersion | None":
    """The version that has the alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        number = client.get_registered_model(MODEL).aliases.get(ALIAS)
    except MlflowException:  # nothing was registered yet
        return None
    return None if number is None else client.get_model_version(MODEL, str(number))


def past_champions(client: "MlflowClient") -> list[str]:
    """Versions that have had the alias, oldest first, the current one included."""
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_registered_model(MODEL).tags
    except MlflowException:
        return []
    return json.loads(tags.get(CHAMPIONS_TAG, "[]"))


def set_champion(client: "MlflowClient", version: str, champions: list[str] | None = None) -> None:
    """Move the alias to a version and append the version to the history.

    Args:
        version: number of the version.
        champions: the history before the move; None: as recorded.
    """
    before = past_champions(client) if champions is None else champions
    if before[-1:] != [version]:
        before = [*before, version]
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
    """Register a student's folder as a new version.

    Args:
        folder: safetensors, tokenizer and card; its name is "student".
        code: source file of the pyfunc model (models from code, nothing is pickled).
        run_id: the run that produced the folder.
        tags: tags of the version, in addition to its hash.
        lineage: folder written by ``lineage.capture``; the manifest is added to it.
    """
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    manifest = make_manifest(folder)
    write_json(manifest, lineage / "manifest.json")
    assert folder.name == "student"  # MLflow names the artifact after the folder
    with _as_current(client), _quiet():
        info = Model.log(
            artifact_path=None,
            name="student",
            flavor=mlflow.pyfunc,
            registered_model_name=MODEL,
            run_id=run_id,
            python_model=str(code),
            artifacts={"student": str(folder.resolve()), "lineage": str(lineage)},
            signature=ModelSignature(
                inputs=Schema([ColSpec("string", "prompt"), ColSpec("string", "image")])
            ),
            pip_requirements=[f"{name}=={installed(name)}" for name in PACKAGES],
        )
    number = str(info.registered_model_version)
    tag_version(client, number, {**tags, SHA256_TAG: manifest[SHA256_TAG]})
    return client.get_model_version(MODEL, number)


def stand_in_run(client: "MlflowClient", reason: str) -> str:
    """An empty run for a version whose own run was not tracked."""
    tags: dict[str, Any] = {"mlflow.note.content": reason}
    run = client.create_run(experiment_id(client), run_name="register", tags=tags)
    client.set_terminated(run.info.run_id)
    return run.info.run_id


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
