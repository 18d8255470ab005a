"""champion: the trained student, or a version of the registry -> the student in use."""

import shutil
from pathlib import Path

from zreward_core.config import StageConfig, UserError, read_yaml
from zreward_core.models.backbones import read_card
from zreward_core.runtime.outputs import whole_output

OUTPUT = Path("data/champion")
TRAINED = Path("data/train_risd/student")
CHAMPION_FILE = Path("data/champion.yaml")


class Config(StageConfig):
    """The choice itself stands in data/champion.yaml."""


def run(config: Config) -> None:
    """Write student/, the student that rewards the generator.

    Raises:
        UserError: data/champion.yaml names no student this project knows.
    """
    chosen = read_yaml(CHAMPION_FILE)
    if chosen != {"source": "trained"}:
        raise UserError(f"{CHAMPION_FILE}: source must be 'trained', not {chosen.get('source')!r}")
    read_card(TRAINED)
    with whole_output(OUTPUT, config) as folder:
        shutil.copytree(TRAINED, folder / "student")
