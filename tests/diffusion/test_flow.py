import torch

from zreward_core.diffusion.flow import (
    draw_sigmas,
    encode_captions,
    flow_matching_loss,
    reconstruction_loss,
    step_generator,
)
from zreward_core.diffusion.tiny import chat
from zreward_core.training.optimizers import make_optimizers

PROMPTS = ["a red circle at the top left", "two blue stars on the right"]


def _tokens(tokenizer):
    texts = [chat(tokenizer, prompt) for prompt in PROMPTS]
    return tokenizer(texts, padding=True, return_tensors="pt")


def test_captions_are_those_of_the_pipeline(z_image):
    found = encode_captions(z_image.pipe.text_encoder, _tokens(z_image.pipe.tokenizer))
    expected = z_image.encode(PROMPTS, 0.0).prompt["captions"]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_loss_of_a_zero_velocity_by_hand(z_image):
    """The loss is the mean square of latents - noise = 1 - 3."""
    transformer = z_image.pipe.transformer
    for final in transformer.all_final_layer.values():
        torch.nn.init.zeros_(final.linear.weight)
        torch.nn.init.zeros_(final.linear.bias)
    captions = encode_captions(z_image.pipe.text_encoder, _tokens(z_image.pipe.tokenizer))
    ones = torch.ones(2, 4, 8, 8)
    loss = flow_matching_loss(transformer, ones, captions, 3 * ones, torch.tensor([0.2, 0.8]))
    assert loss.item() == 4.0


def test_both_losses_fall(z_image):
    for module in (z_image.pipe.vae, z_image.pipe.transformer):
        module.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(4, 3, 16, 16, generator=generator) * 2 - 1
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=generator)
    sigmas = torch.tensor([0.3, 0.7])
    captions = encode_captions(z_image.pipe.text_encoder, _tokens(z_image.pipe.tokenizer))
    captions = [caption.detach() for caption in captions]

    def losses():
        return (
            reconstruction_loss(z_image.pipe.vae, pixels, step_generator(1, 1)),
            flow_matching_loss(z_image.pipe.transformer, latents, captions, noise, sigmas),
        )

    before = losses()
    optimizers = [torch.optim.AdamW(z_image.pipe.vae.parameters(), lr=1e-2)]
    optimizers += make_optimizers(z_image.pipe.transformer, 1e-2)
    for _ in range(10):
        sum(losses()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for old, new in zip(before, losses(), strict=True):
        assert new.item() < 0.95 * old.item()


def test_noise_levels_are_inside_and_follow_their_mean():
    low = draw_sigmas(2000, -1.0, step_generator(0, 0))
    high = draw_sigmas(2000, 1.0, step_generator(0, 0))
    assert low.min() > 0 and high.max() < 1
    assert high.mean() > low.mean() + 0.25


def test_each_step_has_its_own_random_numbers():
    assert torch.equal(torch.rand(3, generator=step_generator(1, 2)),
                       torch.rand(3, generator=step_generator(1, 2)))  # fmt: skip
    first, second = (torch.rand(3, generator=step_generator(1, step)) for step in (2, 3))
    assert not torch.equal(first, second)
