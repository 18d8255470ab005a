"""A small project root with a world, a base generator, its samples, a student and a teacher."""

import shutil
from pathlib import Path

import pytest

from tests.tiny_models import PROMPT, SIZES
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric
from zreward_core.stages import base_generator, candidates, world

REPOSITORY = Path(__file__).parents[2]
WORLD = {
    "size": 40,
    "held_out": 6,
    "pretraining_prompts": 20,
    "held_out_prompts": 4,
    "annotation_prompts": 3,
    "unlabelled_prompts": 4,
    "generator_train_prompts": 6,
    "generator_eval_prompts": 4,
    "annotation_images": 2,
    "unlabelled_images": 2,
}
GENERATOR = {
    "tiny": {
        "vae_channels": (8, 16),
        "width": 32,
        "num_layers": 2,
        "text_width": 32,
        "num_text_layers": 2,
        "num_text_heads": 2,
    },
    "vae": {"steps": 4, "batch_size": 4},
    "flow": {"steps": 4, "batch_size": 4},
    "check": {"num_prompts": 3, "num_steps": 2},
    "checkpoint_every": 2,
}
CANDIDATES = {
    "generators": [
        {
            "path": "data/base_generator/generator",
            "steps": 2,
            "guidance": guidance,
            "size": (32, 32),
            "annotation": 1,
            "unlabelled": 1,
        }
        for guidance in (0.0, 2.0)
    ]
}
TUNING = {
    "size": (32, 32),
    "steps": 4,
    "batch_size": 2,
    "num_steps": 3,
    "gradient_steps": 2,
    "gradient_window": 3,
    "watch": {"num_prompts": 2, "every": 2},
    "checkpoint_every": 2,
}


def world_config(seed: int = 5, **changes) -> world.Config:
    return world.Config(**{"seed": seed, **WORLD, **changes})


def generator_config(**changes) -> base_generator.Config:
    return base_generator.Config(**{"seed": 5, **GENERATOR, **changes})


def candidates_config(**changes) -> candidates.Config:
    return candidates.Config(**{"seed": 5, **CANDIDATES, **changes})


def make_models(root: Path) -> None:
    """Write a student and a teacher with random weights."""
    (root / "data").mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "data/rubric.yaml", root / "data/rubric.yaml")
    rubric = load_rubric(root / "data/rubric.yaml")
    for seed, folder in enumerate(("champion/student", "train_gdso/teacher")):
        backbone = build_backbone(SIZES, ["a red circle"], rubric, PROMPT, seed)
        backbone.save(root / "data" / folder, {})


@pytest.fixture(scope="session")
def finished_root(tmp_path_factory):
    """Everything up to the models; copy it before writing to it."""
    root = tmp_path_factory.mktemp("generator")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        world.run(world_config())
        base_generator.run(generator_config())
        candidates.run(candidates_config())
        make_models(root)
    return root


@pytest.fixture
def root(finished_root, tmp_path, monkeypatch):
    """A copy of the finished root, which is also the current folder."""
    shutil.copytree(finished_root, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"
