from pathlib import Path

import pytest

from zreward_core.config import UserError
from zreward_core.runtime.workspace import make_workspace


def test_a_missing_file_of_the_project_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"dvc\.yaml not found"):
        make_workspace(None, name="w")
