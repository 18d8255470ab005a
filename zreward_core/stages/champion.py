"""champion: the trained student, or a registered version -> the student in use."""

import shutil
from pathlib import Path
from typing import Any

from zreward_core.config import StageConfig, UserError, read_yaml
from zreward_core.models.card import read_card
from zreward_core.runtime.outputs import whole_output
from zreward_core.store import SHA256_TAG, fetch, is_uri

OUTPUT = Path("data/champion")
TRAINED = Path("data/train_risd/student")
CHAMPION_FILE = Path("data/champion.yaml")


class Config(StageConfig):
    """No settings of its own: data/champion.yaml names the student."""


def run(config: Config) -> None:
    """Write student/, the student used as the generator's reward.

    Raises:
        UserError: data/champion.yaml is malformed or names an unknown student, or the files in the
            registry differ from the registered ones.
    """
    source = chosen_folder(read_yaml(CHAMPION_FILE))
    read_card(source)
    with whole_output(OUTPUT, config) as folder:
        shutil.copytree(source, folder / "student")


def chosen_folder(choice: dict[str, Any]) -> Path:
    """Folder of the student that data/champion.yaml names.

    Args:
        choice: ``source: trained``, or the URI of a version with the ``sha256`` of its files.

    Raises:
        UserError: neither of the two, or the version's files have another hash.
    """
    if choice == {"source": "trained"}:
        return TRAINED
    source, sha256 = choice.get("source"), choice.get(SHA256_TAG)
    if not (is_uri(source) and isinstance(sha256, str) and len(choice) == 2):
        raise UserError(
            f"{CHAMPION_FILE}: give 'source: trained', or 'source: models:/zreward-student/N' and"
            f" the sha256 of that version, not {choice}; `zreward adopt` writes the file"
        )
    return fetch(str(source), sha256)
