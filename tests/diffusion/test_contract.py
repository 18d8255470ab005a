"""The contract of `ImageGenerator`, for every supported pipeline class."""

import copy

import pytest
import torch
from diffusers import DiffusionPipeline

from tests.diffusion.tiny_pipelines import PIPELINES, PROMPTS, tiny_pipeline
from zreward_core.adapters import ADAPTER
from zreward_core.config import UserError
from zreward_core.diffusion.generator import pack
from zreward_core.diffusion.loading import GENERATORS, load_generator
from zreward_core.diffusion.sampling import sample, sample_with_gradients
from zreward_core.diffusion.tuning import (
    close_weights,
    open_weights,
    recompute_activations,
    save_adapters,
)

SIZE = (32, 16)
GUIDANCE = 2.5


def _by_pipe(generator, latents, num_steps, guidance_scale, pipe=None):
    """Pixels that ``pipe()`` returns; its guidance arguments are written out in `_arguments`."""
    return (pipe or generator.pipe)(
        prompt=list(PROMPTS),
        width=SIZE[0],
        height=SIZE[1],
        latents=pack(latents) if generator.packed else latents,
        num_inference_steps=num_steps,
        output_type="pt",
        **_arguments(generator, guidance_scale),
    ).images


def _arguments(generator, guidance_scale):
    name = type(generator.pipe).__name__
    true_guidance = {
        "true_cfg_scale": guidance_scale,
        "negative_prompt": [" " if name == "QwenImagePipeline" else ""] * 2,
    }
    if name == "QwenImagePipeline":
        return true_guidance if guidance_scale > 1 else {"true_cfg_scale": 1.0}
    if name == "FluxPipeline" and not generator.transformer.config.guidance_embeds:
        return true_guidance
    return {"guidance_scale": guidance_scale}


def _samples(generator, latents, num_steps=4, gradient_steps=(1, 3), guidance_scale=GUIDANCE):
    return sample_with_gradients(
        generator,
        PROMPTS,
        latents,
        num_steps=num_steps,
        gradient_steps=gradient_steps,
        guidance_scale=guidance_scale,
    )


@pytest.mark.parametrize("guidance_scale", [0.0, GUIDANCE])
def test_the_differentiable_sampler_equals_the_pipeline(generator, guidance_scale):
    latents = generator.initial_latents([3, 4], SIZE)
    expected = _by_pipe(generator, latents, 5, guidance_scale)
    samples = _samples(generator, latents, num_steps=5, guidance_scale=guidance_scale)
    assert samples.pixels.shape == (2, 3, 16, 32)
    torch.testing.assert_close(samples.pixels.detach(), expected, atol=1e-5, rtol=0)


def test_samples_equal_the_pipeline_and_depend_on_guidance(generator):
    latents = generator.initial_latents([3, 4], SIZE)
    found = {}
    for scale in (0.0, GUIDANCE):
        expected = (_by_pipe(generator, latents, 3, scale) * 255).round()
        found[scale] = sample(
            generator, PROMPTS, [3, 4], num_steps=3, guidance_scale=scale, size=SIZE
        )
        assert (found[scale].float() - expected).abs().max() <= 1
    plain, guided = (
        _samples(generator, latents, guidance_scale=scale).pixels.detach()
        for scale in (0.0, GUIDANCE)
    )
    assert (plain - guided).abs().max() > 1e-4  # above the tolerance of the equalities


def test_a_sample_does_not_depend_on_its_batch(generator):
    settings = {"num_steps": 3, "guidance_scale": 2.0, "size": SIZE}
    together = sample(generator, PROMPTS * 2, range(4), **settings)
    alone = [
        sample(generator, [prompt], [seed], **settings) for seed, prompt in enumerate(PROMPTS * 2)
    ]
    assert together.dtype == torch.uint8
    assert (together.int() - torch.cat(alone).int()).abs().max() <= 1


def test_gradients_equal_finite_differences(generator):
    """Along the gradient of the layers that LoRA adapts, where rounding matters least."""
    latents = generator.initial_latents([5, 6], SIZE)
    targets = tuple(f"{name}.weight" for name in generator.lora_targets)
    weights = [
        weight.requires_grad_()
        for name, weight in generator.transformer.named_parameters()
        if name.endswith(targets)
    ]
    pattern = torch.rand(2, 3, 16, 32)

    def reward() -> torch.Tensor:
        samples = _samples(generator, latents, gradient_steps=range(4))
        return (samples.pixels.double() * pattern).sum()

    gradients = torch.autograd.grad(reward(), weights, allow_unused=True)
    used = [(w, g) for w, g in zip(weights, gradients, strict=True) if g is not None]
    norm = torch.stack([g.norm() for _, g in used]).norm()
    assert norm > 1e-3

    def shifted(step: float) -> torch.Tensor:
        for weight, gradient in used:
            weight.data.add_(step * gradient / norm)
        value = reward().detach()
        for weight, gradient in used:
            weight.data.sub_(step * gradient / norm)
        return value

    difference = (shifted(3e-3) - shifted(-3e-3)) / 6e-3
    torch.testing.assert_close(difference, norm.double(), rtol=1e-2, atol=1e-4)


def test_gradient_checkpointing_changes_nothing(generator):
    latents = generator.initial_latents([5, 6], SIZE)
    weights = list(generator.transformer.requires_grad_().parameters())

    def gradients() -> list[torch.Tensor]:
        found = torch.autograd.grad(
            _samples(generator, latents).pixels.sum(), weights, allow_unused=True
        )
        return [gradient for gradient in found if gradient is not None]

    plain = gradients()
    computed = []
    decoder = generator.pipe.vae.decoder
    decoder.mid_block.register_forward_pre_hook(lambda *_: computed.append(1))
    recompute_activations(generator)
    torch.testing.assert_close(gradients(), plain)
    assert len(computed) == 1 + generator.pipe.vae._supports_gradient_checkpointing


def test_bfloat16_differs_by_rounding_only(generator):
    """``pipe()`` rounds latents to bfloat16 (all classes but Z-Image), our sampler does not."""
    generator.pipe.to(torch.bfloat16)
    latents = generator.initial_latents([3, 4], SIZE)
    expected = _by_pipe(generator, latents, 4, GUIDANCE)
    weights = list(generator.transformer.requires_grad_().parameters())
    samples = _samples(generator, latents)
    torch.testing.assert_close(samples.pixels.detach(), expected.float(), atol=0.04, rtol=0)
    gradients = torch.autograd.grad(samples.pixels.sum(), weights, allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


def test_only_the_chosen_steps_carry_gradients(generator):
    latents = generator.initial_latents([5, 6], SIZE)
    generator.transformer.requires_grad_()
    samples = _samples(generator, latents)
    times = generator.scheduler(latents, 4).timesteps
    assert [step.timestep for step in samples.steps] == [times[1], times[3]]
    assert all(step.velocity.requires_grad for step in samples.steps)
    assert not any(step.latents.requires_grad for step in samples.steps)


@pytest.mark.parametrize("rank", [None, 2])
def test_training_starts_at_the_frozen_generator(generator, rank):
    """The velocity regularizer is exactly 0 before the first update, and positive after it."""
    latents = generator.initial_latents([5, 6], SIZE)
    before = copy.deepcopy(generator.transformer.state_dict())
    weights, frozen = open_weights(generator, rank, 2, seed=0)
    assert all(weight.requires_grad for weight in weights.values())

    def distances() -> list[float]:
        samples = _samples(generator, latents)
        return [
            (one.velocity - frozen(one.latents, one.timestep, samples.conditions)).abs().max()
            for one in samples.steps
        ]

    assert max(distances()) == 0
    for weight in weights.values():
        weight.data.add_(0.05)
    assert min(distances()) > 1e-4
    for weight in weights.values():
        weight.data.sub_(0.05)
    close_weights(generator.transformer, rank)
    after = generator.transformer.state_dict()
    assert set(after) == set(before)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_folded_adapters_open_in_plain_diffusers(generator, tmp_path):
    latents = generator.initial_latents([5, 6], SIZE)
    base = _samples(generator, latents).pixels.detach()
    weights, _ = open_weights(generator, 2, 2, seed=0)
    assert weights and all("lora_" in name for name in weights)
    adapted_layers = {name.rsplit(".lora_", 1)[0] for name in weights}
    assert all(
        any(layer.endswith(target) for layer in adapted_layers) for target in generator.lora_targets
    )
    for weight in weights.values():
        weight.data.add_(0.2)
    adapted = _samples(generator, latents).pixels.detach()
    assert (adapted - base).abs().max() > 1e-3
    close_weights(generator.transformer, 2)
    generator.pipe.save_pretrained(tmp_path)
    opened = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(opened) is type(generator.pipe)
    opened.set_progress_bar_config(disable=True)
    found = _by_pipe(generator, latents, 4, GUIDANCE, opened)
    torch.testing.assert_close(found, adapted, atol=1e-4, rtol=0)


def test_adapters_are_not_rounded_away_in_bfloat16(generator, tmp_path):
    generator.pipe.save_pretrained(tmp_path / "base")
    trained = load_generator(tmp_path / "base", torch.bfloat16)
    weights, _ = open_weights(trained, 2, 2, seed=0)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    for weight in weights.values():
        weight.data.add_(3e-3)
    latents = trained.initial_latents([5, 6], SIZE)
    expected = _samples(trained, latents).pixels.detach()
    save_adapters(trained, tmp_path / "tuned" / ADAPTER)
    close_weights(trained.transformer, 2)
    trained.pipe.save_pretrained(tmp_path / "tuned")

    opened = load_generator(tmp_path / "tuned", torch.bfloat16)
    torch.testing.assert_close(_samples(opened, latents).pixels, expected, atol=0, rtol=0)
    kept = {n.replace(".base_layer", ""): v for n, v in opened.transformer.state_dict().items()}
    merged = load_generator(tmp_path / "tuned").transformer.state_dict()
    base = load_generator(tmp_path / "base", torch.bfloat16).transformer.state_dict()
    for name, value in base.items():
        assert torch.equal(kept[name], value)
        assert not name.endswith(tuple(f"{t}.weight" for t in trained.lora_targets)) or (
            not torch.equal(merged[name], value.float())
        )


def test_a_size_that_does_not_fit_the_patches_is_refused(generator):
    with pytest.raises(UserError, match=r"'size' \[34, 16\] .* multiples of 4 pixels"):
        generator.initial_latents([1], (34, 16))


def test_a_side_past_the_positions_of_the_transformer_is_refused(generator):
    patch = 2 * generator.pipe.vae_scale_factor
    if generator.max_patches is None:
        generator.initial_latents([1], (1000 * patch, patch))
        return
    for size in ((generator.max_patches * patch, patch), (patch, generator.max_patches * patch)):
        pixels = sample(generator, PROMPTS[:1], [1], num_steps=1, guidance_scale=0.0, size=size)
        assert pixels.shape == (1, 3, *reversed(size))
        longer = tuple(side + patch if side > patch else side for side in size)
        with pytest.raises(UserError, match=f"at most {max(size)} pixels"):
            generator.initial_latents([1], longer)


def test_every_supported_class_is_in_the_contract():
    assert {type(tiny_pipeline(name)).__name__ for name in PIPELINES} == set(GENERATORS)
