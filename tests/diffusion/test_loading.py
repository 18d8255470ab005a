import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from zreward_core.config import UserError
from zreward_core.diffusion.loading import CARD, generator_class, load_generator, write_pointer
from zreward_core.diffusion.sampling import sample
from zreward_core.schemas import NotFinite


def test_a_saved_generator_loads_and_samples_the_same(generator, tmp_path):
    generator.pipe.save_pretrained(tmp_path / "generator")
    loaded = load_generator(tmp_path / "generator")
    assert type(loaded) is type(generator)
    settings = {"num_steps": 2, "guidance_scale": 1.5, "size": (16, 16)}
    prompt = ["a red circle at the top left"]
    assert torch.equal(
        sample(generator, prompt, [1], **settings), sample(loaded, prompt, [1], **settings)
    )
    modules = [m for m in loaded.pipe.components.values() if isinstance(m, torch.nn.Module)]
    assert len(modules) >= 3
    assert not any(w.requires_grad or m.training for m in modules for w in m.parameters())


def test_a_pointer_is_followed(z_image, tmp_path):
    z_image.pipe.save_pretrained(tmp_path / "elsewhere")
    pointer = {"path": str(tmp_path / "elsewhere"), "sha256": "0"}
    write_pointer(tmp_path / "generator", pointer)
    assert load_generator(tmp_path / "generator").transformer.config.dim == 32


def test_other_pipeline_classes_are_refused(z_image, tmp_path):
    z_image.pipe.save_pretrained(tmp_path / "generator")
    index = tmp_path / "generator/model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "PRXPipeline"}))
    message = "/generator is a PRXPipeline.* ZImagePipeline, StableDiffusion3Pipeline, FluxPipe"
    for refused in (load_generator, lambda path: generator_class(str(path))):
        with pytest.raises(UserError, match=message):
            refused(tmp_path / "generator")


def test_a_missing_generator_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="has no generator"):
        load_generator(tmp_path)


def test_a_malformed_pointer_is_a_user_error(tmp_path):
    (tmp_path / CARD).write_text('{"hub_id": "someone/something"}')
    with pytest.raises(UserError, match="must name path, or hub_id and revision"):
        load_generator(tmp_path)


def test_an_incomplete_checkpoint_is_a_user_error(z_image, tmp_path):
    z_image.pipe.save_pretrained(tmp_path / "generator")
    for file in (tmp_path / "generator" / "vae").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"the generator .* is not a readable checkpoint"):
        load_generator(tmp_path / "generator")


def test_a_malformed_file_of_a_generator_is_refused(z_image, tmp_path):
    folder = tmp_path / "generator"
    z_image.pipe.save_pretrained(folder)
    read = ("model_index.json", "vae/config.json", "transformer/config.json", "tokenizer.json")
    for path in sorted(path for path in folder.rglob("*.json") if str(path).endswith(read)):
        kept = path.read_bytes()
        for content in (b"", b"null", b"[]", b"5", b'"x"', b"{", b"\xff\xfe\0", b"[" * 100_000):
            path.write_bytes(content)
            with pytest.raises(UserError):
                load_generator(folder)
        path.write_bytes(kept)
    load_generator(folder)


@pytest.mark.parametrize("change", ["lacks", "unlike the model", "another shape"])
@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_components_with_other_weights_are_refused(z_image, tmp_path, part, change):
    z_image.pipe.save_pretrained(tmp_path / "generator")
    (file,) = (tmp_path / "generator" / part).glob("*.safetensors")
    weights = load_file(file)
    name = max(weights, key=lambda one: weights[one].numel())
    if change == "lacks":
        del weights[name]
    elif change == "another shape":
        weights[name] = torch.zeros(3, 3)
    else:
        weights["more.weight"] = torch.zeros(2)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(UserError, match=f"{tmp_path}/generator.*"):
        load_generator(tmp_path / "generator")


def test_samples_that_are_not_finite_are_refused(z_image):
    with torch.no_grad():
        for weight in z_image.transformer.parameters():
            weight.fill_(torch.nan)
    with pytest.raises(NotFinite, match="samples are not finite"):
        sample(z_image, ["a circle"], [1], num_steps=1, guidance_scale=1.0, size=(16, 16))


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder"])
def test_a_weight_of_integers_is_refused(z_image, tmp_path, component):
    z_image.pipe.save_pretrained(tmp_path / "generator")
    (path,) = (tmp_path / "generator" / component).glob("*.safetensors")
    weights = load_file(path)
    name = next(name for name, value in sorted(weights.items()) if value.ndim > 1)
    save_file(weights | {name: weights[name].to(torch.int32)}, path, {"format": "pt"})
    with pytest.raises(UserError, match=rf"{path}: the weight {name} is stored as I32"):
        load_generator(tmp_path / "generator")
