"""The projects of `annotate export` and `gsb export`, on a real Label Studio server.

Label Studio is not a dependency; it is found as $LABEL_STUDIO or on the path, in an environment of
its own (`python3 -m venv ls && ls/bin/pip install label-studio`). It listens on loopback.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.browser import CHROMIUM
from tests.stages.annotation_root import make_root
from zreward_core.commands.people import label_studio_client as client
from zreward_core.commands.people.export import export_annotation
from zreward_core.commands.people.gsb_export import export_pairs
from zreward_core.commands.people.gsb_import import import_judgements
from zreward_core.commands.people.server import pull, push
from zreward_core.evaluation.gsb import blind_pairs
from zreward_core.images import ImageStore
from zreward_core.schemas import RATINGS, read_json, read_table
from zreward_core.stages import ingest

PROGRAM = os.environ.get("LABEL_STUDIO") or shutil.which("label-studio")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PROGRAM, reason="Label Studio is not installed: set $LABEL_STUDIO"),
]


class Server:
    """A running server and its API."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def call(self, path: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            read = answer.read()
        return json.loads(read) if "json" in answer.headers.get("Content-Type", "") else read

    def project(self, folder: Path, tasks: Path) -> int:
        """Create a project of an exported folder, served as local files, and import its tasks."""
        config = (folder / "labeling_config.xml").read_text()
        number = self.call("/api/projects/", {"title": folder.name, "label_config": config})["id"]
        storage = {"project": number, "path": str(folder / "images"), "use_blob_urls": False}
        self.call("/api/storages/localfiles/", storage)
        self.call(f"/api/projects/{number}/import", json.loads(tasks.read_text()))
        return int(number)

    def tasks(self, project: int) -> list[dict]:
        listed = self.call(f"/api/tasks?project={project}&page_size=1000&fields=all")
        return listed["tasks"] if isinstance(listed, dict) else listed

    def annotate(self, task: int, choices: dict[tuple[str, str], str]) -> None:
        """Answer as the labelling page does: (control, object) to choice; none: skip the task."""
        result = [
            {"from_name": name, "to_name": about, "type": "choices", "value": {"choices": [choice]}}
            for (name, about), choice in choices.items()
        ]
        content = {"result": result, "lead_time": 30.0, "was_cancelled": not choices}
        self.call(f"/api/tasks/{task}/annotations/", content)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project root with candidates, the current folder."""
    folder = tmp_path_factory.mktemp("people") / "root"
    make_root(folder, num_prompts=3, num_images=3)
    (folder / "data/drops").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(root.parent / "label_studio"),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(root),
        "LABEL_STUDIO_USERNAME": "lead@example.org",
        "LABEL_STUDIO_PASSWORD": "annotate-us-1",
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    assert PROGRAM
    log = (root.parent / "label_studio.log").open("w")
    command = [PROGRAM, "start", "--no-browser", "--internal-host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port)], env=os.environ | settings, stdout=log, stderr=log
    )
    running = Server(port)
    try:
        wait_for(running, process)
        yield running
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_for(server: Server, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600
    while True:
        try:
            server.call("/api/current-user/whoami")
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline
            time.sleep(1)


def test_ratings_side_by_side_come_back_without_a_setting(root: Path, server: Server) -> None:
    prefix = "/data/local-files/?d=project/"
    export_annotation(root / "project", num_annotators=1, overlap=1, address=prefix)
    number = server.project(root / "project", root / "project/tasks/annotator-01.json")
    tasks = server.tasks(number)
    assert len(tasks) == 3
    image = server.call(tasks[0]["data"]["images"][0]["image"])
    assert image[:4] == b"\x89PNG", "the images are served"
    expected = {}
    for task in tasks[:2]:
        choices = {}
        for place, image in enumerate(task["data"]["images"]):
            for offset, name in enumerate(("alignment", "realism", "aesthetics", "plausibility")):
                score = 1.5 + place + offset / 2
                choices[f"{name}_{place}", f"image_{place}"] = f"{score:g}"
                expected[Path(image["image"]).stem, name] = score
        server.annotate(task["id"], choices)
    server.annotate(tasks[2]["id"], {})
    drop = root / "data/drops/people.json"
    exported = server.call(f"/api/projects/{number}/export?exportType=JSON")
    drop.write_text(json.dumps(exported))
    sources = "ingest: {sources: [{name: people, path: data/drops/people.json}]}"
    Path("params.yaml").write_text(f"seed: 5\n{sources}\n")
    ingest.run(ingest.Config.load("ingest"))
    ratings = read_table(Path("data/ingest/ratings.parquet"), RATINGS)
    found = ratings.set_index(["image_id", "dimension"])["score"].to_dict()
    assert found == expected and len(ratings) == len(expected)
    assert set(ratings["seconds"]) == {10.0}, "30 seconds for three images"
    assert ratings["annotator_id"].notna().all() and ratings["submitted_at"].notna().all()
    summary = read_json(Path("data/ingest/summary.json"))["sources"]["people"]
    assert summary["ignored"] == {"skipped": 1} and summary["quarantine"] == {}


def test_hotkeys_give_what_they_say(root: Path, server: Server) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="`pip install -e .[pages]`")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    prefix = "/data/local-files/?d=single/"
    export_annotation(root / "single", 1, 1, prefix, single=True)
    number = server.project(root / "single", root / "single/tasks/annotator-01.json")
    task = server.tasks(number)[0]["id"]
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(120_000)
        page.goto(f"{server.address}/user/login")
        page.fill("input[name=email]", "lead@example.org")
        page.fill("input[name=password]", "annotate-us-1")
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "login" not in url, wait_until="commit")
        page.goto(f"{server.address}/projects/{number}/data?task={task}")
        page.get_by_text("[shift+4]").first.wait_for()
        page.wait_for_timeout(10_000)  # the keys are bound after the choices are shown
        page.get_by_text("Text-image alignment", exact=True).click()
        for key in ("2", "Shift+KeyW", "KeyG", "Shift+KeyZ"):
            page.keyboard.press(key)
        page.get_by_role("button", name="Submit").click()
        deadline = time.monotonic() + 60
        while not (found := server.call(f"/api/tasks/{task}/")["annotations"]):
            assert time.monotonic() < deadline
            page.wait_for_timeout(1000)
        browser.close()
    (annotation,) = found
    given = {one["from_name"]: one["value"]["choices"] for one in annotation["result"]}
    assert given == {
        "alignment_0": ["2"],
        "realism_0": ["2.5"],
        "aesthetics_0": ["5"],
        "plausibility_0": ["1.5"],
    }


def test_projects_are_pushed_once_and_pulled(
    root: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(client.TOKEN, TOKEN)
    label_studio, folder = client.LabelStudio(server.address), root / "project"
    export_annotation(folder, num_annotators=2, overlap=1, address="/data/local-files/?d=project/")
    assert all(": made, " in line for line in push(folder, label_studio))
    assert all("existed, 0 tasks added" in line for line in push(folder, label_studio))
    (project,) = label_studio.projects("project: annotator-01")
    tasks = server.tasks(project["id"])
    server.annotate(tasks[0]["id"], {("alignment_0", "image_0"): "3.5"})
    lines = pull(folder, label_studio, root / "people")
    assert lines[0].endswith("1 annotations") and lines[1].endswith("0 annotations")
    (task,) = read_json(root / "people/annotator-01.json")
    assert task["data"] == tasks[0]["data"]


def test_blind_pairs_come_back_as_gsb(root: Path, server: Server) -> None:
    make_pairs(root)
    export_pairs(root / "gsb", "/data/local-files/?d=gsb/")
    number = server.project(root / "gsb", root / "gsb/tasks.json")
    tasks = server.tasks(number)
    assert {key for task in tasks for key in task["data"]} == {"pair", "prompt", "left", "right"}
    names = ("alignment", "realism", "aesthetics", "plausibility", "overall")
    for task in tasks[:-1]:
        server.annotate(task["id"], {(name, "left"): "left" for name in names})
    server.annotate(tasks[-1]["id"], {})
    export = root / "export.json"
    export.write_text(json.dumps(server.call(f"/api/projects/{number}/export?exportType=JSON")))
    output = import_judgements(export)
    assert "1 skipped or empty" in output
    judged = pd.read_parquet("data/evaluate_gsb/judgements.parquet").iloc[:-1]
    good, bad = (int((judged["left"] == side).sum()) for side in ("tuned", "base"))
    result = read_json(Path("reports/gsb.json"))
    assert set(result) == set(names)
    for row in result.values():
        assert (row["good"], row["same"], row["bad"]) == (good, 0, bad)


def make_pairs(root: Path) -> None:
    """The blind pairs of `evaluate_gsb`, with candidates in place of samples."""
    shutil.copytree(root / "data/candidates/images", root / "data/evaluate_gsb/images")
    images = sorted(ImageStore(root / "data/candidates/images"))
    pairs = blind_pairs([f"p{number}" for number in range(6)], seed=1)
    pairs = pairs.assign(
        prompt="a red circle", left_image_id=images[:6], right_image_id=images[-6:]
    )
    pairs.to_parquet(root / "data/evaluate_gsb/judgements.parquet")
