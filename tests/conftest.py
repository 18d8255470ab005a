import os
import signal

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; processes of the tests inherit it

from pathlib import Path

import pytest
import torch

START_FIRST = (
    *("test_chain.py", "test_agreement.py", "test_two_processes.py", "test_comparison.py"),
    "test_tutorial.py",
)
"""Long test files: `make test` distributes whole files to its workers, in this order."""

INPUTS_TRIED = "inputs_tried"
"""Property of the report of a property test of tests/fuzz."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, so that the workers end at about the same time."""
    rank = {name: number for number, name in enumerate(START_FIRST)}
    items.sort(key=lambda item: rank.get(Path(item.path).name, len(rank)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many inputs the property tests of tests/fuzz tried, in all processes."""
    numbers = [
        number
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, number in report.user_properties
        if name == INPUTS_TRIED
    ]
    if numbers:
        terminalreporter.write_line(
            f"tried {sum(numbers)} inputs in {len(numbers)} property tests of tests/fuzz"
        )


@pytest.fixture(autouse=True)
def seeded():
    """Seed torch before each test, so that its numbers do not depend on the other tests."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_environment():
    """Undo what a test sets in the environment, as commands do for the stages that they start."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def own_signals():
    """Undo Dagster's change of SIGTERM to SIGINT's handler: processes inherit it if ignored."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
