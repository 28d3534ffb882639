"""The four nodes that work for long, each as a short run on the smallest model, executed as the host does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from families import finetuning
from safetensors.torch import load_file
from torch import Tensor

from robustness.smallest import Models

STEPS = 3
Result = dict[str, Tensor]
"""What a run made; two runs are the same when these are, bit for bit."""


@dataclass(frozen=True)
class Subject:
    """run: models, a name for its files, and further settings.

    state: the suffix of its state's name. files: where a file of this name lies; None for nodes that write none.
    """

    title: str
    run: Callable[..., Result]
    state: str | None = None
    file: Callable[[str], Path] | None = None


def picture() -> Tensor:
    """As an image node hands it over: an inference tensor."""
    with torch.inference_mode():
        return torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))


def train_embedding(models: Models, name: str, **settings: Any) -> Result:
    from core_personalization.nodes.embedding.train_embedding import TrainEmbedding

    given = {
        **{"concept_name": name, "super_category": "dog", "method": "Textual Inversion", "steps": STEPS},
        **{"batch_size": 1, "resolution": 64, "precision": "fp32", "preview_every": 100, "save_every": 0},
        **{"overwrite": True, **settings},
    }
    sockets = [[each] for each in models]
    with torch.inference_mode():
        concept, _, losses, *_ = TrainEmbedding.execute(
            *sockets, [picture()], None, None, **{key: [value] for key, value in given.items()}
        ).args
    return {**concept.vectors, "losses": torch.tensor(losses["loss"])}


def finetune(models: Models, name: str, **settings: Any) -> Result:
    given = {"scope": "keys and values of cross-attention", "form": "LoRA", "batch_size": 1, "steps": STEPS, **settings}
    given = {"images": [picture()], "preview_every": 100, "save_every": 0, **given}
    _, _, losses, _, _, file, *_ = finetuning.execute(models, name=name, **given)
    return {**load_file(file), "losses": torch.tensor(losses["loss"])}


def optimize(models: Models, name: str, **settings: Any) -> Result:
    from core_personalization.nodes.refinement.optimize_prompt import OptimizePrompt

    model, clip, _ = models
    given = {
        **{"prompt": "a {} in the jungle", "batch_size": 1, "width": 32, "height": 32, "steps": STEPS},
        **{"save_as": name, "overwrite": True, **settings},
    }
    with torch.inference_mode():
        conditioning, _, refined = OptimizePrompt.execute(
            model=model, clip=clip, concept=finetuning.a_concept(models), **given
        ).args
    return {"conditioning": conditioning[0][0], **refined.vectors}


def probe(models: Models, name: str, **settings: Any) -> Result:
    seen, latents = probed_sampling(models, **settings)
    return {"latents": latents, "shares": seen.captured(latents).shares().clone()}


def probed_sampling(models: Models, **settings: Any) -> tuple[Any, Tensor]:
    """The probe's model through core's sampler, with the callback that draws previews: the probe and the latents."""
    import comfy.sample
    import latent_preview
    from core_personalization.nodes.insight.attention_probe import ContextAttentionProbe

    model, clip, _ = models
    prompt = "a dog in the jungle"
    with torch.inference_mode(), torch.random.fork_rng():  # core draws its noise from the global generator
        probed, seen = ContextAttentionProbe.execute(model, clip, prompt=prompt, **settings).args
        positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, ""))
        latent = torch.zeros(1, 4, 4, 4)
        noise = comfy.sample.prepare_noise(latent, 3)
        callback = latent_preview.prepare_callback(probed, STEPS)
        latents = comfy.sample.sample(
            probed, noise, STEPS, 2.0, "euler", "normal", positive, negative, latent,
            callback=callback, disable_pbar=True, seed=3,
        )  # fmt: skip
        return seen, latents.clone()


def _embedding(name: str) -> Path:
    from core_personalization.nodes.files.concept_files import embedding_path

    return embedding_path(name)


def _lora(name: str) -> Path:
    from core_personalization.nodes.files.unet_files import new_file_path

    return new_file_path("loras", name)


TRAIN = Subject("CoRe Train Embedding", train_embedding, "", _embedding)
FINETUNE = Subject("U-Net Identity Finetune", finetune, ".unet", _lora)
OPTIMIZE = Subject("CoRe Test-Time Optimize", optimize, None, _embedding)
PROBE = Subject("Context Attention Probe", probe)
SUBJECTS = (TRAIN, FINETUNE, OPTIMIZE, PROBE)
