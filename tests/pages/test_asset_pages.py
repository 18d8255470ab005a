"""Dagster's pages of assets in headless Chromium, with results of the sizes of the demo.

The results are written and reported by the test, so that no stage runs.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="pages: `pip install -e .[pages]` and an installed Chromium"
)
from dagster import AssetMaterialization, DagsterInstance  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Browser, Page, expect  # noqa: E402

from pipelines.commands import DAGSTER_UI  # noqa: E402
from pipelines.metadata import MLFLOW_UI, REPORTS_UI, describe  # noqa: E402
from pipelines.promotion import promotion_metadata  # noqa: E402
from pipelines.ui import free_ports, server  # noqa: E402
from tests.pages.test_viewer import browser  # noqa: E402
from tests.servers import wait_for  # noqa: E402
from tests.viewer_root import write_root  # noqa: E402
from zreward_core.commands import viewer  # noqa: E402
from zreward_core.dvc import read_graph  # noqa: E402

__all__ = ["browser"]  # a fixture
ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build/pages"
DIMENSIONS = ("alignment", "realism", "aesthetics", "plausibility")
MODELS = ("student", "teacher", "zero_shot", "zero_shot_reasoning")
WIDE = "() => { const box = document.querySelector('table').parentElement;" \
       " return [box.scrollWidth, box.clientWidth]; }"  # fmt: skip
"""Width of the table of metadata, and of what is seen of it."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def write_results(root: Path) -> None:
    """Tables, images and histories of stages, as wide as they get, and the viewer."""
    write_root(root, 4)
    viewer.write()
    whole = {"hpa": 0.797, "hpa_low": 0.785, "hpa_high": 0.809, "plcc": -0.783, "srcc": -0.772,
             "ece": 0.037}  # fmt: skip
    bounds = {"low": -0.164, "high": -0.128}
    changes = {name: {"before": 4.38, "after": 4.6, **bounds} for name in (*DIMENSIONS, "mean")}
    counts = {"good": 194, "same": 204, "bad": 128, "gsb": -0.48, **bounds}
    base = {f"score error {n}": 0.3 for n in range(9)} | {"num_parameters": 152756}
    names = ("loss/pointwise", "reward/pairwise", "policy/drift", "score/mass", "trace/thorough")
    rows = "".join(json.dumps({"step": s, **dict.fromkeys(names, 0.2)}) + "\n" for s in range(3))
    contents: dict[str, Any] = {
        "evaluate/metrics.json": {"models": {name: {"overall": whole} for name in MODELS}},
        "finetune_generator/metrics.json": {"panel": changes, "reward": changes},
        "evaluate_gsb/gsb.json": dict.fromkeys((*DIMENSIONS, "overall"), counts),
        "base_vlm/metrics.json": {"student": base, "teacher": base},
    }
    for name, content in contents.items():
        file = root / "data" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
        Image.effect_noise((1000, 300), 90).save(file.parent / "samples_by_step.png")
    for folder in ("base_vlm/teacher", "train_gdso"):
        (root / "data" / folder).mkdir()
        (root / "data" / folder / "history.jsonl").write_text(rows)
    record = {"version": 12, "champion_version": 11, "passed": True, "promoted": True,
              "difference": 0.137, "low": 0.125, "high": 0.149, "margin": 0.02,
              "reason": "HPA of candidate minus champion (version 11) on 9021 pairs"}  # fmt: skip
    (root / "reports/promotion.json").write_text(json.dumps(record))
    shutil.copyfile(ROOT / "data/champion.yaml", root / "data/champion.yaml")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Of Dagster's and the reports' server, with an event of each stage."""
    root = tmp_path_factory.mktemp("a_folder_with_a_name") / "project"
    ports = free_ports(0, 0)
    dagster, reports = (f"http://127.0.0.1:{port}" for port in ports)
    with pytest.MonkeyPatch.context() as patch:
        root.mkdir()
        patch.chdir(root)
        for name, value in ((DAGSTER_UI, dagster), (REPORTS_UI, reports)):
            patch.setenv(name, value)
        patch.setenv(MLFLOW_UI, "http://127.0.0.1:50000")
        patch.setenv("DAGSTER_HOME", str(root / "home"))
        write_results(root)
        for name in ("dvc.yaml", "params.yaml"):
            shutil.copyfile(ROOT / name, root / name)
        (root / "home").mkdir()
        shutil.copyfile(ROOT / "dagster.yaml", root / "home/dagster.yaml")
        run = {"run_id": "0123456789abcdef" * 2, "experiment_id": "1"}
        (root / ".zreward/runs").mkdir(parents=True)
        graph = read_graph(root)
        with DagsterInstance.from_config(str(root / "home")) as instance:
            for stage in graph.values():
                (root / f".zreward/runs/{stage.name}.json").write_text(json.dumps(run))
                outs = [{"path": out, "size": 2e6, "md5": "a" * 32} for out in stage.outs]
                shown = describe(root, stage, {stage.name: {"outs": outs}}, "outside Dagster")
                instance.report_runless_asset_event(
                    AssetMaterialization(stage.name, metadata=shown)
                )
            shown = promotion_metadata(root)
            instance.report_runless_asset_event(AssetMaterialization("promotion", metadata=shown))
        commands = [
            server("dagster_webserver", "-m", "pipelines.definitions", "-p", str(ports[0])),
            server("reports", str(ports[1]), str(root / "reports")),
        ]
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        variables = os.environ | {"PYTHONPATH": paths}
        processes = [subprocess.Popen(one, env=variables, cwd=root) for one in commands]
        try:
            for address, process in zip((dagster, reports), processes, strict=True):
                wait_for(address, process, 300)
            yield dagster, reports
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(60)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    made = browser.new_page(viewport={"width": 1440, "height": 1800})
    made.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    yield made
    made.close()


@pytest.mark.parametrize(
    "asset",
    ["evaluate", "finetune_generator", "evaluate_gsb", "base_vlm", "train_gdso", "promotion"],
)
def test_values_fit_beside_their_keys(page: Page, addresses: tuple[str, str], asset: str) -> None:
    page.goto(f"{addresses[0]}/assets/{asset}")
    expect(page.get_by_text("Timestamp", exact=True).first).to_be_visible()
    for image in page.locator("table img").all():
        expect(image).not_to_have_js_property("naturalWidth", 0)
    page.wait_for_load_state("networkidle")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"asset_{asset}.png")
    table, seen = page.evaluate(WIDE)
    assert table <= seen


def test_the_viewer_opens_from_the_asset(page: Page, addresses: tuple[str, str]) -> None:
    page.goto(f"{addresses[0]}/assets/evaluate")
    link = page.get_by_role("link", name=f"{addresses[1]}/viewer/index.html")
    with page.context.expect_page() as opened:
        link.click()
    expect(opened.value.locator("#count")).to_have_text("4 of 4 items")


def test_the_graph_leaves_out_the_inputs(page: Page, addresses: tuple[str, str]) -> None:
    page.goto(f"{addresses[0]}/asset-groups")
    expect(page.get_by_text("generator", exact=True).first).to_be_visible()
    page.screenshot(path=SHOTS / "asset_graph.png")
    expect(page.get_by_text("inputs", exact=True)).to_have_count(0)


def test_reports_have_their_titles(page: Page, addresses: tuple[str, str]) -> None:
    page.goto(addresses[1])
    expect(page.get_by_role("link", name="test and pool items")).to_be_visible()
