import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; processes of the tests inherit it

from pathlib import Path

import pytest
import torch

START_FIRST = ("test_chain.py", "test_agreement.py", "test_two_processes.py", "test_comparison.py")
"""Long test files: `make test` distributes whole files to its workers, in this order."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, so that the workers end at about the same time."""
    rank = {name: number for number, name in enumerate(START_FIRST)}
    items.sort(key=lambda item: rank.get(Path(item.path).name, len(rank)))


@pytest.fixture(autouse=True)
def seeded():
    """Seed torch before each test, so that its numbers do not depend on the other tests."""
    torch.manual_seed(0)
