"""Every node of the pack with inputs that it takes, from which hypothesis then departs."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from families import concepts, finetuning

from robustness.smallest import Models
from robustness.subjects import picture, probed_sampling


class Accepted(Exception):
    """Validation is over."""


@dataclass(frozen=True)
class FuzzedNode:
    """module: of the node. work: what it calls when all is checked, by its name there; empty when there is no more.

    given: what the smallest run needs beside the defaults, by input.
    """

    module: str
    node: str
    work: str
    given: Mapping[str, Any] = field(default_factory=dict)
    sockets: tuple[str, ...] = ()
    lists: bool = False

    def load(self) -> Any:
        return importlib.import_module(f"core_personalization.nodes.{self.module}")

    def inputs(self, models: Models, vision_models: Mapping[str, str]) -> dict[str, Any]:
        """vision_models: folders of a CLIP and a DINO by the names of the scorecard's inputs."""
        values = dict(self.given)
        for socket in self.sockets:
            values[socket.removeprefix("saved_")] = vision_models.get(socket) or _socket(socket, models)
        return values

    def execute(self, values: Mapping[str, Any]) -> Any:
        """As the host does."""
        as_given = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
        with torch.inference_mode():
            return getattr(self.load(), self.node).execute(**(as_given if self.lists else values))


TRAINING = {"steps": 1, "batch_size": 1, "resolution": 64, "precision": "fp32", "preview_every": 0, "overwrite": True}
MODELS = ("model", "clip", "vae")

FUZZED = (
    FuzzedNode(
        "embedding.train_embedding",
        "TrainEmbedding",
        "train_embedding",
        TRAINING
        | {"concept_name": "fuzzed", "super_category": "dog", "rescale_from": 1, "rescale_to": 1, "save_every": 0},
        (*MODELS, "images"),
        lists=True,
    ),
    FuzzedNode(
        "finetune.unet_identity_finetune",
        "UNetIdentityFinetune",
        "finetune_unet",
        TRAINING | {"name": "finetuned", "scope": "keys and values of cross-attention", "form": "LoRA", "rank": 2},
        (*MODELS, "images", "concept"),
        lists=True,
    ),
    FuzzedNode(
        "refinement.optimize_prompt",
        "OptimizePrompt",
        "refine_prompt",
        {"prompt": "a {} in the jungle", "batch_size": 1, "width": 32, "height": 32, "steps": 1, "overwrite": True},
        ("model", "clip", "concept"),
    ),
    FuzzedNode(
        "insight.attention_probe",
        "ContextAttentionProbe",
        "AttentionProbe",
        {"prompt": "a dog in the jungle"},
        ("model", "clip"),
    ),
    FuzzedNode("insight.attention_maps", "AttentionMaps", "draw_pages", {}, ("probe", "latent", "images")),
    FuzzedNode("insight.attention_sheet", "AttentionSheet", "draw_sheet", {}, ("probe", "latent", "images")),
    FuzzedNode(
        "insight.context_similarity",
        "ContextSimilarity",
        "similarity_chart",
        {"prompt": "a photo of a {} in the desert", "words": "dog\ncat"},
        ("clip",),
    ),
    FuzzedNode(
        "captions.selective_caption",
        "SelectiveCaption",
        "make_captions",
        {"super_category": "dog", "captions": "a brown dog on a chair", "overwrite": True},
        ("images", "clip"),
        lists=True,
    ),
    FuzzedNode(
        "evaluation.scorecard",
        "PersonalizationScorecard",
        "score",
        {"prompts": "a dog in the jungle", "resamples": 100, "overwrite": True},
        ("references", "generated", "clip_model", "dino_model"),
        lists=True,
    ),
    FuzzedNode("sharing.concept_prompt", "ConceptPrompt", "", {"template": "a {} in the jungle"}, ("concept",)),
    FuzzedNode(
        "sharing.save_concept",
        "SaveConcept",
        "",
        {"name": "saved", "description": "", "overwrite": True},
        ("saved_concept",),
    ),
    FuzzedNode(
        "sharing.load_concept",
        "LoadConcept",
        "",
        {"file": "loras/shared.safetensors", "strength": 1.0, "super_category": "", "embedding_name": ""},
        ("model", "clip"),
    ),
    FuzzedNode("photos.concept_images", "ConceptImages", "sheet_of", {"folder": "fuzzed"}),
    FuzzedNode(
        "votes.blind_vote",
        "BlindVote",
        "drawn_pairs",
        {"prompts": "a dog in the jungle", "overwrite": True},
        ("first", "second", "references"),
        lists=True,
    ),
    FuzzedNode("evaluation.prompt_batch", "EvaluationPrompts", "", {}, ("concept",)),
)


def _socket(name: str, models: Models) -> Any:
    if name in MODELS:
        return models[MODELS.index(name)]
    if name == "concept":
        return finetuning.a_concept(models)
    if name == "saved_concept":
        return concepts.make_concept(models, "fuzzed")
    if name in ("probe", "latent"):
        seen, latents = _sampled(models)
        return seen if name == "probe" else {"samples": latents}
    return picture()


@functools.cache
def _sampled(models: Models) -> tuple[Any, Any]:
    return probed_sampling(models)
