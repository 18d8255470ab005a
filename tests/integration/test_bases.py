"""The bases in data/bases: what params.yaml says they are, and a few steps of their recipe."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from zreward_core.config import read_yaml
from zreward_core.diffusion.loading import load_generator
from zreward_core.diffusion.tiny import build_pipeline, build_tokenizer
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.progress import read_history
from zreward_core.schemas import read_json, read_table, tree_hash
from zreward_core.stages import base_generator, base_vlm, world
from zreward_core.training.pretraining import vocabulary
from zreward_core.world.inspection import INSPECTIONS

PROJECT = Path(__file__).parents[2]
BASES = PROJECT / "data/bases"
RECIPE = read_json(BASES / "recipe.json")
ROLES = ("teacher", "student")


def test_params_name_the_bases_of_the_recipe() -> None:
    params = read_yaml(PROJECT / "params.yaml")
    vlm, generator = params["base_vlm"], params["base_generator"]
    named = {role: vlm[role]["sha256"] for role in ROLES} | {"generator": generator["sha256"]}
    assert named == RECIPE["sha256"]
    assert {role: tree_hash(BASES / role) for role in named} == RECIPE["sha256"]


def test_the_bases_are_small_and_in_bfloat16() -> None:
    files = [path for path in BASES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10e6
    for path in BASES.rglob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the world of the recipe."""
    root = tmp_path_factory.mktemp("bases")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        (root / "data").mkdir()
        (root / "data/rubric.yaml").write_bytes((PROJECT / "data/rubric.yaml").read_bytes())
        world.run(world.Config(seed=RECIPE["world_seed"], **RECIPE["params"]["world"]))
    return root


@pytest.fixture
def root(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(rendered)
    return rendered


def first_steps(monkeypatch: pytest.MonkeyPatch, module: object, number: int) -> None:
    """Let the loops of a stage end after some steps."""

    def track(items, *description):
        return itertools.islice(items, number)

    monkeypatch.setattr(module, "track", track)


@pytest.mark.parametrize("role", ROLES)
def test_a_few_steps_of_pretraining_repeat(
    role: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = base_vlm.Config(**RECIPE["params"]["base_vlm"])
    base, seed = getattr(config, role), config.seed * 10 + ROLES.index(role)
    backbone = build_backbone(base.tiny, vocabulary(), load_rubric(), config.prompt, seed)
    table = read_table(Path("data/world/inspections.parquet"), INSPECTIONS)
    train, _ = base_vlm.load_examples(backbone, table)
    first_steps(monkeypatch, base_vlm, 11)
    checkpoint = Checkpoint(f"few_{role}", config, [])
    names = load_rubric().names
    history = base_vlm.pretrain(backbone, base.pretraining, train, names, seed, checkpoint, role)
    expected = read_history(BASES / role / "history.jsonl")[: len(history)]
    assert [row["step"] for row in history] == [0, 10]
    for row, wanted in zip(history, expected, strict=True):
        assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-3)


def test_a_few_steps_of_the_autoencoder_repeat(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = base_generator.Config(**RECIPE["params"]["base_generator"])
    table = read_table(Path("data/world/inspections.parquet"), INSPECTIONS)
    table = table[~table["held_out"]]
    pixels = base_generator.load_pixels(table, config.size)
    weights = base_generator.draw_weights(table, config.flow.clean_shares)
    pipe = build_pipeline(config.tiny, build_tokenizer(table["prompt"].tolist()), config.seed)
    first_steps(monkeypatch, base_generator, base_generator.LOG_EVERY)
    checkpoint = Checkpoint("few_generator", config, [])
    (row,) = base_generator.train_vae(config, checkpoint, pipe, pixels, weights)
    expected = read_history(BASES / "generator/history.jsonl")[0]
    assert row["vae/loss"] == pytest.approx(expected["vae/loss"], rel=1e-3)
    assert row["step"] == expected["step"]
    shipped = load_generator(BASES / "generator")
    assert {k: v.shape for k, v in pipe.transformer.state_dict().items()} == {
        k: v.shape for k, v in shipped.transformer.state_dict().items()
    }
