"""The project's MLflow store, and models fetched from it by a ``models:/`` URI.

By default the store is a SQLite file in the project root with its artifacts beside it;
``MLFLOW_TRACKING_URI`` and ``mlflow.set_tracking_uri`` override it. mlflow is imported lazily.
"""

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from zreward_core.config import UserError
from zreward_core.schemas import combined_hash, file_hashes, read_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

DATABASE = Path(".zreward/mlflow.db")
ARTIFACTS = Path(".zreward/mlartifacts")
DOWNLOADS = Path(".zreward/versions")
EXPERIMENT = "zreward"
MODEL = "zreward-student"
ALIAS = "champion"
SCHEME = "models:/"
SHA256_TAG = "sha256"
FOLDER, MANIFEST = "artifacts/student", "artifacts/lineage/manifest.json"
"""Artifacts of a version: the student's files, and their hashes."""
SETTINGS = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Environment of every process that uses MLflow: no unpickling, no telemetry."""


def is_uri(source: object) -> bool:
    """Whether a model is given as a registry URI rather than as a folder or a hub id."""
    return isinstance(source, str) and source.startswith(SCHEME)


def connect(create: bool = True) -> "MlflowClient":
    """A client of the project's store.

    Args:
        create: create the store if it does not exist.

    Raises:
        UserError: it does not exist and ``create`` is false.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient, get_tracking_uri
    from mlflow.tracking._tracking_service.utils import is_tracking_uri_set

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # creation of tables
    if is_tracking_uri_set():
        return MlflowClient(get_tracking_uri())
    if not (create or DATABASE.is_file()):
        raise UserError(
            f"{DATABASE} not found in {Path.cwd()}: run in a project root that has promoted a"
            " student (`zreward promote`), or set MLFLOW_TRACKING_URI"
        )
    DATABASE.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(f"sqlite:///{DATABASE.resolve()}")


def experiment_id(client: "MlflowClient") -> str:
    """Identifier of the project's experiment, created if it does not exist."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return found.experiment_id
    local = client.tracking_uri.startswith("sqlite:")
    return client.create_experiment(EXPERIMENT, ARTIFACTS.resolve().as_uri() if local else None)


def find_version(client: "MlflowClient", uri: str) -> "ModelVersion":
    """The version that ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` names.

    Raises:
        UserError: malformed, or no such model, alias or version.
    """
    from mlflow.exceptions import MlflowException

    name, mark, alias = uri.removeprefix(SCHEME).partition("@")
    name, _slash, number = (name, "", "") if mark else name.partition("/")
    if not name or not (alias or number.isdigit()):
        raise UserError(
            f"{uri!r} is not the URI of a version: write {SCHEME}{MODEL}@{ALIAS} or"
            f" {SCHEME}{MODEL}/3"
        )
    try:
        if alias:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, number)
    except MlflowException as error:
        raise UserError(
            f"{uri} is not in the registry {client.tracking_uri}: {error.message}"
        ) from None


def fetch(uri: str, sha256: str | None = None) -> Path:
    """Folder of a version's student, after checking its files against the registered hashes.

    Args:
        uri: URI of the version.
        sha256: expected hash of the student; None: the hash in the version's tag.

    Raises:
        UserError: there is no such version, or its files differ from the registered ones.
    """
    client = connect(create=False)
    version = find_version(client, uri)
    expected = sha256 or version.tags.get(SHA256_TAG)
    found = check_manifest(artifact(client, version, FOLDER), artifact(client, version, MANIFEST))
    if expected and found != expected:
        raise UserError(
            f"{uri} has the sha256 {found}, not {expected}: it is another student; run"
            " `zreward adopt`, or correct the URI or the hash"
        )
    return artifact(client, version, FOLDER)


def artifact(client: "MlflowClient", version: "ModelVersion", name: str) -> Path:
    """Path of a version's file or folder; downloaded to ``.zreward`` from a remote store.

    Raises:
        UserError: the version has no such artifact.
    """
    base = _location(client, version)
    parsed = urlparse(base)
    if parsed.scheme in ("", "file"):
        path = Path(url2pathname(parsed.path)) / name
    else:
        path = _download(client, base, name)
    if not path.exists():
        raise UserError(
            f"version {version.version} of {version.name} has no {name} in {base}: its files were"
            " removed, or `zreward promote` did not register it; register the model again"
        )
    return path


def check_manifest(folder: Path, manifest: Path) -> str:
    """Hash of a folder, after checking that its files are exactly those of its manifest.

    Raises:
        UserError: a file is missing, added or changed.
    """
    hashes = file_hashes(folder)
    expected = read_json(manifest)["files"]
    wrong = sorted(
        name for name in hashes.keys() | expected.keys() if hashes.get(name) != expected.get(name)
    )
    if wrong:
        raise UserError(
            f"{folder}: {wrong} differ from {manifest.name}, the hashes taken at registration, so"
            " the model is not loaded. Restore the files, or register the model again"
        )
    return combined_hash(hashes)


def make_manifest(folder: Path) -> dict[str, Any]:
    """Manifest for ``check_manifest``: the hash of each file and of the folder."""
    hashes = file_hashes(folder)
    return {"files": hashes, SHA256_TAG: combined_hash(hashes)}


def _location(client: "MlflowClient", version: "ModelVersion") -> str:
    if version.model_id:
        return str(client.get_logged_model(version.model_id).artifact_location)
    return str(client.get_model_version_download_uri(version.name, version.version))


def _download(client: "MlflowClient", base: str, name: str) -> Path:
    from mlflow.artifacts import download_artifacts

    target = DOWNLOADS / base.rstrip("/").split("/")[-2] / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DOWNLOADS) as scratch:
            found = download_artifacts(
                artifact_uri=f"{base.rstrip('/')}/{name}",
                dst_path=scratch,
                tracking_uri=client.tracking_uri,
            )
            os.replace(found, target)
    return target
