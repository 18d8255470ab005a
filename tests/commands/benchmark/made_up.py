"""Small folders in the shapes in which the sets are published."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.images import encode_png


def png(shade: int) -> bytes:
    """An image of one colour; each shade has other bytes."""
    return encode_png(np.full((16, 16, 3), shade, np.uint8))


def write_images(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(10 + 17 * number % 240))


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def hpdv3(folder: Path) -> list[dict[str, Any]]:
    """Three pairs; the second is not confident, the third has no confidence."""
    known = [("a cat", 0.99, [9, 1]), ("a dog", 0.5, [2, 1]), ("a hen", None, None)]
    rows = [
        {
            "prompt": prompt,
            "path1": f"images/{number}_good.png",
            "path2": f"images/{number}_bad.png",
            "model1": "flux",
            "model2": "sdxl",
            "confidence": confidence,
            "choice_dist": votes,
        }
        for number, (prompt, confidence, votes) in enumerate(known)
    ]
    write_images(folder, [row[path] for row in rows for path in ("path1", "path2")])
    write_json(folder / "test.json", rows)
    return rows


def mmrb2_pair(number: int, chosen: str, votes: list[int], second: str = "n") -> dict[str, Any]:
    def answer(model: str, side: str) -> dict[str, Any]:
        content = [["image", f"images/{number}_{side}.png"]]
        return {"model_name": model, "response_content": content}

    return {
        "id": str(number),
        "prompt_content": [["text", f"prompt {number}"]],
        "prompt_source": "wise",
        "prompt_metadata": {"id": number},
        "response_a": answer("m", "a"),
        "response_b": answer(second, "b"),
        "chosen": chosen,
        "human_annotations": votes,
    }


def mmrb2(folder: Path, pairs: list[dict[str, Any]]) -> None:
    write_json(folder / "t2i.json", {"pairs": pairs})


def tiger(folder: Path, votes: list[str]) -> None:
    """Parquet with the images inside, in row groups of two."""
    rows = [
        {
            "prompt": f"prompt {number}",
            "left_model": "m",
            "left_image": {"bytes": png(20 + number), "path": None},
            "right_model": "n",
            "right_image": {"bytes": png(120 + number), "path": None},
            "vote_type": vote,
        }
        for number, vote in enumerate(votes)
    ]
    path = folder / "image_generation/test_v1-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)


def mj_bench(folder: Path, labels: list[int]) -> None:
    """The list of a scenario, and one of its parts, which must not be counted twice."""
    rows = [
        {
            "id": f"pap_{number}",
            "source": "pick_a_pic",
            "caption": f"prompt {number}",
            "image0": f"{number}_0.png",
            "image1": f"{number}_1.png",
            "label": label,
        }
        for number, label in enumerate(labels)
    ]
    write_json(folder / "actions/actions_test.json", rows)
    write_json(folder / "actions/pap_actions_test.json", rows[:1])


def ranking(prompt: str, images: str, names: list[str], ranks: str, values: list[float]) -> dict:
    return {"id": prompt, "prompt": prompt, images: names, ranks: values}


def genai_bench_cmu(folder: Path, scores: dict[str, list[list[int]]]) -> None:
    """Prompt to the scores of its images, one by each model."""
    models = ("DALLE_3", "SDXL_Base", "SDXL_2_1")
    content = {
        f"{number:05d}": {
            "id": f"{number:05d}",
            "prompt": prompt,
            "models": dict(zip(models, rows, strict=False)),
        }
        for number, (prompt, rows) in enumerate(scores.items(), start=1)
    }
    write_json(folder / "genai_image.json", content)
