"""Time and memory of models of real size on one GPU of 80 GB: `python benchmarks/gpu.py`.

Weights are random and made on the device; nothing is downloaded. Every step is a process of its
own with a time limit, so that none can end the others, and its results are in the JSON file as soon
as it ends. A measurement that runs out of memory is recorded as such, and the step goes on; where a
step fails or exceeds its time, the measurements before are kept. All steps take at most eight
minutes. --tiny runs the same code with the smallest sizes, on a CPU too; its figures mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

BUDGET = 480.0
"""Seconds for all steps together."""
OUTPUT = Path(__file__).with_name("gpu.json")
GIB = 2**30
Result = dict[str, Any]


class Bench:
    """A device, its clock and its memory, and the results of a step.

    torch is imported here, not where steps are started.
    """

    def __init__(self, small: bool, output: Path) -> None:
        import torch

        self.torch, self.small = torch, small
        self.result: Result = {}
        self._output = output
        self.on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if self.on_gpu else "cpu")
        torch.manual_seed(0)

    def measure(self, name: str, run: Callable[[], Any], repeats: int = 3, warm: int = 1) -> Result:
        """Median seconds of a call, and the peak memory beyond what is held before it.

        The result is noted; it is an error if the memory is not enough.
        """
        try:
            found = self._measured(run, repeats, warm)
        except self.torch.OutOfMemoryError as error:
            found = {"error": str(error).splitlines()[0]}
        if self.on_gpu:
            self.torch.cuda.empty_cache()
        self.note(name, found)
        return found

    def note(self, name: str, value: Any) -> None:
        """Write all results of the step, with this one."""
        self.result[name] = value
        write(self.result, self._output)

    def _measured(self, run: Callable[[], Any], repeats: int, warm: int) -> Result:
        for _ in range(0 if self.small else warm):
            run()
        seconds = []
        self._wait()
        held = self.torch.cuda.memory_allocated() if self.on_gpu else 0
        if self.on_gpu:
            self.torch.cuda.reset_peak_memory_stats()
        for _ in range(1 if self.small else repeats):
            begun = time.perf_counter()
            run()
            self._wait()
            seconds.append(time.perf_counter() - begun)
        peak = self.torch.cuda.max_memory_allocated() if self.on_gpu else 0
        return {
            "seconds": round(median(seconds), 4),
            "held_gib": round(held / GIB, 2),
            "peak_gib": round((peak - held) / GIB, 2),
        }

    def _wait(self) -> None:
        if self.on_gpu:
            self.torch.cuda.synchronize()


def write(result: Result, output: Path) -> None:
    """Write a JSON file, atomically."""
    partial = output.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(output)


def score(bench: Bench) -> None:
    """score() of a 9B student beside the forward of the same batch alone."""
    from benchmarks.gpu_models import PROMPT, backbone, images
    from zreward_core.models.scorer import RewardModel

    model = RewardModel(backbone("9B", bench.device, bench.small))
    own = model.backbone
    for size in (1, 2) if bench.small else (1, 4, 16):
        seen = images(size, bench.small)
        pixels = [own.pixels.prepare(image) for image in seen]
        rows = [own.prefix(PROMPT, one) + own.chat.lines for one in pixels]
        values, grid = own.pixels.patches(pixels)
        inputs = (*own.collate(rows), values.to(bench.device), grid.to(bench.device))

        def bare(inputs: tuple = inputs, size: int = size) -> None:
            with bench.torch.no_grad():
                own.network(*inputs, range(size), len(own.chat.lines))

        def whole(size: int = size, seen: list = seen) -> None:
            model.score([PROMPT] * size, seen)

        found = bench.measure(f"score_{size}", whole), bench.measure(f"bare_{size}", bare)
        if all("seconds" in one for one in found):
            share = found[1]["seconds"] / found[0]["seconds"]
            bench.note(f"share_of_bare_{size}", round(share, 3))


def score_without_fla(bench: Bench) -> None:
    """The same without the kernels of flash-linear-attention."""
    score(bench)


def reward(bench: Bench) -> None:
    """reward() of a 9B student, forward and backward, plain and with activations recomputed."""
    from benchmarks.gpu_models import PROMPT, backbone
    from zreward_core.models.scorer import RewardModel

    model = RewardModel(backbone("9B", bench.device, bench.small))
    side = 64 if bench.small else 1024
    pixels = bench.torch.rand(1, 3, side, side, device=bench.device, requires_grad=True)

    def step() -> None:
        model.reward([PROMPT], pixels).sum().backward()

    bench.measure("plain", step)
    model.backbone.recompute_activations()
    bench.measure("recomputed", step)


def risd(bench: Bench) -> None:
    """A training step of RISD with LoRA on a 9B student: four images, recomputed activations."""
    from benchmarks.gpu_models import PROMPT, backbone, images
    from zreward_core.losses.risd import risd_loss
    from zreward_core.models.backbone import LoraSettings
    from zreward_core.training.one_token import one_token_loss
    from zreward_core.training.samplers import Labelled
    from zreward_core.training.updates import update

    torch = bench.torch
    model = backbone("9B", bench.device, bench.small)
    model.train_mode(LoraSettings(rank=64, alpha=128), gradient_checkpointing=True)
    optimizer = torch.optim.AdamW(model.trainable(), lr=1e-4)
    pixels = [model.pixels.prepare(image) for image in images(4, bench.small)]
    probs = torch.full((4, 4, 5), 0.2)
    data = Labelled([PROMPT] * 4, pixels, probs, torch.ones(4, 4, dtype=torch.bool))
    every = list(range(4))

    def step() -> None:
        part = one_token_loss(model, data, risd_loss, 0.1, every, every)
        update("the step", model, [optimizer], [part], 1.0)

    bench.measure("step", step)


def gdso(bench: Bench) -> None:
    """A GDSO step on a 4B teacher: one pair, two sides of eight traces.

    The update is measured as it is, and plain: all logits at once, prefixes not shared.
    """
    import numpy as np

    from benchmarks.gpu_models import PROMPT, backbone, images
    from zreward_core.models import score_decoder, shared_prefix
    from zreward_core.models.backbone import LoraSettings
    from zreward_core.stages import train_gdso
    from zreward_core.training.rollouts import roll_out
    from zreward_core.training.samplers import PairBatch
    from zreward_core.training.updates import update

    torch = bench.torch
    group = 2 if bench.small else 8
    config = train_gdso.Config(
        seed=0, pairs_per_step=1, group_size=group, micro_batch_pairs=1, beta=0.001
    )
    model = backbone("4B", bench.device, bench.small)
    length = 8 if bench.small else 512
    model.prompt = model.prompt.model_copy(update={"max_trace_tokens": length})
    model.train_mode(LoraSettings(rank=64, alpha=128), gradient_checkpointing=True)
    optimizer = torch.optim.AdamW(model.trainable(), lr=1e-5)
    pixels = [model.pixels.prepare(image) for image in images(2, bench.small)]
    scores = torch.tensor([[4.0, 2.0]])
    histograms = np.stack([model.rubric.histogram([value]) for value in (4.0, 2.0)])
    target = torch.from_numpy(histograms).float()[None]
    pairs = PairBatch([PROMPT] * 2, pixels, [1, 1], scores, target, torch.zeros(1).bool())
    found: list[Any] = []

    def sample() -> None:
        found[:] = [roll_out(model, *pairs.inputs, group, 1.0, np.random.default_rng(0))]

    taken = bench.measure("sampling", sample, repeats=1, warm=0)
    if not found:
        return  # there are no traces to learn from
    lengths = [len(trace) for trace in found[0].tokens]
    bench.note("tokens_per_second", sum(lengths) / taken["seconds"])
    bench.note("mean_trace", sum(lengths) / len(lengths))
    batch, _ = train_gdso.reward(model, config, pairs, found[0])
    reference = model.snapshot()

    def step() -> None:
        part = train_gdso.objective(model, config, batch, range(1), reference)
        update("the step", model, [optimizer], [part], 1.0)

    bench.measure("update", step)
    score_decoder.CHUNK_LOGITS, shared_prefix.MIN_TOKENS = 2**62, 2**62
    bench.measure("update_plain", step)


def tuning(bench: Bench) -> None:
    """A tuning step of Z-Image 6B at 1024 x 1024 pixels through a 4B student."""
    from benchmarks.gpu_models import PROMPT, backbone, generator
    from zreward_core.diffusion.tuning import open_weights, recompute_activations
    from zreward_core.models.scorer import RewardModel
    from zreward_core.offloading import park
    from zreward_core.stages._tuning import Config, train_step

    side = 64 if bench.small else 1024
    config = Config(
        seed=0,
        batch_size=1,
        num_steps=3 if bench.small else 8,
        gradient_steps=2 if bench.small else 3,
        guidance_scale=4.0,
        size=(side, side),
        dtype="bfloat16",
    )
    made = generator(bench.device, bench.small)
    park(made.text_encoders, bench.device)
    student = RewardModel(backbone("4B", bench.device, bench.small))
    weights, frozen = open_weights(made, 2 if bench.small else 64, 128, 0)
    recompute_activations(made)
    student.backbone.recompute_activations()
    optimizer = bench.torch.optim.AdamW(weights.values(), lr=1e-4)

    def step() -> None:
        train_step(config, 0, made, student, None, frozen, weights, optimizer, [PROMPT])

    bench.measure("step", step, repeats=1)


def sampling_27b(bench: Bench) -> None:
    """Traces of a 27B teacher: two images, four dimensions, one trace of each."""
    from benchmarks.gpu_models import PROMPT, backbone, images
    from zreward_core.models.rollouts import sample_rollouts

    begun = time.perf_counter()
    model = backbone("27B", bench.device, bench.small)
    bench.note("seconds_to_make", round(time.perf_counter() - begun, 1))
    pixels = [model.pixels.prepare(image) for image in images(2, bench.small)]
    queries = [(image, dimension) for image in range(2) for dimension in range(4)]
    length = 8 if bench.small else 128
    found: list[Any] = []

    def sample() -> None:
        seeds = range(len(queries))
        found[:] = [sample_rollouts(model, [PROMPT] * 2, pixels, queries, 1, length, seeds)]

    taken = bench.measure("sampling", sample, repeats=1, warm=0)
    if found:
        tokens = sum(len(trace) for trace in found[0].tokens)
        bench.note("tokens_per_second", tokens / taken["seconds"])


STEPS: dict[str, tuple[Callable[[Bench], None], float]] = {
    "score": (score, 60),
    "sampling_27b": (sampling_27b, 90),
    "reward": (reward, 50),
    "risd": (risd, 50),
    "gdso": (gdso, 95),
    "tuning": (tuning, 85),
    "score_without_fla": (score_without_fla, 50),
}
"""Steps by name, with seconds of ``BUDGET``; what a step leaves is shared by those after it."""


def run_step(name: str, small: bool, output: Path) -> None:
    """Run one step in this process and write its results after each measurement."""
    import importlib.util

    with_fla = importlib.util.find_spec("fla") is not None
    if name == "score_without_fla":
        if not with_fla:
            write({"skipped": "flash-linear-attention is not installed: as `score`"}, output)
            return
        sys.modules["fla"] = None  # type: ignore[assignment]  # transformers then does without it
    bench = Bench(small, output)
    bench.note("fla", with_fla and name != "score_without_fla")
    STEPS[name][0](bench)


def start_step(name: str, small: bool, limit: float) -> Result:
    """Run one step in a process of its own, for ``limit`` seconds at most."""
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "step.json"
        command = [sys.executable, __file__, "--step", name, "--output", str(output)]
        begun = time.monotonic()
        try:
            done = subprocess.run(
                [*command, *(["--tiny"] if small else [])],
                capture_output=True,
                text=True,
                timeout=limit,
                cwd=root,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            failed = {"error": f"not finished after {limit:.0f} s"}
        else:
            told = "\n".join(done.stderr.strip().splitlines()[-3:])
            failed = {"error": told or f"exit code {done.returncode}"} if done.returncode else {}
        taken = {"wall_seconds": round(time.monotonic() - begun, 1)}
        found = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    return taken | found | failed


def machine() -> Result:
    """The card and the versions of the libraries."""
    import torch
    import transformers

    card = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "device": card.name if card else "CPU",
        "memory_gib": round(card.total_memory / GIB, 1) if card else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def run_all(names: list[str], small: bool, output: Path, budget: float = BUDGET) -> Result:
    """Run steps one after another and write their results after each."""
    end = time.monotonic() + budget
    results: Result = {**machine(), "tiny": small, "steps": {}}
    for index, name in enumerate(names):
        shares = [STEPS[one][1] for one in names[index:]]
        limit = max(0.0, end - time.monotonic()) * shares[0] / sum(shares)
        results["steps"][name] = start_step(name, small, limit)
        print(name, json.dumps(results["steps"][name]), flush=True)
        write(results, output)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes")
    parser.add_argument("--step", choices=list(STEPS), help="one step, in this process")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.tiny, options.output)
    else:
        run_all(list(STEPS), options.tiny, options.output)


if __name__ == "__main__":
    main()
