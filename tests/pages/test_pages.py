"""Dagster's and MLflow's pages, operated in headless Chromium.

Screenshots of all pages are saved in `build/pages`. The tests of the pipeline run in order: each
continues from the workspace of the previous one.
"""

import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

playwright = pytest.importorskip(
    "playwright.sync_api", reason="pages: `pip install -e .[pages]` and an installed Chromium"
)
from playwright.sync_api import Browser, Page, expect  # noqa: E402

from pipelines.sensors import INTERVAL  # noqa: E402
from tests.pages.running import ROOT, SHOTS, TRAINING, WAIT, Pages, shot, wait_for  # noqa: E402
from tests.pipelines import tiny  # noqa: E402
from zreward_core.config import read_yaml  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
"""No requests other than those of the pages."""
GRAPH = """() => {
  const boxes = [...document.querySelectorAll("foreignObject")].map(
    one => one.getBoundingClientRect());
  const [x, y] = ["left", "top"].map(side => Math.min(...boxes.map(one => one[side])) - 8);
  const [right, bottom] = ["right", "bottom"].map(
    side => Math.max(...boxes.map(one => one[side])) + 8);
  return {x, y, width: right - x, height: bottom - y};
}"""
"""The part of the page that Dagster's graph takes."""
GROUPS = ("models", "annotations", "reward", "generator")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("pages: no Chromium is installed")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield made
        made.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    SHOTS.mkdir(parents=True, exist_ok=True)
    made = browser.new_page(viewport={"width": 1440, "height": 900})
    made.set_default_timeout(60_000)
    expect.set_options(timeout=1000 * WAIT)
    yield made
    made.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    pages = Pages(tiny.make(tmp_path_factory.mktemp("pages") / "project"))
    yield pages
    assert pages.end() < 30


def test_materialize_by_clicking(page: Page, small: Pages) -> None:
    page.goto(f"{small.dagster}/assets/first")
    expect(page.get_by_text("Two files, read by one stage each.").first).to_be_visible()
    small.expect_end(page, small.materialize(page, "first"), "Success")
    assert (small.root / "data/first/left.txt").read_text() == "left 1"
    page.goto(f"{small.dagster}/assets/first?view=events")
    expect(page.get_by_text("how", exact=True).first).to_be_visible()
    shot(page, "small_asset")


def test_mlflow_opens_on_training_without_assistant_and_banner(page: Page, small: Pages) -> None:
    page.goto(small.mlflow)
    expect(page.get_by_text("Model training", exact=True).first).to_be_visible()
    expect(page.get_by_text("Model registry").first).to_be_visible()  # in that view only
    shot(page, "mlflow_home")
    assert page.evaluate("localStorage.getItem('mlflow.workflowType_v1')") == '"machine_learning"'
    expect(page.locator("[data-assistant-ui]").locator("visible=true")).to_have_count(0)
    expect(page.get_by_text("collects usage data")).to_have_count(0)
    expect(page.get_by_text("New to MLflow?")).to_have_count(0)
    asked = page.request.get(f"{small.mlflow}/ajax-api/3.0/mlflow/assistant/config")
    assert asked.status == 404


def test_the_reports_are_listed(page: Page, small: Pages) -> None:
    page.goto(small.reports)
    expect(page.get_by_text("No stage has written a report yet.")).to_be_visible()
    (small.root / "reports/audit.html").write_text("<title>Audit</title>")
    page.reload()
    expect(page.get_by_role("link", name="annotators' audit")).to_be_visible()
    shot(page, "reports")


def test_two_runs_wait_and_a_cancelled_one_makes_room(page: Page, small: Pages) -> None:
    tiny.set_param(small.root, "first", "seconds", 600)
    running = small.materialize(page, "first")
    wait_for(lambda: tiny.runs_first(small.root))
    waiting = small.materialize(page, "left")
    expect(page.get_by_text(re.compile("waiting for stage first, run by")).first).to_be_visible()
    shot(page, "small_waiting")
    begun = time.monotonic()
    small.terminate(page, running)
    wait_for(lambda: not tiny.first_processes(small.root))
    assert time.monotonic() - begun < 60
    small.expect_end(page, running, "Canceled")
    shot(page, "small_cancelled")
    small.expect_end(page, waiting, "Failure")  # its inputs are stale, which the run reports
    expect(page.get_by_text(re.compile("upstream stages are stale: first")).first).to_be_visible()
    shot(page, "small_refused")
    tiny.set_param(small.root, "first", "seconds", 0)
    small.expect_end(page, small.materialize_all(page), "Success")
    assert (small.root / "data/last.txt").is_file()
    page.goto(f"{small.dagster}/runs")
    expect(page.get_by_text("Canceled").first).to_be_visible()
    shot(page, "small_runs")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A workspace of the smoke profile with a finished chain, or the given one."""
    named = os.environ.get("ZREWARD_PAGES_WORKSPACE")
    pages = Pages(Path(named) if named else finished_chain(tmp_path_factory.mktemp("project")))
    wait_for(lambda: pages.is_materialized("evaluate_gsb"))
    yield pages
    pages.end()


def finished_chain(project: Path) -> Path:
    for name in ("dvc.yaml", ".dvcignore", "params.yaml", "params", "zreward_core"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, project / name)
    (project / "data/drops").mkdir(parents=True)
    shutil.copytree(ROOT / "data/bases", project / "data/bases")
    for name in ("rubric.yaml", "champion.yaml"):
        shutil.copyfile(ROOT / "data" / name, project / "data" / name)
    made = tiny.execute(project, "zreward", "workspace", "smoke")
    assert made.returncode == 0, made.stderr
    workspace = project / made.stdout.strip()
    for command in (["repro", "evaluate"], ["promote"], ["repro", "dvc.yaml"], ["sync"]):
        done = tiny.execute(workspace, "zreward", *command)
        assert done.returncode == 0, done.stderr[-3000:]
    return workspace


def tracked_runs(root: Path) -> set[str]:
    """Ids of all runs in MLflow."""
    with sqlite3.connect(root / ".zreward/mlflow.db") as store:
        return {run for (run,) in store.execute("select run_uuid from runs")}


def stage_runs(root: Path, stage: str) -> list[str]:
    """Ids of the runs of a stage in MLflow, newest first."""
    with sqlite3.connect(root / ".zreward/mlflow.db") as store:
        found = "select run_uuid from runs where name = ? order by start_time desc"
        return [run for (run,) in store.execute(found, (stage,))]


def set_steps(root: Path, stage: str, steps: int, **others: Any) -> None:
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params[stage] |= {"steps": steps, "checkpoint_every": 1, **others}
    path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        ("base_vlm", "assets/base_vlm", "pretrained on"),
        ("candidates", "assets/candidates", "Images to annotate"),
        ("validate", "assets/validate", "audit"),
        ("validate_checks", "assets/validate?view=checks", "This is a blocking"),
        ("evaluate", "assets/evaluate", "Agreement with the annotators on held-out prompts"),
        ("evaluate_checks", "assets/evaluate?view=checks", "Skipped"),
        ("train_gdso", "assets/train_gdso", "training curves"),
        ("runs", "runs", "everything"),
        ("promotion", "assets/promotion", "Registers the trained student"),
        ("promotion_checks", "assets/promotion?view=checks", "worse than the champion"),
        ("finetune_generator", "assets/finetune_generator", "The generator, tuned"),
        ("evaluate_gsb", "assets/evaluate_gsb", "Blind same-seed pairs"),
        ("inputs", "assets/inputs/train_gdso", "Inputs of train_gdso that no stage produces"),
        ("catalog", "assets", "annotations"),
        ("sensors", "automation", "champion_moved"),
        ("home", "", "everything"),
    ],
)
def test_dagster_pages_of_the_chain(
    page: Page, chain: Pages, name: str, path: str, text: str
) -> None:
    page.goto(f"{chain.dagster}/{path}")
    expect(page.get_by_text(re.compile(text)).first).to_be_visible()
    shot(page, name, height=2400 if path.startswith("assets/") else 900)


@pytest.mark.long
def test_the_graph_of_the_stages(browser: Browser, chain: Pages) -> None:
    """Groups unfolded, from top to bottom, with names alone: legible at the width of the docs."""
    groups = ",".join(f"global@global:{name}" for name in GROUPS)
    page = browser.new_page(viewport={"width": 1440, "height": 1800}, device_scale_factor=2)
    for key, value in (("asset-graph-direction", '"vertical"'), ("asset-node-facets", "[]")):
        page.add_init_script(f"localStorage.setItem('{key}', '{value}')")
    page.goto(f"{chain.dagster}/asset-groups/?expanded={groups}")
    expect(page.get_by_text("finetune_generator").first).to_be_visible()
    page.wait_for_timeout(3000)
    box = page.evaluate(GRAPH)
    page.screenshot(path=SHOTS / "graph.png", clip=box)
    page.close()
    assert 600 < box["width"] < 850 and box["height"] < box["width"]


@pytest.mark.long
def test_the_reports_of_the_chain_are_listed(page: Page, chain: Pages) -> None:
    page.goto(chain.reports)
    expect(page.get_by_role("link")).not_to_have_count(0)
    shot(page, "chain_reports")


@pytest.mark.long
def test_a_cancelled_training_resumes_from_its_checkpoint(page: Page, chain: Pages) -> None:
    set_steps(chain.root, "train_risd", 30)
    checkpoints = chain.root / ".zreward/checkpoints/train_risd"
    first = chain.materialize(page, "train_risd")
    wait_for(lambda: list(checkpoints.rglob("*.pt")))
    chain.terminate(page, first)
    chain.expect_end(page, first, "Canceled")
    shot(page, "cancelled")
    assert list(checkpoints.rglob("*.pt")), "it ended before it was cancelled"
    second = chain.materialize(page, "train_risd")
    chain.expect_end(page, second, "Success")
    shot(page, "resumed")
    assert re.search(r"train_risd: continues after \d+ of 30", chain.output(second))
    assert chain.how("train_risd") == "run"
    both = json.dumps(stage_runs(chain.root, "train_risd")[:2])
    page.goto(f'{chain.mlflow}/#/compare-runs?runs={both}&experiments=["1"]')
    # the cancelled one has no artifacts
    expect(page.get_by_text("No common artifacts to display.")).to_be_visible()
    expect(page.get_by_text("Something went wrong")).to_have_count(0)
    shot(page, "cancelled_comparison", height=2200)


@pytest.mark.long
def test_all_by_clicking_makes_a_second_champion(page: Page, chain: Pages) -> None:
    # Settings that differ from those used with version 1 and do not stop early; otherwise the
    # generator would be the same and nothing would be evaluated again.
    watch = {"num_prompts": 4, "every": 2, "patience": 99}
    set_steps(chain.root, "finetune_generator", 4, watch=watch)
    run = chain.materialize_all(page)
    chain.expect_end(page, run, "Success")
    shot(page, "run_of_all")
    assert tiny.dvc(chain.root, "status", "dvc.yaml").strip().endswith("up to date.")
    assert not [run for run in chain.runs() if "champion" in run.tags]  # nobody moved the alias
    page.goto(f"{chain.dagster}/asset-groups")
    expect(page.get_by_text("generator").first).to_be_visible()
    shot(page, "groups")
    page.goto(f"{chain.mlflow}/#/models/zreward-student{TRAINING}")
    assert chain.promoted() > 1
    expect(page.get_by_text(f"Version {chain.promoted()}", exact=True)).to_be_visible()


@pytest.mark.long
def test_mlflow_runs_and_comparison(page: Page, chain: Pages) -> None:
    list_of_runs = f"{chain.mlflow}/#/experiments/1/runs{TRAINING}"
    page.goto(list_of_runs)
    parents = page.get_by_role("row").filter(has=page.get_by_role("button"))
    expect(parents.first).to_be_visible()
    for row in parents.all()[:2]:  # collapsed, or their stages are selected as well
        row.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text("Comparing 2 Runs").first).to_be_visible()
    expect(page.get_by_text("No common artifacts to display.")).to_be_visible()
    expect(page.get_by_text("Something went wrong")).to_have_count(0)
    page.get_by_role("button", name="Visualizations").click()
    for switch in page.get_by_role("switch").all():
        switch.click()  # only what differs
    shot(page, "mlflow_comparison", height=2200)
    page.goto(list_of_runs)
    expect(parents.first).to_be_visible()
    for row in reversed(parents.all()):  # the stages of a pipeline's run are below it
        row.get_by_role("button").click()
    stages = page.get_by_role("row").filter(has=page.get_by_role("link", name="train_risd"))
    expect(stages.first).to_be_visible()
    shot(page, "mlflow_runs")


@pytest.mark.long
def test_mlflow_curves_and_samples(page: Page, chain: Pages) -> None:
    trained = stage_runs(chain.root, "train_risd")[0]
    page.goto(f"{chain.mlflow}/#/experiments/1/runs/{trained}/model-metrics{TRAINING}")
    expect(page.get_by_text("loss").first).to_be_visible()
    shot(page, "mlflow_curves", height=1010)
    tuned = stage_runs(chain.root, "finetune_generator")[0]
    file = "plots/samples_by_step.png"
    page.goto(f"{chain.mlflow}/#/experiments/1/runs/{tuned}/artifacts/{file}{TRAINING}")
    expect(page.get_by_text(file).first).to_be_visible()
    shot(page, "mlflow_samples")


@pytest.mark.long
def test_mlflow_links_a_run_to_dagster(page: Page, chain: Pages) -> None:
    run = stage_runs(chain.root, "train_risd")[0]
    page.goto(f"{chain.mlflow}/#/experiments/1/runs/{run}{TRAINING}")
    link = page.get_by_role("link", name="Run in Dagster")
    expect(link).to_be_visible()
    assert (link.get_attribute("href") or "").startswith(f"{chain.dagster}/runs/")
    shot(page, "mlflow_run")
    page.get_by_role("tab", name="Model metrics").click()
    expect(page.get_by_text("loss").first).to_be_visible()


@pytest.mark.long
def test_mlflow_model(page: Page, chain: Pages) -> None:
    page.goto(f"{chain.mlflow}/#/models/zreward-student{TRAINING}")
    expect(page.get_by_text("@ champion")).to_be_visible()
    shot(page, "mlflow_model", height=1000)
    page.goto(f"{chain.mlflow}/#/models/zreward-student/versions/{chain.promoted()}{TRAINING}")
    expect(page.get_by_text("HPA of candidate").first).to_be_visible()
    shot(page, "mlflow_version")


@pytest.mark.long
def test_an_alias_moved_by_a_click_tunes_the_generator_once(page: Page, chain: Pages) -> None:
    before, trained = len(chain.runs()), chain.promoted()
    chain.move_alias(page, 1)
    wait_for(lambda: len(chain.runs()) > before)
    run = chain.runs()[0]
    assert run.tags["dagster/sensor_name"] == "champion_moved" and run.tags["champion"] == "1"
    chain.expect_end(page, run.run_id, "Success")
    shot(page, "run_of_moved_alias")
    stages = ("champion", "finetune_generator", "evaluate_gsb")
    assert {stage: chain.how(stage) for stage in stages[1:]} == dict.fromkeys(stages[1:], "run")
    assert read_yaml(chain.root / "data/champion.yaml")["source"] == "models:/zreward-student/1"
    page.goto(f"{chain.dagster}/assets/finetune_generator")
    expect(page.get_by_text("The generator, tuned").first).to_be_visible()
    shot(page, "finetune_generator_by_alias")
    tracked = tracked_runs(chain.root)

    chain.move_alias(page, trained)
    wait_for(lambda: len(chain.runs()) > before + 1)
    run = chain.runs()[0]
    assert run.tags["champion"] == str(trained)
    chain.expect_end(page, run.run_id, "Success")
    shot(page, "run_of_alias_moved_back")
    assert {stage: chain.how(stage).split()[0] for stage in stages} == dict.fromkeys(
        stages, "restored"
    )
    assert tracked_runs(chain.root) == tracked  # no finished stage was run again
    page.wait_for_timeout(2500 * INTERVAL)
    assert len(chain.runs()) == before + 2  # each move once
