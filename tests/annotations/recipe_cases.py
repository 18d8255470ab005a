"""Input files for the sources of docs/annotations.md, and what ingest returns for each."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd

Content = str | list | dict | Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """Input files of a source and what ingest returns for each."""

    files: dict[str, Content]
    """Path below data/drops to text, a JSON value, or a function that writes the file."""
    ratings: list[tuple[str | None, str, float]] = field(default_factory=list)
    """Annotator, dimension and score on the scale of the rubric."""
    comparisons: list[tuple[str | None, str, str]] = field(default_factory=list)
    """Annotator, dimension and vote."""
    opinions: list[tuple[str, float, float | None, float | None]] = field(default_factory=list)
    """Dimension, mean, standard deviation and number of ratings."""
    images: tuple[str, ...] = ()
    """Images below data/drops; if there are any, every judgement finds its own."""
    num_items: int = 1
    """Number of different items."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Ignored judgements by reason; none is quarantined."""


def workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["for internal use"])
    sheet = book.create_sheet("Ratings")
    for row in (["May"], [], ["Prompt", "File", "Rater", "Stars"], ["a cat", "x.png", 7, 4]):
        sheet.append(row)
    book.save(path)


def argilla_table(path: Path) -> None:
    row = {"prompt": "a cat", "image": "x.png", "fit.responses": [4, 5]}
    pd.DataFrame([{**row, "fit.responses.users": ["u1", "u2"]}]).to_parquet(path)


def answer(control: str, kind: str, value: Any, **more: Any) -> dict:
    return {"from_name": control, "to_name": "x", "type": kind, "value": {kind: value}, **more}


def task(data: dict, *result: dict, number: int = 1) -> dict:
    annotation = {"id": number, "completed_by": 1, "result": list(result)}
    return {"id": number, "data": data, "annotations": [annotation]}


SWAPPED = "text,first,second,side,swapped\na,x,y,left,FALSE\na,x,y,left,TRUE\na,x,y,right,TRUE\n"
ONE = {"prompt": "a cat", "image": "x.png"}
PAIR = {"caption": "a cat", "image_0": "x.png", "image_1": "y.png"}


def turk(answers: list) -> str:
    cell = json.dumps(answers).replace('"', '""')
    return f'WorkerId,Input.image_url,Answer.taskAnswers\nW1,https://h/x.png,"{cell}"\n'


LABEL_STUDIO = {
    "label_studio": Case(
        {
            "people.json": [
                task(ONE, answer("alignment", "choices", ["3.5"]), answer("realism", "rating", 4))
            ]
        },
        ratings=[("1", "alignment", 3.5), ("1", "realism", 4.0)],
        images=("images/x.png",),
    ),
    "own_names": Case(
        {
            "own_names.json": [
                task(
                    {"text": "a cat", "image_url": "https://h/x.png"},
                    answer("overall_quality", "number", 10),
                    answer("prompt_match", "choices", ["Good"]),
                    answer("comment", "textarea", ["nice"]),
                )
            ]
        },
        ratings=[("1", "aesthetics", 5.0), ("1", "alignment", 4.0)],
        ignored={"event": 1},
    ),
    "several_images": Case(
        {
            "several_images.json": [
                task(
                    {"prompt": "a cat", "pictures": ["a.png", "b.png"]},
                    answer("alignment", "rating", 5, item_index=0),
                    answer("alignment", "rating", 2, item_index=1),
                ),
                task(
                    {"prompt": "a dog", "images": [{"image": "c.png"}, {"image": "d.png"}]},
                    answer("realism_0", "choices", ["1.5"]),
                    answer("realism_1", "choices", ["3"]),
                    number=2,
                ),
            ]
        },
        ratings=[
            ("1", "alignment", 5.0),
            ("1", "alignment", 2.0),
            ("1", "realism", 1.5),
            ("1", "realism", 3.0),
        ],
        num_items=4,
    ),
    "two_images": Case(
        {
            "two_images.json": [
                task(
                    {"prompt": "a cat", "first_url": "a.png", "second_url": "b.png"},
                    answer("better", "choices", [word]),
                    number=number,
                )
                for number, word in enumerate(["First one", "Second one", "No difference"])
            ]
        },
        comparisons=[("1", "alignment", vote) for vote in ("a", "b", "tie")],
        num_items=2,
    ),
    "ranker": Case(
        {
            "ranker.json": [
                task(
                    {
                        "prompt": "a cat",
                        "items": [
                            {"id": "m0", "html": "<img src='/data/m0.png'>"},
                            {"id": "m1", "image": "/data/m1.png"},
                            {"id": "m2", "url": "/data/m2.png"},
                        ],
                    },
                    answer("order", "ranker", {"rank": ["m2", "m0", "m1"]}),
                )
            ]
        },
        comparisons=[("1", "alignment", "a")] * 3,
        num_items=3,
    ),
    "two_people": Case(
        {
            "exports/anna.json": [task(ONE, answer("alignment", "rating", 5))],
            "exports/ben.json": [task(ONE, answer("alignment", "rating", 2))],
        },
        ratings=[("anna", "alignment", 5.0), ("ben", "alignment", 2.0)],
    ),
}
TABLES = {
    "excel": Case(
        {"study.xlsx": workbook}, ratings=[("7", "alignment", 4.0)], images=("images/x.png",)
    ),
    "csv": Case(
        {
            "study.csv": "text;img;model;who;time;rating;aspect\n"
            "a cat;x.png;sdxl;ann;1 May 2026;Good;match\n"
            "a cat;x.png;sdxl;ann;1 May 2026;4,5;quality\n"
            "a cat;x.png;sdxl;ann;1 May 2026;nice;comment\n"
        },
        ratings=[("ann", "alignment", 4.0), ("ann", "aesthetics", 4.5)],
        images=("images/x.png",),
        ignored={"event": 1},
    ),
    "by_dimension": Case(
        {"by_dimension.csv": "text,img,who,match,artefacts,beauty\na cat,x.png,ann,4,0,\n"},
        ratings=[("ann", "alignment", 4.0), ("ann", "plausibility", 5.0)],
        ignored={"empty_result": 1},
    ),
    "by_rater": Case(
        {"by_rater.csv": "img,Anna,Ben\nx.png,4,2\n"},
        ratings=[("anna", "realism", 4.0), ("ben", "realism", 2.0)],
    ),
    "lists": Case(
        {"lists.csv": 'img,scores,raters\nx.png,"[4, 5]",ann|ben\n'},
        ratings=[("ann", "realism", 4.0), ("ben", "realism", 5.0)],
    ),
    "with_prompts": Case(
        {
            "prompts.csv": "id,text\n1,a cat\n2,a dog\n",
            "answers.csv": "prompt_id,img,who,stars,attention_check\n"
            "1,x.png,ann,4,passed\n2,x.png,ann,3,passed\n2,x.png,ben,1,failed\n",
        },
        ratings=[("ann", "alignment", 4.0), ("ann", "alignment", 3.0)],
        num_items=2,
        ignored={"skipped": 1},
    ),
    "files": Case(
        {"raters/anna.csv": "img,stars\nx.png,4\n", "raters/ben.csv": "img,stars\nx.png,2\n"},
        ratings=[("anna", "realism", 4.0), ("ben", "realism", 2.0)],
    ),
    "form": Case(
        {
            "form.csv": "Timestamp,Your name,Rate picture 1 [Looks real],"
            '"Rate picture 1 [Matches: ""a cat""]",Rate picture 2 [Looks real]\n'
            "2024/05/01,Ana,4 - Good,5 - Excellent,\n"
        },
        ratings=[("Ana", "realism", 4.0), ("Ana", "alignment", 5.0)],
        ignored={"empty_result": 1},
    ),
    "form_of_pairs": Case(
        {"pairs.csv": "Your name,Pair 1,Pair 2\nAna,Left,Same\n"},
        comparisons=[("Ana", "realism", "a"), ("Ana", "realism", "tie")],
        num_items=4,
    ),
    "votes": Case(
        {
            "votes.jsonl": "\n".join(
                json.dumps({**PAIR, "user_id": user, "label": label})
                for user, label in enumerate([1, 0.0, 0.5, "bad", "pass"])
            )
        },
        comparisons=[
            (str(user), "alignment", vote)
            for user, vote in enumerate(["a", "b", "tie", "both_bad"])
        ],
        images=("images/x.png", "images/y.png"),
        num_items=2,
        ignored={"skipped": 1},
    ),
    "winners": Case(
        {
            "winners.csv": "text,left,right,who,winner\n"
            "a cat,x.png,y.png,ann,y.png\na cat,y.png,x.png,ben,y.png\n"
            "a cat,x.png,y.png,carl,draw\n"
        },
        comparisons=[
            ("ann", "alignment", "b"),
            ("ben", "alignment", "a"),
            ("carl", "alignment", "tie"),
        ],
        num_items=2,
    ),
    "unswapped": Case(
        {"swapped.csv": SWAPPED},
        comparisons=[(None, "alignment", "a")],
        num_items=2,
        ignored={"skipped": 2},
    ),
    "swapped": Case(
        {"swapped.csv": SWAPPED},
        comparisons=[(None, "alignment", "b"), (None, "alignment", "a")],
        num_items=2,
        ignored={"skipped": 1},
    ),
    "toloka": Case(
        {
            "assignments.tsv": "INPUT:image\tINPUT:prompt\tOUTPUT:result\tGOLDEN:result\t"
            "ASSIGNMENT:worker_id\nx.png\ta cat\t4\t\tw1\nx.png\ta cat\t5\t1\tw2\n"
        },
        ratings=[("w1", "alignment", 4.0)],
        ignored={"skipped": 1},
    ),
    "ordered": Case(
        {"ordered.json": [{"text": "a", "who": "ann", "order": ["x", "y", "z"]}]},
        comparisons=[("ann", "alignment", "a")] * 3,
        num_items=3,
    ),
    "ranked": Case(
        {
            "ranked.json": [
                {"text": "a", "who": "ann", "files": ["x", "y", "z"], "ranks": [2, 1, 2]}
            ]
        },
        comparisons=[("ann", "alignment", vote) for vote in ("b", "tie", "a")],
        num_items=3,
    ),
    "rank_columns": Case(
        {"rank_columns.csv": "text,who,sdxl,flux\na,ann,1,2\nb,ann,2,1\n"},
        comparisons=[("ann", "alignment", "a"), ("ann", "alignment", "b")],
        num_items=4,
    ),
    "means": Case(
        {"means.csv": "text,img,mos,sd,n\na cat,x.png,50,10,20\n"},
        opinions=[("aesthetics", 3.0, 0.4, 20.0)],
    ),
    "means_by_dimension": Case(
        {"means_by_dimension.csv": "text,img,q,q_sd,z,z_sd\na cat,x.png,50,10,75,0.5\n"},
        opinions=[("aesthetics", 3.0, 0.4, None), ("alignment", 4.0, 0.5, None)],
    ),
    "histograms": Case(
        {"histograms.csv": "img,s1,s2,s3,s4,s5\nx.png,0,0,1,0,1\n"},
        opinions=[("realism", 4.0, None, 2.0)],
    ),
    "nested": Case(
        {
            "nested.json": {
                "data": {
                    "items": [
                        {
                            "meta": {"caption": "a cat", "files": ["x.png"]},
                            "user": {"id": 7},
                            "rating": 4,
                        }
                    ]
                }
            }
        },
        ratings=[("7", "alignment", 4.0)],
    ),
    "turk": Case(
        {"turk.csv": turk([{"fit": "5", "real": {"1": False, "4": True}}])},
        ratings=[("W1", "alignment", 5.0), ("W1", "realism", 4.0)],
    ),
    "turk_several": Case(
        {"turk_several.csv": turk([{"img": "x.png", "stars": 2}, {"img": "y.png", "stars": 3}])},
        ratings=[("W1", "alignment", 2.0), ("W1", "alignment", 3.0)],
        num_items=2,
    ),
    "argilla": Case(
        {
            "argilla.json": [
                {
                    "fields": ONE,
                    "responses": {
                        "alignment": [{"value": 4, "user_id": "u1"}, {"value": 5, "user_id": "u2"}],
                        "realism": [{"value": 2, "user_id": "u1"}],
                    },
                }
            ]
        },
        ratings=[("u1", "alignment", 4.0), ("u2", "alignment", 5.0), ("u1", "realism", 2.0)],
    ),
    "argilla_by_user": Case(
        {
            "argilla_by_user.json": [
                {
                    "fields": ONE,
                    "responses": [
                        {"user_id": "u1", "status": "submitted", "values": {"fit": {"value": 4}}},
                        {"user_id": "u2", "status": "discarded", "values": None},
                    ],
                },
                {"fields": ONE, "responses": []},
            ]
        },
        ratings=[("u1", "alignment", 4.0)],
        ignored={"skipped": 1, "empty_result": 1},
    ),
    "argilla_table": Case(
        {"argilla.parquet": argilla_table},
        ratings=[("u1", "alignment", 4.0), ("u2", "alignment", 5.0)],
    ),
}
PUBLIC_SETS = {
    "agiqa": Case(
        {
            "agiqa3k/data.csv": "name,prompt,mos_quality,std_quality,mos_align,std_align\n"
            "glide_0.jpg,a cat,2.5,0.5,5,0\n"
        },
        opinions=[("aesthetics", 3.0, 0.4, None), ("alignment", 5.0, 0.0, None)],
    ),
    "hpd": Case(
        {
            "hpdv2/train.json": [
                {
                    "prompt": "a cat",
                    "file_path": ["x.jpg", "y.jpg"],
                    "user_hash": "u1",
                    "human_preference": [0, 1],
                }
            ]
        },
        comparisons=[("u1", "alignment", "b")],
        num_items=2,
    ),
    "avt": Case(
        {
            "avt_ai_images/_ratings.csv": "user_ID,stimuli_file,rating_type,rating,timestamp\n"
            "3,./stimuli/glide/p1.png,range_realism,4,2022-12-02 10:00:00\n"
            "3,./stimuli/glide/p1.png,ww,1024,2022-12-02 10:00:00\n"
        },
        ratings=[("3", "realism", 4.0)],
        images=("avt_ai_images/images_512/glide__p1.jpg",),
        ignored={"event": 1},
    ),
}
CASES = {**LABEL_STUDIO, **TABLES, **PUBLIC_SETS}
