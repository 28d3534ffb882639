"""For what the host waits in one step, in which the card may run dry; the pretended card tells of each."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from fake_gpu import events
from families.embedding import embedding_run
from families.finetuning import finetune_run
from preparation.by_place import ROOT

pytestmark = pytest.mark.skipif(not events.is_pretended(), reason="a real card does not tell of waits")

BATCH = {"core_ops/training/training_data.py: noised_batch": 4}
"""Drawn on the CPU, so that a seed means the same on every device: pictures, times, noise and rows."""

TERMS = {"core_ops/training/training_loop.py: _accumulate": 1}
"""The curves, and whether they are finite: all terms at once."""

TOKENS = "nodes/host/models/text_encoder.py: _hidden"
"""Ids and vectors of prompts: the host's own encoder, which reads lists."""

NORM = {"core_ops/training/embedding_problem.py: mean_norm": 1}
SCALE = {"core_ops/training/training_loop.py: _differentiate": 1}
"""fp16's scale, as torch's GradScaler gives it."""

EMBEDDING = BATCH | TERMS | NORM
NEEDED = {
    "CoRe": ({"method": "CoRe"}, EMBEDDING | {TOKENS: 9}),
    "CoRe (reference code)": ({"method": "CoRe (reference code)"}, EMBEDDING | {TOKENS: 9}),
    "AttnDreamBooth": ({"method": "AttnDreamBooth stage 1"}, EMBEDDING | {TOKENS: 4, "core_ops/terms.py: losses": 1}),
    "Textual Inversion": ({"method": "Textual Inversion"}, EMBEDDING | {TOKENS: 4}),
    "CoRe in fp16": ({"method": "CoRe", "precision": "fp16"}, EMBEDDING | {TOKENS: 9} | SCALE),
    "full weights": ({"form": "full weights"}, BATCH | TERMS),
    "LoRA": ({"form": "LoRA"}, BATCH | TERMS),
    "DoRA": ({"form": "DoRA"}, BATCH | TERMS),
    "T-LoRA": ({"form": "T-LoRA"}, BATCH | TERMS),
    "LoHa": ({"form": "LoHa"}, BATCH | TERMS),
    "LoKr": ({"form": "LoKr"}, BATCH | TERMS),
    "singular values": ({"form": "singular values"}, BATCH | TERMS),
    # ComfyUI's adapter asks each layer whether its rotation is small enough.
    "OFT": ({"form": "OFT"}, BATCH | TERMS | {"nodes/host/models/denoiser.py: _forward": 16}),
    # What is updated within the backward pass cannot be taken back: it must be finite before.
    "fused": (
        {"form": "full weights", "fused_backward": True, "precision": "bf16"},
        BATCH | TERMS | {"core_ops/training/training_loop.py: <dictcomp>": 1},
    ),
    "full weights in fp16": ({"form": "full weights", "precision": "fp16"}, BATCH | TERMS | SCALE),
    "U-Net and text encoder": ({"form": "LoRA", "train_text_encoder": True}, BATCH | TERMS | {TOKENS: 4}),
    "U-Net and embedding": ({"form": "LoRA", "train_embedding": True}, BATCH | TERMS | NORM | {TOKENS: 4}),
}


def stopped_before_its_first_step(models, settings):
    if "form" in settings:
        return finetune_run(models, steps=4, scope="cross-attention layers", **settings)
    return embedding_run(models, steps=4, **settings)


def waits_of_one_step(run) -> dict[str, int]:
    """By place in our code, of a step in which nothing is measured."""
    from core_personalization.nodes.host.models.module_copy import autograd_mode

    with torch.inference_mode(), autograd_mode():
        loop = iter(run.loop)
        for _ in range(2):
            next(loop)
        with events.watching(ROOT) as found:
            next(loop)
    places: Counter[str] = Counter()
    for event, times in found.items():
        if event.waits:
            places[event.place] += times
    return dict(places)


def more_than_needed(found: dict[str, int], needed: dict[str, int]) -> dict[str, int]:
    return {place: times for place, times in found.items() if times > needed.get(place, 0)}


@pytest.mark.parametrize("case", list(NEEDED))
def test_a_step_waits_only_where_it_must(models, case):
    settings, needed = NEEDED[case]
    found = waits_of_one_step(stopped_before_its_first_step(models, settings))
    assert found.keys() & TERMS.keys(), "nothing was seen"
    assert not more_than_needed(found, needed)


@pytest.mark.parametrize("settings", [{"method": "CoRe"}, {"form": "LoRA"}], ids=["embedding", "LoRA"])
def test_sdxls_sizes_are_not_sent_in_every_step(sdxl, settings):
    found = waits_of_one_step(stopped_before_its_first_step(sdxl, {"precision": "bf16", **settings}))
    needed = EMBEDDING | {TOKENS: 18} if "method" in settings else BATCH | TERMS
    assert not more_than_needed(found, needed)
