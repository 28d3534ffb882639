"""Every node on cards that hold shapes alone: no operation meets tensors of two devices, whatever lies where.

What a GPU refuses, these refuse; see tests/shape_only. The numbers are held to on the CPU, by other tests. With all on
one card, most methods and every form of finetuning are run by test_device_waits.py, which watches their steps as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from shape_only import nodes
from shape_only.card import CPU
from shape_only.host import CARD, SECOND_CARD, Models, Places, placed, pretended_cards

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., None]

EVERYTHING = {"augmentation": 1, "gradient_checkpointing": True, "gradient_accumulation": 2, "max_gradient_norm": 1.0}
TRAININGS: dict[str, tuple[Run, dict[str, Any]]] = {
    "embedding: CoRe": (nodes.train_embedding, {"method": "CoRe"}),
    "embedding: CoRe (reference code)": (nodes.train_embedding, {"method": "CoRe (reference code)"}),
    "embedding: everything on": (
        nodes.train_embedding,
        {**EVERYTHING, "weighting": "balanced", "save_every": 1, "masks": nodes.masks()},
    ),
    **{f"finetuning: {form}": (nodes.finetune, {"form": form}) for form in ("full weights", "LoRA")},
    "finetuning: whole U-Net": (nodes.finetune, {"form": "full weights", "scope": "whole U-Net", "save": "LoRA"}),
    "finetuning: everything on": (nodes.finetune, nodes.EVERYTHING),
    "test-time optimization": (nodes.refine, {"weighting": "balanced", "trust_limit": 0.1}),
}
OTHER_NODES: dict[str, Run] = {"attention probe and maps": nodes.probe, "context similarity": nodes.compare_contexts}
PLACES = {
    "one card": Places(),
    "text encoder on the CPU": Places(text_encoder=CPU),
    "text encoder and VAE on another card": Places(text_encoder=SECOND_CARD, vae=SECOND_CARD),
}
ELSEWHERE = ("text encoder on the CPU", "text encoder and VAE on another card")
ON_ONE_CARD = (
    "embedding: CoRe (reference code)",
    "embedding: everything on",
    "finetuning: whole U-Net",
    "test-time optimization",
)
ANYWHERE = ("embedding: CoRe", "finetuning: full weights", "finetuning: everything on", "test-time optimization")


@pytest.fixture(scope="module")
def sd1(embeddings: Path) -> Models:
    return nodes.load("sd1", embeddings)


@pytest.fixture(scope="module")
def sdxl(embeddings: Path) -> Models:
    return nodes.load("sdxl", embeddings)


@pytest.fixture(scope="module", autouse=True)
def quick_collections(sd1: Models) -> Iterator[None]:
    with nodes.quick_collections():
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the last preview: it is the same for all, and a good part of so short a training."""
    from core_personalization.nodes.training.concept_preview import ConceptPreview

    monkeypatch.setattr(ConceptPreview, "draw", lambda *_: torch.zeros(1, 8, 8, 3))


def run_on(models: Models, places: Places, run: Run, **given: Any) -> None:
    with pretended_cards(ROOT):
        run(placed(models, places), **given)


@pytest.mark.parametrize("name", ON_ONE_CARD)
def test_everything_trains_on_one_card(sd1, undrawn, name):
    run, given = TRAININGS[name]
    run_on(sd1, Places(), run, **given)


@pytest.mark.parametrize("places", ELSEWHERE)
@pytest.mark.parametrize("name", ANYWHERE)
def test_it_trains_with_text_encoder_and_vae_elsewhere(sd1, undrawn, name, places):
    run, given = TRAININGS[name]
    run_on(sd1, PLACES[places], run, **given)


@pytest.mark.parametrize(
    ("run", "masks"),
    [(nodes.train_embedding, CARD), (nodes.finetune, CPU)],
    ids=["embedding, masks on the card", "finetuning, masks on the CPU"],
)
def test_pictures_may_be_on_the_card_already(sd1, undrawn, run, masks):
    with pretended_cards(ROOT):
        given = {"images": nodes.pictures(CARD), "masks": nodes.masks(masks), "augmentation": 1}
        run(placed(sd1, Places()), **given)


def test_test_time_pictures_may_be_on_the_card_already(sd1):
    with pretended_cards(ROOT):
        nodes.refine(placed(sd1, Places()), images=nodes.pictures(CARD)[0])


@pytest.mark.parametrize(("name", "precision"), [("finetuning: full weights", "fp16"), ("finetuning: LoRA", "bf16")])
def test_it_trains_in_half_precision(sd1, undrawn, name, precision):
    run, given = TRAININGS[name]
    run_on(sd1, Places(), run, **given, precision=precision)


def test_sdxl_trains_with_its_text_encoders_on_another_card(sdxl, undrawn):
    run, given = TRAININGS["embedding: CoRe"]
    run_on(sdxl, PLACES["text encoder and VAE on another card"], run, **given)


@pytest.mark.parametrize("places", PLACES)
def test_previews_are_drawn_wherever_the_parts_are(sd1, places):
    run_on(sd1, PLACES[places], nodes.train_embedding, method="Textual Inversion", preview_every=1)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("name", OTHER_NODES)
def test_other_nodes_run_wherever_the_parts_are(sd1, name, places):
    run_on(sd1, PLACES[places], OTHER_NODES[name])


def test_a_models_own_patches_come_to_the_card(sd1, undrawn):
    with pretended_cards(ROOT):
        model, clip, vae = placed(sd1, Places())
        name, weight = next((n, w) for n, w in model.model.state_dict().items() if n.endswith("attn2.to_q.weight"))
        model.add_patches({name: ("diff", (torch.zeros_like(weight),))})
        nodes.finetune((model, clip, vae), form="LoRA")


def test_nothing_of_the_cards_is_left_after_them(sd1, undrawn):
    import comfy.model_management as management

    before = torch.cuda.is_available(), management.get_torch_device(), list(management.current_loaded_models)
    run_on(sd1, Places(), nodes.finetune, form="LoRA")
    assert before == (torch.cuda.is_available(), management.get_torch_device(), management.current_loaded_models)
    weights = [
        *sd1[0].model.parameters(),
        *sd1[1].cond_stage_model.parameters(),
        *sd1[2].first_stage_model.parameters(),
    ]
    assert {(type(weight.data), weight.device.type) for weight in weights} == {(torch.Tensor, "cpu")}
