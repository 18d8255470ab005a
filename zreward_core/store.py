"""The project's MLflow store, and models fetched from it by a ``models:/`` URI.

By default the store is a SQLite file in the project root with its artifacts beside it;
``MLFLOW_TRACKING_URI`` and ``mlflow.set_tracking_uri`` override it. mlflow is imported lazily.
"""

import logging
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from zreward_core.config import UserError
from zreward_core.schemas import combined_hash, file_hash, file_hashes, read_json

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
CARD = "zreward.json"
"""In a model folder; with ``hub_id`` and ``revision`` it points to a hub checkpoint."""
COMMIT = re.compile(r"[0-9a-f]{40}")
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

    If the folder is a pointer, the files that were registered of its hub checkpoint are checked.

    Raises:
        UserError: a file is missing, added or changed.
    """
    hashes, content = file_hashes(folder), read_json(manifest)
    expected = content["files"]
    wrong = sorted(
        name for name in hashes.keys() | expected.keys() if hashes.get(name) != expected.get(name)
    )
    if wrong:
        raise UserError(
            f"{folder}: {wrong} differ from {manifest.name}, the hashes taken at registration, so"
            " the model is not loaded. Restore the files, or register the model again"
        )
    if "hub" in content:
        _check_hub_files(folder, content["hub"])
    return combined_hash(hashes)


def make_manifest(folder: Path) -> dict[str, Any]:
    """Manifest for ``check_manifest``: the hash of each file and of the folder.

    That of a pointer has ``hub``: the hub id, the commit and the hash of each file it resolves to.

    Raises:
        UserError: the folder is a pointer that cannot be registered; see ``hub_snapshot``.
    """
    hashes = file_hashes(folder)
    manifest = {"files": hashes, SHA256_TAG: combined_hash(hashes)}
    if (snapshot := hub_snapshot(folder)) is not None:
        pointer = {key: read_json(folder / CARD)[key] for key in ("hub_id", "revision")}
        manifest["hub"] = pointer | {"files": file_hashes(snapshot)}
    return manifest


def hub_snapshot(folder: Path, download: list[str] | None = None) -> Path | None:
    """Local files of the hub checkpoint that a pointer names; None if the folder is no pointer.

    Args:
        folder: a model folder.
        download: files to download; None: the checkpoint must have been downloaded.

    Raises:
        UserError: the pointer names a branch or tag, whose content changes, or the checkpoint is
            not on this machine.
    """
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    if not card.get("hub_id"):
        return None
    source, revision = str(card["hub_id"]), str(card.get("revision"))
    if Path(source).is_dir():
        return Path(source)
    if not COMMIT.fullmatch(revision):
        raise UserError(
            f"{folder / CARD} points to {source} at {revision!r}, which is not a commit: a branch"
            " or tag can name other weights tomorrow, so it is not registered. Set the revision in"
            " base_vlm (params.yaml) to the 40 digits of the commit"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            source, revision=revision, allow_patterns=download, local_files_only=download is None
        )
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise UserError(
            f"{source} at {revision} is not on this machine: run the stage that reads it, such as"
            f" `dvc repro evaluate`, with a network ({error})"
        ) from None
    return Path(found)


def _check_hub_files(folder: Path, hub: dict[str, Any]) -> None:
    snapshot = hub_snapshot(folder, sorted(hub["files"]))
    assert snapshot is not None, folder
    wrong = sorted(
        name
        for name, sha256 in hub["files"].items()
        if not (snapshot / name).is_file() or file_hash(snapshot / name) != sha256
    )
    if wrong:
        raise UserError(
            f"{hub['hub_id']} at {hub['revision']}: {wrong} differ from the hashes taken at"
            f" registration, so the model is not loaded. Delete {snapshot} to download them again,"
            " or register the model again"
        )


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
