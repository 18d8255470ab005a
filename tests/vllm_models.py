"""Tiny models that vLLM runs on a CPU, and what its CPU build needs to start."""

from pathlib import Path
from typing import Any

from tests.tiny_models import build_family
from zreward_core.models.backbone import Backbone
from zreward_core.models.prompts import PromptSettings
from zreward_core.rubric import Dimension, Rubric

PROMPT = PromptSettings(
    system="rate {labels}",
    question="{name}",
    score="score ",
    line="{name} ",
    mark="? ",
    max_trace_tokens=6,
)
NAMES = ("alignment", "realism")
RUBRIC = Rubric(
    name="r",
    levels=[1, 2, 3],
    labels=["1", "2", "3"],
    dimensions=[Dimension(name=name, title=name, question=name, levels={}) for name in NAMES],
)
WORDS = ["red circle", "blue star", "top left"]
_HEADS = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64}
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_interleaved": True}
TEXT: dict[str, dict[str, Any]] = {
    "qwen3_vl": _HEADS | {"rope_parameters": _ROPE | {"mrope_section": [12, 10, 10]}},
    "qwen3_5": _HEADS
    | {"linear_key_head_dim": 64, "linear_value_head_dim": 64, "linear_num_value_heads": 2}
    | {"rope_parameters": _ROPE | {"partial_rotary_factor": 0.5, "mrope_section": [6, 5, 5]}},
}
"""vLLM's kernels on a CPU need heads of 64."""
ARGUMENTS = [
    *("--enforce-eager", "--skip-mm-profiling", "--max-model-len", "256"),
    *("--max-num-batched-tokens", "512", "--no-enable-chunked-prefill", "--max-num-seqs", "16"),
]
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
SHIM = '''
import sys


class BeforeTorchvision:
    """Declares operators whose library does not load beside the CPU build of torch."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{operator}", schema)
        return None


sys.meta_path.insert(0, BeforeTorchvision())
'''


def tiny(model_type: str) -> Backbone:
    """A tiny model of a family."""
    vision = {"hidden_size": 64, "num_heads": 2, "out_hidden_size": 64}
    return build_family(model_type, WORDS, RUBRIC, PROMPT, TEXT[model_type], vision)


def environment(folder: Path) -> dict[str, str]:
    """Environment variables of a server; a start-up file is written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SHIM)
    return ENVIRONMENT | {"PYTHONPATH": str(folder.resolve())}
