import pytest

from zreward_core.diffusion.tiny import TinySizes, build_pipeline, build_tokenizer

SIZES = TinySizes(
    vae_channels=(8, 16),
    latent_channels=4,
    width=32,
    num_layers=2,
    num_heads=2,
    text_width=32,
    num_text_layers=2,
    num_text_heads=2,
)


@pytest.fixture
def tiny_pipeline():
    """A random pipeline whose output is not silent."""
    tokenizer = build_tokenizer(
        ["a red circle at the top left", "two blue stars on the right, and nothing else"]
    )
    pipe = build_pipeline(SIZES, tokenizer, seed=1)
    for final in pipe.transformer.all_final_layer.values():
        final.linear.reset_parameters()
    pipe.set_progress_bar_config(disable=True)
    for module in (pipe.vae, pipe.text_encoder, pipe.transformer):
        module.requires_grad_(False).eval()
    return pipe
