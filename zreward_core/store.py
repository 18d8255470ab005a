"""The project's MLflow store, and models fetched from it by a ``models:/`` URI.

By default the store is a SQLite file in the project root with its artifacts beside it;
``MLFLOW_TRACKING_URI`` and ``mlflow.set_tracking_uri`` override it. Its artifact locations are
relative to the root, so a copy of the project is complete. mlflow is imported lazily.
"""

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from zreward_core.config import UserError, read_yaml
from zreward_core.extras import extras_named
from zreward_core.manifest import FOLDER, compare, manifest_of
from zreward_core.mlflow_database import (
    ARTIFACTS,
    DATABASE,
    EXPERIMENT,
    EXPERIMENT_TAGS,
    check_database,
    create_database,
    database_of,
    is_own,
    locked,
    make_relative,
    store_errors,
)
from zreward_core.schemas import combined_hash

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.entities.model_registry import ModelVersion

DOWNLOADS = Path(".zreward/versions")
MODEL = "zreward-student"
ALIAS = "champion"
SCHEME = "models:/"
SHA256_TAG = "sha256"
"""Tag of a version: the hash of the student's folder."""
SETTINGS = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}
"""Environment of every process that uses MLflow: no unpickling, no telemetry, short retries."""
FORCED = ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION",)
"""Settings that the user's environment cannot change."""


def is_uri(source: object) -> bool:
    """Whether a model is given as a registry URI rather than as a folder or a hub id."""
    return isinstance(source, str) and source.startswith(SCHEME)


def connect(create: bool = True, write: bool | None = None) -> "MlflowClient":
    """A client of the project's store.

    Args:
        create: create the store if it does not exist.
        write: also check that the database can be written; None: as ``create``.

    Raises:
        UserError: it does not exist and ``create`` is false, or it is locked or unreadable.
    """
    for name, value in SETTINGS.items():
        if name in FORCED:
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)
    with extras_named():
        from mlflow import MlflowClient, get_tracking_uri
        from mlflow.tracking._tracking_service.utils import is_tracking_uri_set

    # creation of tables, and tracebacks of errors that are raised as well
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    uri = get_tracking_uri() if is_tracking_uri_set() else f"sqlite:///{DATABASE.resolve()}"
    path = database_of(uri)
    if path is not None:
        if not path.exists():
            if not create:
                raise UserError(
                    f"{path} not found: run in a project root that has promoted a student"
                    " (`zreward promote`), or set MLFLOW_TRACKING_URI"
                )
            with locked():
                if not path.exists():
                    create_database(path)
        old = check_database(path, create if write is None else write)
        if old and is_own(path):
            make_relative(path, old)
    return MlflowClient(uri)


def experiment_id(client: "MlflowClient") -> str:
    """Identifier of the project's experiment, created if it does not exist."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:  # the database was created by an MLflow server, or is not a file
        with locked():
            found = client.get_experiment_by_name(EXPERIMENT) or _create_experiment(client)
    return found.experiment_id


def _create_experiment(client: "MlflowClient") -> "Experiment":
    path = database_of(client.tracking_uri)
    location = ARTIFACTS.resolve().as_uri()
    created = client.create_experiment(EXPERIMENT, location if path else None, tags=EXPERIMENT_TAGS)
    if path and is_own(path):
        make_relative(path, location)
    return client.get_experiment(created)


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
    with store_errors():
        version = find_version(client, uri)
        folder = artifact(client, version, FOLDER)
    found = combined_hash(compare(folder, manifest_of(version), FOLDER))
    for expected in (version.tags.get(SHA256_TAG), sha256 or found):
        if found != expected:
            raise UserError(
                f"{uri} has the sha256 {found}, not {expected}: it is another student; run"
                " `zreward adopt`, or correct the URI or the hash"
            )
    return folder


def checked(client: "MlflowClient", version: "ModelVersion", part: str) -> Path:
    """Path of a version's part, after checking that its files are exactly the registered ones.

    Raises:
        UserError: the version has no manifest or no such part, a file is missing, added or
            changed, or one may be a pickle.
    """
    folder = artifact(client, version, part)
    compare(folder, manifest_of(version), part)
    return folder


def check_loaded(folder: Path) -> None:
    """Check the files of a version that MLflow is about to load, wherever it copied them.

    Args:
        folder: the version's files, with ``MLmodel``.

    Raises:
        UserError: no registered version has these files, or the registry is not available.
    """
    model_id = read_yaml(folder / "MLmodel").get("model_id")
    client = connect(create=False)
    with store_errors():
        versions = client.search_model_versions(f"name='{MODEL}'")
    for version in versions:
        if version.source == f"{SCHEME}{model_id}":
            compare(folder, manifest_of(version))
            return
    raise UserError(
        f"{folder} is not a version of {MODEL} in {client.tracking_uri}, so the model is not"
        " loaded: set MLFLOW_TRACKING_URI to the registry that it came from"
    )


def artifact(client: "MlflowClient", version: "ModelVersion", name: str) -> Path:
    """Path of a version's file or folder; downloaded to ``.zreward`` from a remote store.

    Raises:
        UserError: the version has no such artifact.
    """
    base = _location(client, version)
    parsed = urlparse(base)
    if parsed.scheme in ("", "file"):
        path = _root(client) / url2pathname(parsed.path) / name
    else:
        path = _download(client, base, name)
    if not path.exists():
        raise UserError(
            f"version {version.version} of {version.name} has no {name or 'files'} in {base}: its"
            " files were removed, or `zreward promote` did not register it; register it again"
        )
    return path


def _root(client: "MlflowClient") -> Path:
    """The folder that relative locations refer to: the root of the database's project."""
    path = database_of(client.tracking_uri)
    return path.parents[1] if path and path.match(str(DATABASE)) else Path.cwd()


def _location(client: "MlflowClient", version: "ModelVersion") -> str:
    if version.model_id:
        return str(client.get_logged_model(version.model_id).artifact_location)
    return str(client.get_model_version_download_uri(version.name, version.version))


def _download(client: "MlflowClient", base: str, name: str) -> Path:
    from mlflow.artifacts import download_artifacts

    target = DOWNLOADS / base.rstrip("/").split("/")[-2] / (name or "whole")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DOWNLOADS) as scratch:
            folder = Path(scratch) / "files"
            folder.mkdir()
            found = download_artifacts(
                artifact_uri=f"{base.rstrip('/')}/{name}",
                dst_path=str(folder),
                tracking_uri=client.tracking_uri,
            )
            os.replace(found, target)
    return target
