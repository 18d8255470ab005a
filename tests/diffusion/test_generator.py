import pytest
import torch

from zreward_core.config import UserError
from zreward_core.diffusion.generator import CARD, load_pipeline, write_pointer
from zreward_core.diffusion.sampling import sample


def test_a_saved_pipeline_loads_and_samples_the_same(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "generator")
    loaded = load_pipeline(tmp_path / "generator")
    settings = {"num_steps": 3, "guidance_scale": 1.5, "size": (16, 16)}
    prompt = ["a red circle at the top left"]
    assert torch.equal(
        sample(tiny_pipeline, prompt, [1], **settings), sample(loaded, prompt, [1], **settings)
    )
    assert not any(weight.requires_grad for weight in loaded.transformer.parameters())


def test_a_pointer_is_followed(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "elsewhere")
    write_pointer(tmp_path / "generator", str(tmp_path / "elsewhere"), "main")
    assert load_pipeline(tmp_path / "generator").transformer.config.dim == 32


def test_a_missing_generator_is_the_users_fault(tmp_path):
    with pytest.raises(UserError, match="holds no generator"):
        load_pipeline(tmp_path)


def test_a_malformed_pointer_is_the_users_fault(tmp_path):
    (tmp_path / CARD).write_text('{"hub_id": "someone/something"}')
    with pytest.raises(UserError, match="must name hub_id and revision"):
        load_pipeline(tmp_path)


def test_an_incomplete_checkpoint_is_the_users_fault(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "generator")
    for file in (tmp_path / "generator" / "vae").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        load_pipeline(tmp_path / "generator")
