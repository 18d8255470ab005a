"""The stage base_generator."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.stages.generator_root import finished_root, generator_config, root, world_config
from zreward_core.config import UserError
from zreward_core.diffusion.loading import CARD, load_generator
from zreward_core.runtime.checkpoint import tree_hash
from zreward_core.schemas import read_table
from zreward_core.stages import base_generator, world
from zreward_core.world.inspection import INSPECTIONS

__all__ = ["finished_root", "root"]
OUTPUT = Path("data/base_generator")


def test_a_killed_run_resumes_to_the_same_weights(root, monkeypatch):
    expected = tree_hash(OUTPUT)
    calls = iter(range(100))
    loss = base_generator.flow_matching_loss

    def killed(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(base_generator, "flow_matching_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        base_generator.run(generator_config())
    assert tree_hash(OUTPUT) == expected  # the previous output is untouched
    monkeypatch.setattr(base_generator, "flow_matching_loss", loss)
    base_generator.run(generator_config())
    assert tree_hash(OUTPUT) == expected
    assert not Path(".zreward/checkpoints/base_generator").exists()


def test_metrics_include_chance_and_clean_renders(root):
    metrics = json.loads((OUTPUT / "metrics.json").read_text())
    assert set(metrics) == {"samples", "chance", "clean_renders"}
    assert metrics["clean_renders"]["shape_accuracy"] == 1.0
    assert metrics["samples"]["shape_accuracy"] < 1.0


def test_sampling_weights_raise_the_share_of_clean_images(root):
    table = read_table(Path("data/world/inspections.parquet"), INSPECTIONS)
    weights = base_generator.draw_weights(table, {"realism": 0.9})
    defects = [{one["aspect"] for one in json.loads(text)} for text in table["defects"]]
    clean = torch.tensor([aspects.isdisjoint({"realism"}) for aspects in defects])
    before = clean.double().mean()
    after = weights[clean].sum() / weights.sum()
    assert after > before + 0.1
    assert weights.min() > 0


def test_invalid_clean_shares_are_refused():
    with pytest.raises(ValidationError, match=r"'beauty'.* are not aspects of the world"):
        generator_config(flow={"clean_shares": {"beauty": 0.5}})
    with pytest.raises(ValidationError, match="clean_shares"):
        generator_config(flow={"clean_shares": {"realism": 1.5}})


def _elsewhere(class_name: str) -> str:
    """A folder, used as a hub id, whose model_index.json names a pipeline class."""
    Path("elsewhere").mkdir()
    Path("elsewhere/model_index.json").write_text(json.dumps({"_class_name": class_name}))
    return "elsewhere"


def test_the_output_for_a_hub_model_is_a_pointer(root):
    shutil.copytree(OUTPUT / "generator", "elsewhere")
    base_generator.run(generator_config(tiny=None, hub_id="elsewhere", revision="abc"))
    card = json.loads((OUTPUT / "generator" / CARD).read_text())
    assert card == {"hub_id": "elsewhere", "revision": "abc"}
    assert not (OUTPUT / "generator/model_index.json").exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("text_encoder/config.json", "text_encoder"),
        ("tokenizer/tokenizer.json", "tokenizer"),
        ("scheduler/scheduler_config.json", "scheduler"),
        ("vae/config.json", "vae"),
    ],
)
def test_a_hub_model_with_a_component_that_cannot_be_opened_is_refused(root, file, name):
    shutil.copytree(OUTPUT / "generator", "elsewhere")
    (Path("elsewhere") / file).unlink()
    config = generator_config(tiny=None, hub_id="elsewhere", revision="abc")
    with pytest.raises(UserError, match=rf"^{name} of the generator elsewhere cannot be opened"):
        base_generator.run(config)


def test_a_hub_model_of_another_class_is_refused(root):
    before = tree_hash(OUTPUT)
    config = generator_config(tiny=None, hub_id=_elsewhere("PRXPipeline"), revision="abc")
    with pytest.raises(UserError, match=r"elsewhere is a PRXPipeline.* QwenImagePipeline"):
        base_generator.run(config)
    assert tree_hash(OUTPUT) == before


def test_a_hub_model_that_cannot_be_reached_is_refused(root, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = generator_config(tiny=None, hub_id="someone/z", revision="0a" * 20)
    with pytest.raises(UserError, match=r"model_index\.json of the generator someone/z"):
        base_generator.run(config)


def test_a_hub_model_at_a_branch_is_refused(root):
    config = generator_config(tiny=None, hub_id="someone/z", revision="main")
    with pytest.raises(UserError, match=r"'base_generator\.revision' is 'main'.* 40 hex digits"):
        base_generator.run(config)


@pytest.mark.parametrize("changes", [{"tiny": None}, {"hub_id": "x", "revision": "y"}])
def test_exactly_one_source_must_be_given(changes):
    with pytest.raises(ValidationError, match="give one of hub_id"):
        generator_config(**changes)


def test_a_hub_model_needs_its_revision():
    with pytest.raises(ValidationError, match="revision"):
        generator_config(tiny=None, hub_id="x")


def test_an_empty_world_is_refused(root):
    world.run(world_config(size=0))
    with pytest.raises(UserError, match="no pretraining images"):
        base_generator.run(generator_config())


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "all latents of the 3 images are equal"), (torch.nan, "is nan")]
)
def test_latents_that_cannot_be_scaled_are_refused(root, value, message):
    pipe = load_generator(OUTPUT / "generator").pipe
    with torch.no_grad():
        for parameter in pipe.vae.encoder.conv_out.parameters():
            parameter.fill_(value)
    with pytest.raises(UserError, match=rf"^base_generator, the autoencoder.*{message}"):
        base_generator.scaled_latents(pipe, torch.rand(3, 3, 16, 16))


def test_the_pipeline_is_complete(root):
    pipe = load_generator(OUTPUT / "generator").pipe
    assert pipe.vae.config.scaling_factor != 1.0
    assert type(pipe.text_encoder).__name__ == "Qwen3Model"
