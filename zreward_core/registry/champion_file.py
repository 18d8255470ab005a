"""data/champion.yaml: the student used as the generator's reward, tracked by DVC and git."""

from pathlib import Path

import yaml

from zreward_core.config import read_yaml
from zreward_core.schemas import replaced
from zreward_core.store import MODEL, SCHEME

CHAMPION_FILE = Path("data/champion.yaml")
TRAINED = {"source": "trained"}


def named_version(number: str, sha256: str) -> dict[str, str]:
    """Content that names a registered version."""
    return {"source": f"{SCHEME}{MODEL}/{number}", "sha256": sha256}


def choice(number: str, sha256: str, trained_sha256: str | None) -> dict[str, str]:
    """Content for a champion: ``trained`` if it is identical to the trained student."""
    return TRAINED if sha256 == trained_sha256 else named_version(number, sha256)


def write_choice(content: dict[str, str]) -> bool:
    """Write the file if its content differs; returns whether it did."""
    if CHAMPION_FILE.is_file() and read_yaml(CHAMPION_FILE) == content:
        return False
    with replaced(CHAMPION_FILE) as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=False))
    return True
