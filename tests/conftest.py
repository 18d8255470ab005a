import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers in every run, alone or among others."""
    torch.manual_seed(0)
