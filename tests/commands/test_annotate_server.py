"""`zreward annotate push` and `pull` against Label Studio's API, on a local stand-in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.commands.label_studio_stand_in import LEGACY, PERSONAL, LabelStudioStandIn, running
from zreward_core.cli import app
from zreward_core.commands.people.label_studio_client import TOKEN, LabelStudio
from zreward_core.commands.people.server import pull, push
from zreward_core.config import UserError
from zreward_core.schemas import read_json, write_json

FOLDER, PEOPLE = Path("annotation_project"), Path("data/drops/people")


def task(number: int) -> dict:
    images = [{"image": f"/data/local-files/?d=images/{number}.png"}]
    return {"data": {"prompt": f"prompt {number}", "images": images}}


@pytest.fixture
def state() -> LabelStudioStandIn:
    return LabelStudioStandIn()


@pytest.fixture
def server(
    state: LabelStudioStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LabelStudio]:
    """A client, in a folder with an export for three annotators."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TOKEN, PERSONAL)
    for name in ("images", "exemplars"):
        (FOLDER / name).mkdir(parents=True)
    (FOLDER / "labeling_config.xml").write_text("<View/>\n")
    for person in (1, 2, 3):
        write_json([task(person), task(9)], FOLDER / f"tasks/annotator-{person:02d}.json")
    with running(state) as address:
        yield LabelStudio(address)


def test_a_project_for_each_annotator(state: LabelStudioStandIn, server: LabelStudio) -> None:
    lines = push(FOLDER, server)
    titles = [f"annotation_project: annotator-{person:02d}" for person in (1, 2, 3)]
    assert [one["title"] for one in state.projects.values()] == titles
    assert all("made, 2 tasks added" in line for line in lines)
    paths = [str(FOLDER.resolve() / name) for name in ("exemplars", "images")]
    assert [one["path"] for one in state.storages if one["project"] == 2] == paths
    assert not any(one["use_blob_urls"] for one in state.storages)
    found = [one["data"] for one in state.tasks if one["project"] == 3]
    assert found == [task(3)["data"], task(9)["data"]]


def test_a_second_push_changes_nothing(state: LabelStudioStandIn, server: LabelStudio) -> None:
    push(FOLDER, server)
    before = list(state.log)
    assert all("existed, 0 tasks added" in line for line in push(FOLDER, server))
    assert state.log == before


def test_an_interrupted_push_is_completed(state: LabelStudioStandIn, server: LabelStudio) -> None:
    push(FOLDER, server)
    del state.tasks[-1], state.storages[-1], state.projects[3]
    state.tasks = [one for one in state.tasks if one["project"] != 3]
    state.storages = [one for one in state.storages if one["project"] != 3]
    del state.tasks[0]
    push(FOLDER, server)
    assert sorted(one["project"] for one in state.tasks) == [1, 1, 2, 2, 3, 3]
    assert len(state.storages) == 6


def test_a_changed_rubric_and_new_tasks(state: LabelStudioStandIn, server: LabelStudio) -> None:
    push(FOLDER, server)
    (FOLDER / "labeling_config.xml").write_text("<View><Header/></View>\n")
    write_json([task(1), task(9), task(10)], FOLDER / "tasks/annotator-01.json")
    lines = push(FOLDER, server)
    assert "has a new labelling interface, 1 tasks added" in lines[0]
    assert {one["label_config"] for one in state.projects.values()} == {"<View><Header/></View>\n"}
    assert len(state.tasks) == 7


def test_annotations_come_back(state: LabelStudioStandIn, server: LabelStudio) -> None:
    push(FOLDER, server)
    state.tasks[0]["annotations"] = [{"id": 1, "result": [], "was_cancelled": True}]
    lines = pull(FOLDER, server, PEOPLE)
    files = sorted(path.name for path in PEOPLE.iterdir())
    assert files == [f"annotator-{person:02d}.json" for person in (1, 2, 3)]
    assert read_json(PEOPLE / "annotator-01.json") == [state.tasks[0]]
    assert read_json(PEOPLE / "annotator-02.json") == []
    assert lines[0] == f"{PEOPLE}/annotator-01.json: 1 annotations"
    time = (PEOPLE / "annotator-01.json").stat().st_mtime_ns
    assert pull(FOLDER, server, PEOPLE)[0].endswith(", unchanged")
    assert (PEOPLE / "annotator-01.json").stat().st_mtime_ns == time


def test_the_blind_pairs_are_one_project(state: LabelStudioStandIn, server: LabelStudio) -> None:
    pairs = Path("gsb_project")
    (pairs / "images").mkdir(parents=True)
    (pairs / "labeling_config.xml").write_text("<View/>")
    write_json([task(1)], pairs / "tasks.json")
    push(pairs, server, Path("/srv/gsb_project"))
    assert [one["title"] for one in state.projects.values()] == ["gsb_project: tasks"]
    assert [one["path"] for one in state.storages] == ["/srv/gsb_project/images"]


def test_an_expired_access_token_is_renewed(state: LabelStudioStandIn, server: LabelStudio) -> None:
    state.uses_of_a_token = 1
    push(FOLDER, server)
    assert len(state.tasks) == 6


def test_legacy_tokens(
    state: LabelStudioStandIn, server: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, LEGACY)
    client = LabelStudio(server.address)
    with pytest.raises(UserError, match=r"legacy token .*: create a personal access token"):
        push(FOLDER, client)
    state.legacy_tokens = True
    push(FOLDER, client)
    assert len(state.projects) == 3


def test_refusals_name_the_remedy(
    state: LabelStudioStandIn, server: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"no project .* run `zreward annotate push"):
        pull(FOLDER, server, PEOPLE)
    with pytest.raises(UserError, match="empty has no tasks: run `zreward annotate export empty`"):
        Path("empty").mkdir()
        (Path("empty") / "labeling_config.xml").touch()
        push(Path("empty"), server)
    state.document_root = "/elsewhere"
    with pytest.raises(
        UserError, match=r"\(HTTP 400: .* start Label Studio with .*DOCUMENT_ROOT=.*project"
    ):
        push(FOLDER, server)
    state.projects[7] = {**state.projects[1], "id": 7}
    with pytest.raises(UserError, match="has 2 projects 'annotation_project: annotator-01'"):
        push(FOLDER, server)
    monkeypatch.setenv(TOKEN, "a.b.c")
    with pytest.raises(UserError, match=r"token/refresh/ \(HTTP 401: Token is invalid\): create"):
        push(FOLDER, LabelStudio(server.address))
    monkeypatch.delenv(TOKEN)
    with pytest.raises(UserError, match=f"{TOKEN} is not set"):
        LabelStudio(server.address)


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, PERSONAL)
    with pytest.raises(UserError, match=r"does not answer .*: start it, or correct --url"):
        LabelStudio("http://127.0.0.1:9").export(1)
    with pytest.raises(UserError, match="must begin with http"):
        LabelStudio("localhost:8080")


def test_the_commands(
    state: LabelStudioStandIn, server: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", server.address)
    for command in ("push", "pull"):
        done = CliRunner().invoke(app, ["annotate", command], catch_exceptions=False)
        assert done.exit_code == 0 and done.output.count("annotator-0") == 3
    assert len(list(PEOPLE.iterdir())) == 3 == len(state.projects)
