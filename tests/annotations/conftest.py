"""Shared fixtures."""

import pytest

from tests.annotations.sources import default_rubric, drops, public, read  # noqa: F401
from zreward_core.rubric import Dimension, Rubric


@pytest.fixture
def rubric() -> Rubric:
    """Two dimensions on half points from 1 to 5."""
    return Rubric(
        name="two dimensions",
        levels=[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0],
        labels=list("123456789"),
        dimensions=[
            Dimension(
                name="alignment",
                title="Alignment",
                question="Is <all> there?",
                levels={5.0: "all & everything", 1.0: "nothing"},
            ),
            Dimension(name="realism", title="Realism", question="Is it clean?", levels={}),
        ],
    )
