from tests.diffusion.tiny_pipelines import PROMPTS
from zreward_core.diffusion.sampling import sample, sample_with_gradients


def test_no_prompts_give_no_images(z_image):
    empty = sample(z_image, [], [], num_steps=2, guidance_scale=0.0, size=(32, 16))
    assert empty.shape == (0, 3, 16, 32)


def test_velocities_of_unchosen_steps_are_constants(z_image):
    """With the last step alone, the graph does not reach the latents that it starts from."""
    z_image.transformer.requires_grad_()
    latents = z_image.initial_latents([5], (16, 16))
    settings = {"num_steps": 3, "guidance_scale": 0.0}
    last = sample_with_gradients(z_image, PROMPTS[:1], latents, gradient_steps=(2,), **settings)
    none = sample_with_gradients(z_image, PROMPTS[:1], latents, gradient_steps=(), **settings)
    assert last.pixels.requires_grad and len(last.steps) == 1
    assert not none.pixels.requires_grad and not none.steps
    assert (last.pixels == none.pixels).all()
