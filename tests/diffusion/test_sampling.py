import pytest
import torch

from zreward_core.diffusion.sampling import (
    encode_prompts,
    initial_latents,
    sample,
    sample_with_gradients,
    scheduler_for,
    velocity,
)

PROMPTS = ["a red circle at the top left", "two blue stars on the right"]
SIZE = (32, 16)


@pytest.mark.parametrize("guidance_scale", [0.0, 2.5])
def test_the_differentiable_sampler_equals_the_pipeline(tiny_pipeline, guidance_scale):
    latents = initial_latents(tiny_pipeline, [3, 4], SIZE)
    expected = tiny_pipeline(
        prompt=list(PROMPTS),
        width=SIZE[0],
        height=SIZE[1],
        latents=latents,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        output_type="pt",
    ).images
    samples = sample_with_gradients(
        tiny_pipeline,
        PROMPTS,
        latents,
        num_steps=5,
        gradient_steps=(2, 4),
        guidance_scale=guidance_scale,
    )
    assert samples.pixels.shape == (2, 3, 16, 32)
    torch.testing.assert_close(samples.pixels.detach(), expected, atol=1e-5, rtol=0)


def test_a_sample_does_not_depend_on_its_batch(tiny_pipeline):
    settings = {"num_steps": 4, "guidance_scale": 2.0, "size": SIZE}
    together = sample(tiny_pipeline, PROMPTS * 4, range(8), **settings)
    alone = [
        sample(tiny_pipeline, [prompt], [seed], **settings)
        for seed, prompt in enumerate(PROMPTS * 4)
    ]
    assert together.dtype == torch.uint8
    assert (together.int() - torch.cat(alone).int()).abs().max() <= 1


def test_no_prompts_give_no_images(tiny_pipeline):
    empty = sample(tiny_pipeline, [], [], num_steps=2, guidance_scale=0.0, size=SIZE)
    assert empty.shape == (0, 3, 16, 32)


def test_gradients_equal_finite_differences(tiny_pipeline):
    """Along the gradient of a weight that every step uses, where rounding matters least."""
    latents = initial_latents(tiny_pipeline, [5, 6], SIZE)
    weight = tiny_pipeline.transformer.layers[0].feed_forward.w2.weight
    original = weight.detach().clone()
    direction = torch.zeros_like(original)

    def brightness(shift: float) -> torch.Tensor:
        weight.data.copy_(original + shift * direction)
        samples = sample_with_gradients(
            tiny_pipeline,
            PROMPTS,
            latents,
            num_steps=4,
            gradient_steps=range(4),
            guidance_scale=1.5,
        )
        return samples.pixels.double().square().sum()

    weight.requires_grad_()
    gradient = torch.autograd.grad(brightness(0.0), weight)[0]
    direction = gradient / gradient.norm()
    with torch.no_grad():
        difference = (brightness(1e-3) - brightness(-1e-3)) / 2e-3
    expected = (gradient * direction).sum()
    assert expected.abs() > 1e-4
    torch.testing.assert_close(difference, expected.double(), rtol=1e-2, atol=1e-4)


def test_gradient_checkpointing_changes_nothing(tiny_pipeline):
    latents = initial_latents(tiny_pipeline, [5], SIZE)
    weight = tiny_pipeline.transformer.layers[0].attention.to_q.weight.requires_grad_()

    def gradient() -> torch.Tensor:
        samples = sample_with_gradients(
            tiny_pipeline,
            PROMPTS[:1],
            latents,
            num_steps=4,
            gradient_steps=(1, 3),
            guidance_scale=1.0,
        )
        return torch.autograd.grad(samples.pixels.sum(), weight)[0]

    plain = gradient()
    tiny_pipeline.transformer.enable_gradient_checkpointing()
    torch.testing.assert_close(gradient(), plain)


def test_only_the_chosen_steps_carry_gradients(tiny_pipeline):
    latents = initial_latents(tiny_pipeline, [5], SIZE)
    tiny_pipeline.transformer.requires_grad_()
    samples = sample_with_gradients(
        tiny_pipeline,
        PROMPTS[:1],
        latents,
        num_steps=4,
        gradient_steps=(1, 3),
        guidance_scale=0.0,
    )
    times = scheduler_for(tiny_pipeline, latents, 4).timesteps
    assert [step.timestep for step in samples.steps] == [times[1], times[3]]
    assert all(step.velocity.requires_grad for step in samples.steps)
    assert not any(step.latents.requires_grad for step in samples.steps)


def test_recorded_steps_reproduce_their_velocity(tiny_pipeline):
    """The distance to the frozen generator starts at exactly zero."""
    latents = initial_latents(tiny_pipeline, [5], SIZE)
    samples = sample_with_gradients(
        tiny_pipeline,
        PROMPTS[:1],
        latents,
        num_steps=3,
        gradient_steps=(0, 2),
        guidance_scale=1.0,
    )
    conditions = encode_prompts(tiny_pipeline, PROMPTS[:1], 1.0)
    for step in samples.steps:
        again = velocity(tiny_pipeline.transformer, step.latents, step.timestep, conditions)
        assert torch.equal(again, step.velocity)
