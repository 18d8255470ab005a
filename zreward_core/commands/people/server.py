"""`zreward annotate push`, `pull`: the projects of an exported folder on a Label Studio server.

A project has the title "FOLDER: FILE" of its task file, by which it is found again, so both
commands may be repeated: what is there already is not made twice.
"""

import json
from pathlib import Path
from typing import Any

from zreward_core.commands.people.export import EXEMPLARS, IMAGES, TASKS
from zreward_core.commands.people.label_studio_client import LabelStudio, Record
from zreward_core.config import UserError
from zreward_core.schemas import read_json, write_json

CONFIG = "labeling_config.xml"


def push(folder: Path, server: LabelStudio, served: Path | None = None) -> list[str]:
    """Make a project for each task file of a folder, or bring it up to date.

    Args:
        folder: written by `zreward annotate export` or `zreward gsb export`.
        server: of Label Studio.
        served: the folder's absolute path where Label Studio runs, if that is another machine.

    Returns:
        A line about each project.

    Raises:
        UserError: the folder is not an export, or the server refuses something.
    """
    config, place = _read_config(folder), served or folder.resolve()
    parts = [name for name in (IMAGES, EXEMPLARS) if (folder / name).is_dir()]
    lines = []
    for file in task_files(folder):
        title = title_of(folder, file)
        project = find_project(server, title)
        state = "existed"
        if project is None:
            content = {"title": title, "label_config": config}
            project, state = server.call("POST", "/api/projects/", content), "made"
        elif project["label_config"].strip() != config.strip():
            path, state = f"/api/projects/{project['id']}/", "has a new labelling interface"
            server.call("PATCH", path, {"label_config": config})
        number = int(project["id"])
        _add_storages(server, number, [str(place / name) for name in parts])
        added = _add_tasks(server, number, read_json(file))
        lines.append(f"{title}: {state}, {added} tasks added ({server.address}/projects/{number})")
    return lines


def pull(folder: Path, server: LabelStudio, output: Path) -> list[str]:
    """Write the annotations of the folder's projects as raw JSON exports, one file each.

    A file is written only if the annotations have changed.

    Returns:
        A line about each file.

    Raises:
        UserError: a project does not exist, or the server refuses something.
    """
    lines = []
    for file in task_files(folder):
        title = title_of(folder, file)
        project = find_project(server, title)
        if project is None:
            raise UserError(
                f"{server.address} has no project '{title}': run `zreward annotate push {folder}`"
            )
        tasks = sorted(server.export(int(project["id"])), key=lambda task: task["id"])
        number = sum(len(task.get("annotations", [])) for task in tasks)
        target = output / file.name
        unchanged = target.is_file() and read_json(target) == tasks
        if not unchanged:
            write_json(tasks, target)
        lines.append(f"{target}: {number} annotations{', unchanged' if unchanged else ''}")
    return lines


def task_files(folder: Path) -> list[Path]:
    """The task files of an exported folder.

    Raises:
        UserError: there is none.
    """
    files = sorted((folder / TASKS).glob("*.json")) or sorted(folder.glob("tasks.json"))
    if not files:
        raise UserError(
            f"{folder} has no tasks: run `zreward annotate export {folder}`, or `zreward gsb"
            f" export {folder}`"
        )
    return files


def title_of(folder: Path, file: Path) -> str:
    """Title of the project of a task file."""
    return f"{folder.resolve().name}: {file.stem}"


def find_project(server: LabelStudio, title: str) -> Record | None:
    """The project of exactly this title.

    Raises:
        UserError: several have it.
    """
    found = [one for one in server.projects(title) if one["title"] == title]
    if len(found) > 1:
        raise UserError(
            f"{server.address} has {len(found)} projects '{title}': rename or delete all but one"
        )
    return found[0] if found else None


def _read_config(folder: Path) -> str:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{path} not found: run `zreward annotate export {folder}`")
    return path.read_text(encoding="utf-8")


def _add_storages(server: LabelStudio, project: int, paths: list[str]) -> None:
    """Permit Label Studio to serve the files of the folders; nothing is imported from them."""
    present = server.call("GET", f"/api/storages/localfiles?project={project}")
    missing = set(paths) - {storage["path"] for storage in present}
    for path in sorted(missing):
        content = {"project": project, "title": Path(path).name, "path": path}
        try:
            server.call("POST", "/api/storages/localfiles/", content | {"use_blob_urls": False})
        except UserError as error:
            raise UserError(
                f"{error}: start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"
                f" and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={Path(path).parent}, then run the"
                " same command again"
            ) from None


def _add_tasks(server: LabelStudio, project: int, tasks: list[Record]) -> int:
    """Import the tasks whose data the project does not have.

    Returns:
        Their number.

    Raises:
        UserError: the server imported another number.
    """
    present = {_key(task["data"]) for task in server.export(project, with_unlabelled=True)}
    new = [task for task in tasks if _key(task["data"]) not in present]
    if new:
        answer = server.call("POST", f"/api/projects/{project}/import", new)
        if answer.get("task_count") != len(new):
            raise UserError(
                f"Label Studio imported {answer.get('task_count')} of {len(new)} tasks into project"
                f" {project}: run the same command again, which adds the others"
            )
    return len(new)


def _key(data: dict[str, Any]) -> str:
    return json.dumps(data, sort_keys=True)
