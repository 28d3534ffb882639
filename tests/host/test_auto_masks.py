"""The templates' switch for masks: off, the folder's own are trained; on, these and what core finds in front."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from families.embedding import embedding_run
from preparation.by_place import ROOT

FOLDER = ROOT / "example_workflows"
WITH_A_SWITCH = (
    "Train my dog - word and LoRA",
    "Train SDXL - word and LoRA",
    "Train with captions - say everything but the dog",
)
TRAININGS = ("CoReTrainEmbedding", "CoReUNetIdentityFinetune")
BYPASSED, SWITCH = 4, "Auto masks (Ctrl+B)"


def sent(server: Any, name: str, switched_on: bool) -> dict[str, Any]:
    """What the server gets when the user clicks Run."""
    graph = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    (switch,) = (node for node in graph["nodes"] if node.get("title") == SWITCH)
    assert switch["mode"] == BYPASSED
    switch["mode"] = 0 if switched_on else BYPASSED
    return server.client.convert(graph)


@pytest.mark.parametrize("name", WITH_A_SWITCH)
def test_bypassed_the_folders_own_masks_are_trained(server, name):
    nodes = sent(server, name, switched_on=False)
    assert not any(node["class_type"] == "RemoveBackground" for node in nodes.values())
    trainings = [node for node in nodes.values() if node["class_type"] in TRAININGS]
    (photos,) = (key for key, node in nodes.items() if node["class_type"] == "CoReConceptImages")
    assert trainings and all(node["inputs"]["masks"] == [photos, 1] for node in trainings)


@pytest.mark.parametrize("name", WITH_A_SWITCH)
def test_switched_on_every_training_gets_what_core_finds_within_the_folders_masks(server, name):
    nodes = sent(server, name, switched_on=True)
    known = server.client.get("/object_info")
    by_kind = {node["class_type"]: (key, node["inputs"]) for key, node in nodes.items()}
    (photos, _), (found, removal), (both, composite) = (
        by_kind[kind] for kind in ("CoReConceptImages", "RemoveBackground", "MaskComposite")
    )
    assert removal == {"bg_removal_model": [by_kind["LoadBackgroundRemovalModel"][0], 0], "image": [photos, 0]}
    assert composite["destination"] == [photos, 1] and composite["source"] == [found, 0]
    assert composite["operation"] == "multiply"
    assert known["MaskComposite"]["input"]["required"].keys() == composite.keys()
    trainings = [node for node in nodes.values() if node["class_type"] in TRAININGS]
    assert trainings and all(node["inputs"]["masks"] == [both, 0] for node in trainings)


@pytest.mark.parametrize("own", [False, True])
def test_the_masks_that_core_finds_are_trained(sd1, own):
    """With a stand-in for the model, whose weights are not here."""
    from comfy_extras.nodes_bg_removal import RemoveBackground
    from comfy_extras.nodes_mask import MaskComposite

    class Upper:
        def encode_image(self, image: torch.Tensor) -> torch.Tensor:
            mask = torch.zeros(image.shape[:3])
            mask[:, : image.shape[1] // 2] = 1
            return mask

    pictures = [torch.rand(1, 64, 64, 3), torch.rand(1, 64, 96, 3)]
    folder = [torch.ones(1, 1, 1).expand(1, *each.shape[1:3]) for each in pictures]
    if own:
        folder[0] = torch.ones(1, 64, 64).clone()
        folder[0][..., :32] = 0
    masks = []
    for picture, mask in zip(pictures, folder, strict=True):
        found = RemoveBackground.execute(Upper(), picture).args[0]
        masks.append(MaskComposite.execute(mask, found, 0, 0, "multiply").args[0])
    first, second = embedding_run(sd1, pictures, masks=masks).loop.recipe.problem.latents.masks
    assert second[0, :4].min() == 1 and second[0, 4:].max() == 0
    assert first[0, :4, 4:].min() == 1 and first[0, 4:].max() == 0
    assert first[0, :4, :4].max() == (0 if own else 1)
