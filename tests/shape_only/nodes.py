"""Our nodes as the host executes them, small, with what they are given where a test wants it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from families import finetuning
from families.build import checkpoint
from families.load import load_checkpoint
from families.shapes import CLIP_L, FAMILIES, Family
from torch import Tensor

from .host import Models

SMALL = {
    "sd1": Family(768, 8, False, 1, (1,), (0,), 1, (replace(CLIP_L, layers=2),)),
    "sdxl": replace(FAMILIES["sdxl"], up_depths=(0, 0, 0), middle_depth=1),
}
"""With as few layers as the host takes for the family: what counts is each kind of operation, and its time."""
COMMON = {"steps": 1, "batch_size": 2, "resolution": 32, "precision": "fp32", "overwrite": True}
EMBEDDING = {"concept_name": "shapes", "super_category": "dog", "rescale_from": 1, "rescale_to": 1}
FINETUNE = {"scope": "keys and values of cross-attention", "rank": 2, "learning_rate": 1e-4}
REFINEMENT = {"prompt": "a (red:1.2) {} in the jungle", "steps": 1, "batch_size": 1, "width": 32, "height": 32}
CAPTIONS = ["a {} on a table", "a {} in the grass"]


def load(name: str, embeddings: Path) -> Models:
    return load_checkpoint(SMALL[name], checkpoint(SMALL[name]), embedding_directory=str(embeddings))


@contextmanager
def quick_collections() -> Iterator[None]:
    """Every node collects garbage at its end; what was there before is not looked through each time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def pictures(device: torch.device | None = None) -> list[Tensor]:
    """Two, as an image node hands them over: inference tensors."""
    with torch.inference_mode():
        return [torch.rand(1, 32, 32, 3).to(device) for _ in range(2)]


def masks(device: torch.device | None = None) -> list[Tensor]:
    with torch.inference_mode():
        return [torch.ones(1, 32, 32).to(device) for _ in range(2)]


EVERYTHING: dict[str, Any] = {"form": "LoRA", "train_embedding": True, "embedding_rate": 1e-3}
EVERYTHING |= {"class_images": pictures(), "masks": masks(), "captions": None}
EVERYTHING |= {"caption_template": "a {} teddy bear", "alignment_mean": 2.0, "optimizer": "Adafactor"}
EVERYTHING |= {"augmentation": 1, "gradient_checkpointing": True, "max_gradient_norm": 1.0}
"""Of finetuning, at once."""


def train_embedding(models: Models, **given: Any) -> None:
    """given: settings, and images, masks, captions in place of two pictures with captions."""
    from core_personalization.nodes.embedding.train_embedding import TrainEmbedding

    sockets = {"images": pictures(), "masks": None, "captions": CAPTIONS}
    given = {**sockets, **COMMON, **EMBEDDING, "preview_every": 0, "save_every": 0, **given}
    chosen = {name: value if name in sockets else [value] for name, value in given.items()}
    with torch.inference_mode():
        TrainEmbedding.execute(*([model] for model in models), **chosen)


def finetune(models: Models, **given: Any) -> None:
    """given: settings, and images, masks, captions, class_images."""
    sockets = {"images": pictures(), "captions": CAPTIONS}
    finetuning.execute(models, **{**sockets, **COMMON, **FINETUNE, **given})


def refine(models: Models, **given: Any) -> None:
    """CoRe Test-Time Optimize, from pictures. given: settings and sockets."""
    from core_personalization.nodes.refinement.optimize_prompt import OptimizePrompt

    model, clip, vae = models
    sockets = {"concept": finetuning.a_concept(models, vectors=2), "images": pictures()[0], "vae": vae}
    with torch.inference_mode():
        OptimizePrompt.execute(model, clip, **{**sockets, **REFINEMENT, **given})


def probe(models: Models) -> None:
    """Context Attention Probe around a sampling by the host, and Attention Maps of it."""
    import comfy.sample
    from core_personalization.nodes.insight.attention_maps import AttentionMaps
    from core_personalization.nodes.insight.attention_probe import ContextAttentionProbe

    model, clip, vae = models
    prompt = "a photo of a dog on the beach"
    with torch.inference_mode():
        encoded = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
        watched, seen = ContextAttentionProbe.execute(model, clip, prompt=prompt).args
        latent = torch.zeros(1, 4, 4, 4)
        noise = comfy.sample.prepare_noise(latent, 3)
        samples = comfy.sample.sample(
            watched, noise, 2, 2.0, "euler", "normal", encoded, encoded, latent, disable_pbar=True, seed=3
        )
        AttentionMaps.execute(probe=seen, latent={"samples": samples}, images=vae.decode(samples))


def compare_contexts(models: Models) -> None:
    """Context Similarity of two words and a concept."""
    from core_personalization.nodes.insight.context_similarity import ContextSimilarity

    concept = finetuning.a_concept(models)
    with torch.inference_mode():
        ContextSimilarity.execute(models[1], concept, prompt="a {} in the desert", words="dog\ncat")
