"""Named public sets: the settings that read their files as they are published.

Data, not code: each is what a user would write into params.yaml; what he writes himself lies over
it. Dimensions are those of the default rubric; another rubric names its own (``dimension``, or the
entries of ``columns.wide``). A set whose raters were asked which image they prefer, and no more,
names no dimension: the user must say which one it speaks for.
"""

from dataclasses import dataclass
from typing import Any

_STARS = {"min": 1, "max": 5, "higher_is_better": True}


@dataclass(frozen=True)
class Preset:
    """A public set."""

    reader: str
    """The format of its files."""
    title: str
    """What it is."""
    shape_from: str
    """Where the shape of its files is described or was read off."""
    settings: dict[str, Any]
    """Source settings."""


PRESETS: dict[str, Preset] = {
    "avt_ai_images": Preset(
        "csv",
        "AVT AI images: event log of a web study, 27 raters, three scales",
        "github.com/Telecommunication-Telemedia-Assessment/avt_ai_images, the file _ratings.csv",
        {
            "files": "**/_ratings.csv",
            "columns": {
                # ./stimuli/midjourney/p11.png lies as midjourney__p11.jpg among the images.
                "image": {
                    "column": "stimuli_file",
                    "pattern": r"^\./stimuli/([^/]+)/([^/]+)\.png$",
                    "to": r"\1__\2.jpg",
                },
                "generator": {
                    "column": "stimuli_file",
                    "pattern": r"^\./stimuli/([^/]+)/.*$",
                    "to": r"\1",
                },
                "annotator_id": "user_ID",
                "score": "rating",
                "submitted_at": "timestamp",
            },
            "dimension": {
                "column": "rating_type",
                "map": {
                    "range_image_appeal": "aesthetics",
                    "range_realism": "realism",
                    "range_prompt_matching": "alignment",
                    **dict.fromkeys(
                        (
                            "ww",
                            "wh",
                            "wz",
                            "pi",
                            "start_timestamp",
                            "quality_meta",
                            "user_registered",
                            "user_done",
                        )
                    ),
                },
            },
            "scale": _STARS,
        },
    ),
    "genai_bench": Preset(
        "genai_bench",
        "GenAI-Bench ratings: 527 prompts, 6 models, 3 raters",
        "see the reader genai_bench",
        {
            "files": "**/genai_image.json",
            "columns": {
                "prompt": "prompt",
                "image": "image",
                "generator": "model",
                "scores": "scores",
            },
            "dimension": "alignment",
            "scale": _STARS,
        },
    ),
    "geneval_mturk": Preset(
        "csv",
        "GenEval's study on Mechanical Turk: quality, and how real each object looks",
        "github.com/djghosh13/geneval, annotations/annotations_*.csv and mturk_hit_template.html",
        {
            "files": "**/annotations_*.csv",
            "columns": {
                "prompt": "Input.caption",
                "image": {
                    "column": "Input.image_url",
                    "pattern": r"^.*/images/([^/]+)/([^/]+)/samples/",
                    "to": r"\1/\2/samples/",
                },
                "generator": {
                    "column": "Input.image_url",
                    "pattern": r"^.*/images/([^/]+)/.*$",
                    "to": r"\1",
                },
                "seconds": "Answer.ee",
                "wide": [
                    {
                        "column": "Answer.task-quality",
                        "dimension": "aesthetics",
                        "scale": {"min": 1, "max": 4, "higher_is_better": True},
                    },
                    # Asked only where the rater saw the object: an empty cell lacks nothing.
                    *(
                        {
                            "column": f"Answer.task-real-{number}",
                            "dimension": "plausibility",
                            "scale": {"min": 1, "max": 3, "higher_is_better": True},
                            "optional": True,
                        }
                        for number in (0, 1)
                    ),
                ],
            },
        },
    ),
    "imagenhub": Preset(
        "imagenhub",
        "ImagenHub: 197 prompts, 7 models, 3 raters, SC and PQ",
        "see the reader imagenhub",
        {
            "files": "**/*rater*.tsv",
            "columns": {
                "image": "image",
                "generator": "model",
                "annotator_id": "rater",
                "wide": [
                    {"column": "sc", "dimension": "alignment"},
                    {"column": "pq", "dimension": "realism"},
                ],
            },
            "scale": {"min": 0, "max": 1, "higher_is_better": True},
        },
    ),
    "dsg_likert": Preset(
        "csv",
        "DSG's Likert ratings of TIFA-160: 160 prompts, 5 models, 5 raters",
        "github.com/j-min/DSG, tifa160-likert-anns.csv; prompts in tifa160-dev-anns.csv",
        {
            "files": "**/*likert-anns.csv",
            "columns": {
                "image": "item_id",
                "generator": "t2i_model",
                "annotator_id": "worker_id",
                "score": "answer",
            },
            "prompts": {
                "path": "tifa160-dev-anns.csv",
                "key": "item_id",
                "prompt": "text",
                "column": "source_id",
            },
            "dimension": "alignment",
            "scale": _STARS,
        },
    ),
    "agiqa3k": Preset(
        "csv",
        "AGIQA-3K: mean opinions with deviation of 2,982 images, no single ratings",
        "github.com/lcysyzxdxc/AGIQA-3k-Database, data.csv",
        {
            "files": "**/data.csv",
            "columns": {
                "prompt": "prompt",
                "image": "name",
                "generator": {"column": "name", "pattern": r"^([^_]+)_.*$", "to": r"\1"},
                "wide": [
                    {"mean": "mos_quality", "std": "std_quality", "dimension": "aesthetics"},
                    {"mean": "mos_align", "std": "std_align", "dimension": "alignment"},
                ],
            },
            "scale": {"min": 0, "max": 5, "higher_is_better": True},
        },
    ),
    "imagereward_db": Preset(
        "parquet",
        "ImageRewardDB: alignment and fidelity from 1 to 7 (rank and overall rating are left)",
        "huggingface.co/datasets/zai-org/ImageRewardDB, its loader and metadata-*.parquet",
        {
            "files": "**/metadata-*.parquet",
            "columns": {
                "prompt": "prompt",
                "image": "image_path",
                "wide": [
                    {"column": "image_text_alignment_rating", "dimension": "alignment"},
                    {"column": "fidelity_rating", "dimension": "plausibility"},
                ],
            },
            "scale": {"min": 1, "max": 7, "higher_is_better": True},
        },
    ),
    "evalmuse": Preset(
        "json",
        "EvalMuse-40K: alignment scores of several raters an image",
        "github.com/DYEvaLab/EvalMuse, process/process_train.py; train_list.json",
        {
            "files": "**/train_list.json",
            "columns": {
                "prompt": "prompt",
                "image": "img_path",
                "generator": {"column": "img_path", "pattern": "^([^/]+)/.*$", "to": r"\1"},
                "scores": "total_score",
            },
            "dimension": "alignment",
            "scale": _STARS,
        },
    ),
    "richhf": Preset(
        "parquet",
        "RichHF-18K: mean scores from 0 to 1, as a table (not the TFRecord files)",
        "github.com/google-research-datasets/richhf-18k (names; higher is better for all), "
        "huggingface.co/datasets/RAraghavarora/RichHumanFeedback (the table)",
        {
            "files": "**/*.parquet",
            "columns": {
                "prompt": "caption",
                "image": "filename",
                "wide": [
                    {"mean": "misalignment_score", "dimension": "alignment"},
                    {"mean": "artifact_score", "dimension": "plausibility"},
                    {"mean": "aesthetics_score", "dimension": "aesthetics"},
                ],
            },
            "scale": {"min": 0, "max": 1, "higher_is_better": True},
        },
    ),
    "hpdv3": Preset(
        "json",
        "HPDv3: the first image is always the preferred one",
        "huggingface.co/datasets/MizzenAI/HPDv3; github.com/opendilab/LightRFT, "
        "lightrft/datasets/hpdv3.py",
        {
            "columns": {
                "prompt": "prompt",
                "image_a": "path1",
                "image_b": "path2",
                "generator_a": "model1",
                "generator_b": "model2",
                "vote": {"value": "a"},
            },
        },
    ),
    "hpdv2": Preset(
        "json",
        "HPDv2, train.json: one choice of two images a record",
        "github.com/tgxs002/HPSv2, README.md, 'Human Preference Dataset v2'",
        {
            "files": "**/train.json",
            "columns": {
                "prompt": "prompt",
                "image_a": "file_path.0",
                "image_b": "file_path.1",
                "annotator_id": "user_hash",
                "vote": {"column": "human_preference.0", "map": {"1": "a", "0": "b"}},
            },
        },
    ),
    "hpdv2_test": Preset(
        "hpdv2_test",
        "HPDv2, test.json: rankings of several raters, as comparisons of two",
        "see the reader hpdv2_test",
        {
            "files": "**/test.json",
            "columns": {
                "prompt": "prompt",
                "image_a": "image_a",
                "image_b": "image_b",
                "annotator_id": "user_hash",
                "vote": {"column": "vote", "map": {"a": "a", "b": "b", "tie": "tie"}},
            },
        },
    ),
    "pick_a_pic": Preset(
        "parquet",
        "Pick-a-Pic (v1, v2): which of two images its user preferred",
        "huggingface.co/datasets/yuvalkirstain/pickapic_v2_no_images, dataset card",
        {
            "files": "**/*.parquet",
            "columns": {
                "prompt": "caption",
                "image_a": "image_0_uid",
                "image_b": "image_1_uid",
                "generator_a": "model_0",
                "generator_b": "model_1",
                "annotator_id": "user_id",
                "submitted_at": "created_at",
                "vote": {"column": "label_0", "map": {"1": "a", "0": "b", "0.5": "tie"}},
            },
            "only": {"column": "has_label", "words": [True]},
        },
    ),
    "genai_arena": Preset(
        "parquet",
        "GenAI-Arena votes on generated images: left, right, tie, both bad",
        "huggingface.co/datasets/TIGER-Lab/GenAI-Bench, dataset card; "
        "github.com/TIGER-AI-Lab/GenAI-Bench, inference.py",
        {
            "files": "**/*.parquet",
            "columns": {
                "prompt": "prompt",
                "generator_a": "left_model",
                "generator_b": "right_model",
                "vote": {
                    "column": "vote_type",
                    "map": {
                        "leftvote": "a",
                        "rightvote": "b",
                        "tievote": "tie",
                        "bothbad_vote": "both_bad",
                    },
                },
            },
        },
    ),
    "mmrb2": Preset(
        "json",
        "Multimodal RewardBench 2, text to image: the experts' choice",
        "github.com/facebookresearch/MMRB2, README.md, 'Data Format' (t2i.json)",
        {
            "files": "**/t2i.json",
            "records": "pairs",
            "columns": {
                "prompt": "prompt_content.0.1",
                "image_a": "response_a.response_content.0.1",
                "image_b": "response_b.response_content.0.1",
                "generator_a": "response_a.model",
                "generator_b": "response_b.model",
                "vote": {"column": "chosen", "map": {"A": "a", "B": "b"}},
            },
        },
    ),
}
"""Name, as ``format`` of a source, to the set."""
