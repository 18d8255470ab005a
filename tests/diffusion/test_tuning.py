import pytest
import torch

from zreward_core.diffusion.tuning import averaged, choose_steps, moving_average, open_weights


def test_averaged_weights_come_back(z_image):
    weights, _ = open_weights(z_image, None, 1, seed=0)
    average = moving_average(weights, 0.5)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    average.shadow_params = [torch.zeros_like(weight) for weight in weights.values()]
    with averaged(weights, average):
        assert all(weight.abs().max() == 0 for weight in weights.values())
    assert all(torch.equal(weights[name], before[name]) for name in before)


def test_the_average_is_exact_in_bfloat16():
    """1 % of a change of one unit in the last place is lost in bfloat16."""
    weights = {"w": torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))}
    average = moving_average(weights, 0.99)
    average.step(weights.values())
    weights["w"].data.fill_(1.0078125)
    for _ in range(3):
        average.step(weights.values())
    kept = 2 / 11 * 3 / 12 * 4 / 13  # decays (1 + step) / (10 + step)
    expected = 1.0078125 - 0.0078125 * kept
    assert average.shadow_params[0].item() == pytest.approx(expected, abs=1e-7)


def test_steps_with_gradients_are_drawn_from_the_window():
    generator = torch.Generator().manual_seed(0)
    drawn = {choose_steps(12, 2, 4, generator) for _ in range(100)}
    assert drawn == {(8, 9), (8, 10), (8, 11), (9, 10), (9, 11), (10, 11)}
    assert choose_steps(12, 3, 3, generator) == (9, 10, 11)
    assert choose_steps(2, 5, 8, generator) == (0, 1)
