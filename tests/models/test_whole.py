"""Model folders that are not whole: weights, card, tokenizer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from tests.models.conftest import PROMPT
from tests.tiny_models import build_family
from zreward_core import RewardModel
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.card import CARD
from zreward_core.models.loading import load_backbone, load_chat
from zreward_core.rubric import Rubric
from zreward_core.weights import require_float_weights

EMBEDDING = "model.language_model.embed_tokens.weight"
Weights = dict[str, torch.Tensor]


@pytest.fixture
def folder(backbone: Backbone, tmp_path: Path) -> Path:
    backbone.save(tmp_path / "model", {})
    return tmp_path / "model"


def change(folder: Path, changed: Callable[[Weights], Weights]) -> None:
    """Rewrite the weights of a model folder."""
    path = folder / "model.safetensors"
    save_file(changed(load_file(path)), path, {"format": "pt"})


def first_layer(weights: Weights) -> str:
    return next(name for name in sorted(weights) if name.endswith("mlp.up_proj.weight"))


def without(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if name != first_layer(weights)}


def with_more(weights: Weights) -> Weights:
    return {**weights, "model.language_model.layers.0.adapter.weight": torch.zeros(2)}


def misshaped(weights: Weights) -> Weights:
    return {**weights, first_layer(weights): torch.zeros(3, 3)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (without, r"it lacks model.*mlp\.up_proj\.weight \(1 in all\)"),
        (with_more, r"has, unlike the model, .*adapter"),
        (misshaped, r"another shape.*mlp\.up_proj\.weight \[3, 3\] \(not \["),
    ],
)
def test_weights_that_are_not_those_of_the_model_are_refused(
    folder: Path, changed: Callable[[Weights], Weights], message: str
) -> None:
    change(folder, changed)
    with pytest.raises(UserError, match=rf"{folder} is not whole: .*{message}"):
        load_backbone(folder)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.float8_e4m3fn])
def test_a_weight_that_is_no_floating_point_number_is_refused(
    folder: Path, dtype: torch.dtype
) -> None:
    change(folder, lambda weights: {**weights, EMBEDDING: weights[EMBEDDING].to(dtype)})
    with pytest.raises(UserError, match=rf"{folder}/model.safetensors: .*embed_tokens.*stored as"):
        load_backbone(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_any_precision_are_loaded(folder: Path, dtype: torch.dtype) -> None:
    change(folder, lambda weights: {name: value.to(dtype) for name, value in weights.items()})
    assert next(load_backbone(folder).network.parameters()).dtype == torch.float32


def test_buffers_of_integers_may_be_stored(tmp_path: Path) -> None:
    network = torch.nn.BatchNorm1d(2)
    stored = network.state_dict()
    save_file(stored, tmp_path / "model.safetensors")
    assert not stored["num_batches_tracked"].is_floating_point()
    require_float_weights(network, tmp_path, tmp_path / "absent")
    save_file(stored | {"weight": torch.zeros(2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="the weight weight is stored as I8, not as one of F64, F3"):
        require_float_weights(network, tmp_path)


@pytest.mark.parametrize("load", [load_backbone, load_chat])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("patch_size", 7, "patch_size is 7, but 4 in vision_config"),
        ("merge_size", 4, "merge_size is 4, but 2 in vision_config"),
        ("temporal_patch_size", 1, "temporal_patch_size is 1, but 2 in vision_config"),
        ("image_std", [0.5, 0, 0.5], r"image_std is \[0.5, 0.0, 0.5\]"),
        ("image_std", [-1, 1, 1], r"image_std is \[-1"),
        ("image_mean", [float("nan")] * 3, r"image_mean is \[nan"),
        ("size", {"shortest_edge": 0, "longest_edge": 1280}, "size is {'longest_edge': 1280"),
        ("size", {"shortest_edge": 2048, "longest_edge": 1280}, "size is {'longest_edge': 1280"),
    ],
)
def test_a_processor_of_another_model_is_refused(
    folder: Path, key: str, value: Any, message: str, load: Callable[[Path], object]
) -> None:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=rf"{folder} does not fit the model: .*{message}"):
        load(folder)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("text_config", "num_attention_heads", 0),
        ("text_config", "num_attention_heads", "two"),
        ("vision_config", "num_heads", 0),
        ("vision_config", "num_heads", 7),
        ("text_config", "rope_parameters", {"rope_type": "default", "partial_rotary_factor": 7}),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused_when_a_model_is_opened(
    folder: Path, part: str, key: str, value: Any
) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if isinstance(value, dict):
        value = config[part][key] | value
    config[part][key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"{folder} is not a readable checkpoint \("):
        RewardModel.from_pretrained(folder, "cpu")


def test_a_torn_file_of_weights_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_backbone(folder)


MALFORMED = (b"", b"null", b"[]", b"5", b'"x"', b"{", b"\xff\xfe\0", b"[" * 100_000, b"{{ raise")


@pytest.mark.parametrize("load", [load_backbone, load_chat])
def test_a_malformed_file_of_a_checkpoint_is_refused(
    folder: Path, load: Callable[[Path], object]
) -> None:
    """``generation_config.json`` is not used; transformers takes its defaults if it is absent."""
    (folder / "generation_config.json").unlink()
    for path in sorted(set(folder.iterdir()) - {folder / "model.safetensors"}):
        kept = path.read_bytes()
        for content in MALFORMED:
            path.write_bytes(content)
            with pytest.raises(UserError):
                load(folder)
        path.write_bytes(kept)
    load(folder)


@pytest.mark.parametrize("model_type", ["qwen3_5", "qwen3_5_moe"])
def test_heads_for_multi_token_prediction_are_left_out(
    model_type: str, rubric: Rubric, tmp_path: Path
) -> None:
    build_family(model_type, ["a red circle"], rubric, PROMPT).save(tmp_path / "model", {})
    change(tmp_path / "model", lambda weights: {**weights, "mtp.fc.weight": torch.zeros(2)})
    load_backbone(tmp_path / "model")


def test_tied_weights_are_not_missing(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config))
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = load_backbone(folder).network.model
    assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rubric_sha256", "0" * 64),
        ("levels", [1.0, 2.0, 3.0, 5.0]),
        ("dimensions", ["alignment", "charm", "realism"]),
        ("label_ids", [5, 6, 7, 8]),
        ("rubric", {"name": "no rubric"}),
    ],
)
def test_a_card_that_contradicts_itself_or_the_tokenizer_is_refused(
    folder: Path, key: str, value: Any
) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {key: value}))
    with pytest.raises(UserError, match=rf"zreward.json.*{key}"):
        load_backbone(folder)


def test_a_changed_rubric_is_noticed_by_its_hash(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    card["rubric"]["dimensions"][0]["question"] = "another question"
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(UserError, match="rubric_sha256"):
        load_backbone(folder)


def test_a_hub_pointer_is_checked_as_well(folder: Path, tmp_path: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    pointer = tmp_path / "pointer"
    pointer.mkdir()
    content = card | {"hub_id": str(folder), "revision": "main", "label_ids": None}
    (pointer / CARD).write_text(json.dumps(content))
    load_backbone(pointer)
    change(folder, without)
    with pytest.raises(UserError, match="is not whole: it lacks"):
        load_backbone(pointer)


def test_what_is_refused_would_be_random(folder: Path) -> None:
    """The library fills in a missing weight with random numbers: the reason for the check."""
    shutil.copytree(folder, folder.with_name("whole"))
    change(folder, without)
    name = first_layer(load_file(folder.with_name("whole") / "model.safetensors"))
    two = [AutoModelForImageTextToText.from_pretrained(folder).state_dict()[name] for _ in range(2)]
    assert not torch.equal(*two)
