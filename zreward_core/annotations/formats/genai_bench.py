"""GenAI-Bench ratings: an object of prompts, each with three 1-5 scores for every model.

Source: https://github.com/linzhiqiu/t2v_metrics, genai_image.json: {"00001": {"id", "prompt",
"models": {"DALLE_3": [5, 5, 5], ...}}}.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zreward_core.annotations.formats.json_records import load_json
from zreward_core.annotations.formats.records import Records, Wanted, batches_of
from zreward_core.config import UserError


def read_genai_bench(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a record per prompt and model: id, prompt, model, image, scores.

    Raises:
        UserError: the file is not an object of prompts.
    """
    content = load_json(path, wanted)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not an object of prompts; download genai_image.json again")
    return batches_of(enumerate(_records(content), start=1), wanted, "record")


def _records(content: dict[str, Any]) -> Iterator[Any]:
    for key, entry in content.items():
        models = entry.get("models") if isinstance(entry, dict) else None
        if not isinstance(models, dict):
            yield [key, entry]
            continue
        for model, scores in models.items():
            shared = {"id": key, "prompt": entry.get("prompt"), "model": model}
            yield {**shared, "image": f"{model}/{key}", "scores": scores}
