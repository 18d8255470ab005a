"""A project's `make ui` while it runs, and what tests do on its pages with playwright."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dagster import AssetKey, DagsterInstance, DagsterRun
from playwright.sync_api import Page, expect

from tests.pipelines import tiny

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build/pages"
WAIT = 300.0
"""Seconds; the machine may be busy."""
TRAINING = "?workflowType=machine_learning"
"""MLflow's view for training; its default is the view for LLM traces."""


class Pages:
    """The addresses of a project's `make ui`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "ui.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.ui", "--dagster-port", "0", "--mlflow-port", "0"],
            cwd=root, stdout=self.log.open("w"), stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        wait_for(lambda: self.process.poll() is not None or "Ctrl-C" in self.log.read_text())
        assert self.process.poll() is None, self.log.read_text()
        found = re.findall(r"(http://\S+)", self.log.read_text())
        self.dagster, self.mlflow, self.reports = found

    def end(self) -> float:
        """Press Ctrl-C; returns the seconds until all processes have ended."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=60) == 0
        return time.monotonic() - begun

    def materialize(self, page: Page, asset: str) -> str:
        """Click Materialize on an asset's page; returns the run."""
        page.goto(f"{self.dagster}/assets/{asset}")
        page.get_by_role("button", name="Materialize").first.click()
        return self._launched(page)

    def materialize_all(self, page: Page) -> str:
        """Click Materialize all on the graph's page; returns the run."""
        page.goto(f"{self.dagster}/asset-groups")
        page.get_by_role("button", name=re.compile("Materialize all")).click()
        return self._launched(page)

    def _launched(self, page: Page) -> str:
        """The run whose launch the page reports."""
        notice = page.get_by_text("Launched run").first
        expect(notice).to_be_visible()
        short = notice.inner_text().split()[2]
        run = next(run.run_id for run in self.runs() if run.run_id.startswith(short))
        page.goto(f"{self.dagster}/runs/{run}")
        return run

    def terminate(self, page: Page, run: str) -> None:
        """Click Terminate on a run's page, and confirm."""
        page.goto(f"{self.dagster}/runs/{run}")
        page.get_by_role("button", name="Terminate").first.click()
        page.get_by_role("dialog").get_by_role("button", name="Terminate").last.click()

    def expect_end(self, page: Page, run: str, status: str) -> None:
        """Wait for a run's end, and check the status on its page."""
        page.goto("about:blank")  # the page of a running run takes half a core
        wait_for(lambda: next(r for r in self.runs() if r.run_id == run).is_finished, 3 * WAIT)
        page.goto(f"{self.dagster}/runs/{run}")
        ended = re.compile("^(Success|Failure|Canceled)$")
        expect(page.get_by_text(ended).first).to_have_text(status)

    def output(self, run: str) -> str:
        """Output of a run's steps, captured by Dagster."""
        files = (self.root / ".zreward/dagster/storage" / run).rglob("*.out")
        return "".join(file.read_text() for file in files)

    def runs(self) -> list[DagsterRun]:
        """All runs, newest first."""
        with DagsterInstance.from_config(str(self.root / ".zreward/dagster")) as instance:
            return list(instance.get_runs())

    def how(self, stage: str) -> str:
        """``how`` of a stage's latest materialization."""
        with DagsterInstance.from_config(str(self.root / ".zreward/dagster")) as instance:
            return tiny.how(instance, stage)

    def is_materialized(self, stage: str) -> bool:
        """Whether Dagster has a materialization of a stage."""
        with DagsterInstance.from_config(str(self.root / ".zreward/dagster")) as instance:
            return instance.get_latest_materialization_event(AssetKey(stage)) is not None

    def promoted(self) -> int:
        """The last promoted version."""
        return json.loads((self.root / "reports/promotion.json").read_text())["version"]

    def move_alias(self, page: Page, version: int) -> None:
        """Move the alias champion to a version in MLflow's UI."""
        page.goto(f"{self.mlflow}/#/models/zreward-student{TRAINING}")
        row = page.get_by_role("row").filter(has=page.get_by_text(f"Version {version}", exact=True))
        row.get_by_role("button").last.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("combobox").fill("champion")
        page.keyboard.press("Enter")
        shot(page, f"mlflow_alias_{version}")
        dialog.get_by_role("button", name="Save aliases").click()
        expect(dialog).to_be_hidden()
        page.reload()  # the table does not follow by itself
        expect(row.get_by_text("@ champion")).to_be_visible()


def wait_for(is_so: Callable[[], object], seconds: float = WAIT) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(1)


def shot(page: Page, name: str, width: int = 1440, height: int = 900) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(3000)
    page.screenshot(path=SHOTS / f"{name}.png")
    page.set_viewport_size({"width": 1440, "height": 900})
