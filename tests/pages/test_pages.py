"""Dagster's and MLflow's pages as a person sees and clicks them, in headless Chromium.

Pictures of every page are left in `build/pages` to be looked at.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="pages: `pip install -e .[pages]` and an installed Chromium"
)
from playwright.sync_api import Browser, Page, expect  # noqa: E402

from tests.pipelines import tiny  # noqa: E402

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SHOTS = ROOT / "build/pages"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
WAIT = 300_000
"""Milliseconds; the machine may be busy."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as driver:
        try:
            made = driver.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
        except playwright.Error:
            pytest.skip("no Chromium is installed")
        yield made
        made.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    SHOTS.mkdir(parents=True, exist_ok=True)
    made = browser.new_page(viewport={"width": 1440, "height": 900})
    made.set_default_timeout(WAIT)
    expect.set_options(timeout=WAIT)
    yield made
    made.close()


class Pages:
    """The addresses of a project's `make ui`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "ui.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.ui", "--dagster-port", "0", "--mlflow-port", "0"],
            cwd=root, stdout=self.log.open("w"), stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + WAIT / 1000
        while "Ctrl-C" not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.5)
        self.dagster, self.mlflow = re.findall(r"(http://\S+)", self.log.read_text())[:2]

    def end(self) -> float:
        """Press Ctrl-C; returns the seconds until everything has ended."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=60) == 0
        return time.monotonic() - begun


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    pages = Pages(tiny.make(tmp_path_factory.mktemp("pages") / "project"))
    yield pages
    assert pages.end() < 30


@pytest.fixture(scope="module")
def chain() -> Iterator[Pages]:
    """A finished workspace of the smoke profile, named by ZREWARD_PAGES_WORKSPACE."""
    folder = os.environ.get("ZREWARD_PAGES_WORKSPACE")
    if not folder:
        pytest.skip("ZREWARD_PAGES_WORKSPACE names no workspace with a finished chain")
    pages = Pages(Path(folder))
    yield pages
    pages.end()


def shot(page: Page, name: str) -> None:
    page.wait_for_timeout(1500)
    page.screenshot(path=SHOTS / f"{name}.png")


def test_materialize_by_clicking(page: Page, small: Pages) -> None:
    page.goto(f"{small.dagster}/assets/first")
    expect(page.get_by_text("Two files; each of the next two reads one.").first).to_be_visible()
    page.get_by_role("button", name="Materialize", exact=False).first.click()
    deadline = time.monotonic() + WAIT / 1000
    while not (small.root / "dvc.lock").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert (small.root / "data/first/left.txt").read_text() == "left 1"
    page.goto(f"{small.dagster}/assets/first?view=events")
    expect(page.get_by_text("how", exact=True).first).to_be_visible()
    shot(page, "small_asset")
    page.goto(f"{small.dagster}/runs")
    expect(page.get_by_text("Success").first).to_be_visible()
    shot(page, "small_runs")


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        ("graph", "asset-groups", "annotations"),
        ("evaluate", "assets/evaluate?view=overview", "Agreement with held-out annotators"),
        ("evaluate_checks", "assets/evaluate?view=checks", "learning_claims"),
        ("promotion", "assets/promotion?view=overview", "Registers the trained student"),
        ("inputs", "assets/inputs/train_gdso", "What train_gdso reads that no stage makes"),
        ("sensors", "automation", "champion_moved"),
    ],
)
def test_dagster_pages_of_the_chain(
    page: Page, chain: Pages, name: str, path: str, text: str
) -> None:
    page.goto(f"{chain.dagster}/{path}")
    expect(page.get_by_text(text).first).to_be_visible()
    shot(page, name)


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        ("mlflow_experiments", "#/experiments", "zreward"),
        ("mlflow_models", "#/models", "zreward-student"),
        ("mlflow_model", "#/models/zreward-student", "champion"),
    ],
)
def test_mlflow_pages_of_the_chain(
    page: Page, chain: Pages, name: str, path: str, text: str
) -> None:
    page.goto(f"{chain.mlflow}/{path}")
    expect(page.get_by_text(text).first).to_be_visible()
    shot(page, name)
