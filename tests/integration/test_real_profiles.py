"""The real profiles from their input files to the tuned generator and the blind pairs.

The models are local folders with random weights (``random_models``), the images real ones in size
and aspect, everything else as in the profile with one step a stage.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.integration.random_models import save_generator, save_vlm
from tests.integration.smoke import ROOT, execute
from zreward_core.annotations.label_studio.labeling import choice_of
from zreward_core.commands.plan.stages import PIPELINE
from zreward_core.config import read_params
from zreward_core.models.prompts import PromptSettings
from zreward_core.rubric import load_rubric
from zreward_core.runtime.workspace import make_workspace
from zreward_core.schemas import tree_hash
from zreward_core.world.label_studio_export import annotation, export_task, result_item

PROMPTS = {"annotation": 24, "unlabelled": 3, "generator_train": 3, "generator_eval": 2}
GENERATORS = {"paper": "z_image", "eight_gpus": "sd3"}
NUM_RATERS = 3


def prompt_of(purpose: str, number: int) -> str:
    return f"a {purpose.replace('_', ' ')} of {number} things at the top"


def make_project(project: Path, profile: str) -> dict[str, Any]:
    """The project's files, prompts, a folder of images and models; returns the models' params."""
    project.mkdir()
    for name in ("dvc.yaml", ".dvcignore", "params.yaml", "params", "zreward_core"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, project / name)
    (project / f"params/launch/{profile}.yaml").write_text("stages: {}\n")
    (project / "data/bases").mkdir(parents=True)
    for name in ("rubric.yaml", "champion.yaml"):
        shutil.copyfile(ROOT / "data" / name, project / "data" / name)
    drops = project / "data/drops"
    (drops / "prompts").mkdir(parents=True)
    texts = []
    for purpose, number in PROMPTS.items():
        lines = [prompt_of(purpose, one) for one in range(number)]
        (drops / f"prompts/{purpose}.txt").write_text("\n".join(lines))
        texts += lines
    own = drops / "image_folders/own"
    own.mkdir(parents=True)
    rng = np.random.default_rng(1)
    listed = {}
    for index, size in enumerate([(96, 64), (64, 160), (300, 200), (50, 50)]):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(own / f"{index}.png")
        listed[f"{index}.png"] = prompt_of("annotation", index // 2)
    (own / "prompts.json").write_text(json.dumps(listed))
    params = read_params(ROOT / f"params/{profile}.yaml")
    prompt = PromptSettings(**params["base_vlm"]["prompt"])
    bases: dict[str, Any] = {}
    for role, width in (("teacher", 64), ("student", 32)):
        folder = project / "models" / role
        save_vlm(folder, load_rubric(ROOT / "data/rubric.yaml"), prompt, width)
        bases[role] = pointer(folder) | {"max_pixels": 1_048_576}
    save_generator(project / "models/generator", GENERATORS[profile], texts)
    return {"base_vlm": bases, "base_generator": pointer(project / "models/generator")}


def pointer(folder: Path) -> dict[str, Any]:
    return {"hub_id": None, "revision": None, "path": str(folder), "sha256": tree_hash(folder)}


def one_step(profile: str, sizes: list[list[int]]) -> dict[str, Any]:
    """Values that differ from the profile: one step a stage, small batches, given sizes."""
    params = read_params(ROOT / f"params/{profile}.yaml")
    (setting,) = params["candidates"]["generators"]
    small = {"steps": 2, "batch_size": 2, "annotation": 1, "unlabelled": 1}
    generators = [setting | small | {"size": size} for size in sizes]
    folders = [{"path": "data/drops/image_folders/own"}]
    return {
        "splits": {"train": 0.4, "validation": 0.2},
        "base_vlm": {"prompt": {"max_trace_tokens": 4}},
        "candidates": {"generators": generators, "folders": folders},
        "validate": {"min_agreement": -1.0},
        "train_gdso": {"steps": 1, "pairs_per_step": 1, "group_size": 2},
        "label": {"num_traces": 1, "batch_size": 2},
        "train_risd": {"steps": 1, "batch_size": 2, "micro_batch_size": 1},
        "evaluate": {"num_traces": 1, "batch_size": 2},
        "finetune_generator": {
            "steps": 1,
            "batch_size": 1,
            "accumulation": 2,
            "num_steps": 2,
            "gradient_steps": 1,
            "gradient_window": 1,
            "size": sizes[0],
            "sample_batch_size": 1,
            "watch": {"num_prompts": 1, "every": 1},
        },
        "evaluate_gsb": {"num_steps": 2, "size": sizes[-1], "batch_size": 1},
    }


def write_export(workspace: Path) -> None:
    """Ratings of all tasks, as people export them from Label Studio."""
    rubric = load_rubric(workspace / "data/rubric.yaml")
    tasks = json.loads((workspace / "data/annotate/tasks.json").read_text())
    rng = np.random.default_rng(2)
    exported = []
    for number, task in enumerate(tasks, start=1):
        given = []
        for person in range(1, NUM_RATERS + 1):
            identity = f"{number}-{person}"
            levels = rng.choice(rubric.levels, size=len(rubric.names))
            result = [
                result_item(name, choice_of(float(level)), identity)
                for name, level in zip(rubric.names, levels, strict=True)
            ]
            count = number * NUM_RATERS + person
            given.append(annotation(count, number, person, result, False, 30.0, count, False))
        exported.append(export_task(number, task["data"], given))
    (workspace / "data/drops/people").mkdir()
    (workspace / "data/drops/people/export.json").write_text(json.dumps(exported))


def run_profile(
    profile: str, sizes: list[list[int]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The workspace after the whole pipeline."""
    bases = make_project(folder / "project", profile)
    monkeypatch.chdir(folder / "project")
    overlay = one_step(profile, sizes)
    overlay["base_vlm"] |= bases["base_vlm"]
    overlay["base_generator"] = bases["base_generator"]
    workspace = make_workspace(profile, overlay).resolve()
    for step in ("annotate", "dvc.yaml"):
        if step == "dvc.yaml":
            write_export(workspace)
        done = execute("zreward", "repro", step, cwd=workspace)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    done = execute("zreward", "gsb", "export", cwd=workspace)
    assert done.returncode == 0, done.stderr
    return workspace


def check(workspace: Path, sizes: list[list[int]]) -> None:
    """Every stage wrote its folder, from images of all sources and sizes."""
    for stage in yaml.safe_load((workspace / "dvc.yaml").read_text())["stages"]:
        assert (workspace / "data" / stage / "config.json").is_file(), stage
    items = pd.read_parquet(workspace / "data/candidates/items.parquet")
    assert len(items) == PROMPTS["annotation"] * len(sizes) + 4
    labels = pd.read_parquet(workspace / "data/label/labels.parquet")
    assert len(labels) == PROMPTS["unlabelled"] * len(sizes) * 4
    tuned = json.loads((workspace / "data/finetune_generator/metrics.json").read_text())
    assert set(tuned) == {"reward", "panel"}
    assert (workspace / "data/finetune_generator/generator/model_index.json").is_file()
    gsb = json.loads((workspace / "data/evaluate_gsb/gsb.json").read_text())
    assert gsb["overall"]["good"] == gsb["overall"]["bad"] == 0  # people judge
    assert json.loads((workspace / "gsb_project/tasks.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_real_profile_runs_on_tiny_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [[64, 64], [96, 64]]
    workspace = run_profile("eight_gpus", sizes, tmp_path, monkeypatch)
    check(workspace, sizes)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("profile", GENERATORS)
def test_real_profiles_run_at_1024_pixels(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [[1024, 1024], [1280, 768]]
    workspace = run_profile(profile, sizes, tmp_path, monkeypatch)
    check(workspace, sizes)
    done = execute("zreward", "plan", "--gpus", "1", "--json", cwd=workspace)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["stage"] for row in rows] == list(PIPELINE)
    assert all(row["fits"] and row["hours"] > 0 for row in rows)
