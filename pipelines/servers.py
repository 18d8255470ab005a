"""The servers behind `make ui`, each behind ``Guard``: `python -m pipelines.servers NAME ...`.

The guard runs inside each server: a proxy in front would leave the server's own port open, and
Dagster's webserver cannot listen on a Unix socket.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from pipelines.guard import Guard
from pipelines.images import ROUTE, image_folder

if TYPE_CHECKING:
    import flask

HOST = "127.0.0.1"
TOKEN = "ZREWARD_UI_TOKEN"
"""Environment variable with the token that the servers ask for; none if it is unset or empty."""
MLFLOW_PREFERENCES = {
    "mlflow.workflowType_v1": "machine_learning",  # instead of LLM traces
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,  # the assistant stays closed
    "mlflow.telemetry.info.alert.dismissed_v1": True,
    "mlflow.home.getting-started.collapsed_v1": True,  # an introduction to LLM traces
}
"""Keys of the browser's storage that MLflow's pages read, and their first values."""
TEXTS = (".csv", ".json", ".jsonl", ".ndjson", ".tsv", ".txt", ".xml", ".yaml")
"""Files of annotations that a browser shows as text."""
STYLE = (
    "body { font: 15px/1.5 system-ui, 'DejaVu Sans', sans-serif; color: #1f2430; margin: 28px }"
    "h1 { font-size: 26px } a { color: #0072B2 }"
    "dt { margin-top: 12px } dd { margin: 0; color: #6b7280 }"
)
"""Of the list of reports, as in ``zreward_core.pages``, which this package does not import."""
ARTIFACT_LIST = "/mlflow/artifacts/list"
ASSISTANT = "/ajax-api/3.0/mlflow/assistant"
MLFLOW_STYLE = "<style>[data-assistant-ui] { display: none !important }</style>"
"""Hides the button of the assistant, which the server does not offer."""


def dagster(*arguments: str) -> None:
    """`dagster dev`, with ``dagster_webserver`` below in place of the webserver that it starts."""
    from dagster._cli import dev

    start = dev.open_ipc_subprocess

    def start_guarded(parts: Sequence[str], **kwargs: Any) -> subprocess.Popen[Any]:
        if list(parts[1:3]) == ["-m", "dagster_webserver"]:
            parts = [sys.executable, "-m", "pipelines.servers", *parts[2:]]
        return start(parts, **kwargs)

    dev.open_ipc_subprocess = start_guarded
    dev.dev_command(arguments)


def dagster_webserver(*arguments: str) -> None:
    """Dagster's webserver, which also serves the images of assets."""
    from dagster_webserver import cli

    create: Callable[..., ASGIApp] = cli.create_app_from_workspace_process_context

    def create_with_images(*args: Any, **options: Any) -> Guard:
        image_folder().mkdir(parents=True, exist_ok=True)
        app: Any = create(*args, **options)
        app.router.routes.insert(0, Mount(ROUTE, StaticFiles(directory=image_folder())))
        return guarded(app)

    cli.create_app_from_workspace_process_context = create_with_images  # type: ignore[assignment]
    cli.dagster_webserver(arguments)


def mlflow(port: str, database: str, artifacts: str) -> None:
    """MLflow's tracking server on a store; the server of `mlflow server` with one worker."""
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    store, root = f"sqlite:///{database}", Path(artifacts).as_uri()
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = store
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = root
    initialize_backend_stores(store, store, root)
    from mlflow.server import REL_STATIC_DIR
    from mlflow.server import app as pages
    from mlflow.server.fastapi_app import app

    pages.after_request(_with_files)
    index = (Path(pages.root_path) / REL_STATIC_DIR / "index.html").read_text(encoding="utf-8")
    page = index.replace("<head>", f"<head>{MLFLOW_STYLE}<script>{_preferences()}</script>", 1)
    app.router.routes[:0] = [
        Route("/", lambda _: HTMLResponse(page)),
        # the assistant runs shell commands on this machine
        Mount(ASSISTANT, PlainTextResponse("the assistant is not served", 404)),
    ]
    serve(app, port)


def _with_files(response: "flask.Response") -> "flask.Response":
    """A response of MLflow, with an empty ``files`` in the list of a run without artifacts.

    MLflow leaves it out, and the page that compares such a run with another then fails.
    """
    from flask import request

    if request.path.endswith(ARTIFACT_LIST) and response.status_code == 200:
        response.set_data(json.dumps({"files": [], **response.get_json()}))
    return response


def _preferences() -> str:
    """JavaScript that stores the preferences which a browser does not have yet.

    MLflow has no settings for them on the server.
    """
    return "".join(
        f"localStorage.getItem({key!r}) ?? localStorage.setItem({key!r}, {json.dumps(value)!r});"
        for key, value in MLFLOW_PREFERENCES.items()
    )


class SourceFiles(StaticFiles):
    """Files that pages link to as the source of a rating; none of them is shown as a page."""

    def file_response(self, full_path: Any, *args: Any, **options: Any) -> Response:
        """A file as text, or to be saved."""
        response = super().file_response(full_path, *args, **options)
        response.headers["X-Content-Type-Options"] = "nosniff"
        if Path(full_path).suffix in TEXTS:
            response.headers["Content-Type"] = "text/plain; charset=utf-8"
        else:
            response.headers["Content-Disposition"] = "attachment"
        return response


def reports(port: str, folder: str) -> None:
    """The files of a folder with a list of its pages, and those of the folder ``data`` beside it.

    A page's relative link to a file in ``data`` so works here and where the page is a file.
    """
    # imports Dagster, which the other servers need not
    from pipelines.metadata import ABOUT, REPORTS

    def contents(_: Request) -> HTMLResponse:
        pages = sorted(path.relative_to(folder) for path in Path(folder).rglob("*.html"))
        pages = [page for page in pages if len(page.parts) == 1 or page.name == "index.html"]
        titles = {page: title for own in REPORTS.values() for title, page in own.items()}
        items = "".join(
            f'<dt><a href="{quote(str(page))}">{escape(titles.get(str(page), str(page)))}</a>'
            f"<dd>{ABOUT.get(str(page), '')}"
            for page in pages
        )
        listed = f"<dl>{items}</dl>" if items else "<p>No stage has written a report yet."
        head = f"<!doctype html><meta charset=utf-8><title>Reports</title><style>{STYLE}</style>"
        return HTMLResponse(f"{head}<h1>Reports</h1>{listed}")

    sources = Mount("/data", SourceFiles(directory=Path(folder).parent / "data", check_dir=False))
    files = Mount("/", StaticFiles(directory=folder, html=True))
    serve(Starlette(routes=[Route("/", contents), sources, files]), port)


def serve(app: ASGIApp, port: str) -> None:
    """Serve an application until interrupted."""
    uvicorn.run(guarded(app), host=HOST, port=int(port), log_level="warning")


def guarded(app: ASGIApp) -> Guard:
    """An application behind the guard, with the token of the environment."""
    return Guard(app, os.environ.get(TOKEN, ""))


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        command.__name__: command for command in (dagster, dagster_webserver, mlflow, reports)
    }
    commands[sys.argv[1]](*sys.argv[2:])
