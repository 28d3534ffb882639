"""The product in a real ComfyUI, in this process: its training runs and Test-Time Optimize, beside core's sampler.

ComfyUI's folders (embeddings and so on) are in the benchmark's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..world.embedded import expand
from ..world.sampler import HostSampler, load

LOOKED_AT, LOOKED_AT_SEED = 12, 1_000_003


@dataclass(frozen=True)
class Trained:
    """MODEL and concept after a stage. seconds: of training alone. report: last terms, and gradient shares. clip: where
    the text encoder was trained too."""

    model: Any
    concept: Any
    seconds: float = 0.0
    report: Mapping[str, Any] | None = None
    clip: Any = None


class Host(HostSampler):
    """side: 0 is the model's own."""

    def __init__(self, checkpoint: Path, base: Path, side: int = 0, at_once: int = 1) -> None:
        super().__init__(checkpoint, base, side, at_once)
        from core_personalization.nodes.host.models.denoiser import own_side

        self.side, self._checkpoint, self._shortened = side or own_side(self.model), checkpoint, False
        # At once, so that a long run is of one version, whatever happens to the files meanwhile.
        import core_personalization.nodes.embedding.embedding_training
        import core_personalization.nodes.finetune.finetuning
        import core_personalization.nodes.refinement.refining  # noqa: F401

    @classmethod
    def mini_world(cls, folder: Path) -> Host:
        host = cls(expand(folder / "mini_world.safetensors"), folder / "comfyui", side=64, at_once=10)
        _drop_layers_that_add_nothing(host.clip)
        host._shortened = True
        return host

    @cached_property
    def whole_clip(self) -> Any:
        """The CLIP with all its layers, for who trains them."""
        return load(self._checkpoint)[1] if self._shortened else self.clip

    def ready_embedding(
        self, images: Sequence[Tensor], captions: Sequence[str] | None, settings: Mapping[str, Any]
    ) -> Any:
        """One training of CoRe Train Embedding, before its first step."""
        from core_personalization.nodes.embedding.embedding_inputs import check_inputs
        from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
        from core_personalization.nodes.embedding.embedding_training import ready_to_train

        host = self._models(self.model)
        chosen = self._chosen(EmbeddingSettings, settings)
        return ready_to_train(host, check_inputs(host, images, None, captions, chosen))

    def embedding(self, images: Sequence[Tensor], captions: Sequence[str] | None, settings: Mapping[str, Any]) -> Any:
        """One run of CoRe Train Embedding, without the preview at its end."""
        with torch.inference_mode():
            training = self.ready_embedding(images, captions, settings)
            session = training.session
            seconds = _timed(session)
            concept = training.learned.save(settings["concept_name"], overwrite=True, record=session.record())
            report = {**_report(session), "regularizers": context_losses(session.loop.recipe)}
        return Trained(self.model, concept, seconds, report)

    def finetune(
        self, before: Trained, images: Sequence[Tensor], captions: Sequence[str] | None,
        class_images: Sequence[Tensor] | None, settings: Mapping[str, Any],
        also: Sequence[tuple[Any, Sequence[Tensor]]] = (),
    ) -> Trained:  # fmt: skip
        """One run of U-Net Identity Finetune, without files and preview. also: more concepts with their pictures."""
        from core_personalization.nodes.finetune.finetune_inputs import GivenPictures, check_finetune
        from core_personalization.nodes.finetune.finetune_results import collect, patched_clip, patched_model
        from core_personalization.nodes.finetune.finetune_settings import FinetuneSettings
        from core_personalization.nodes.finetune.finetuning import ready_to_finetune

        chosen = self._chosen(FinetuneSettings, settings)
        given = GivenPictures(images, None, captions, class_images)
        clip = self.whole_clip if chosen.train_text_encoder else self.clip
        host = self._models(before.model, clip)
        with torch.inference_mode():
            others = [(concept, GivenPictures(pictures)) for concept, pictures in also]
            checked = check_finetune(host, before.concept, given, chosen, others)
            training = ready_to_finetune(host, checked)
            session = training.session
            seconds = _timed(session)
            weights = collect(host, training.models)
            card = training.learned.card(session.record())
            concept, *_ = training.learned.save_concepts(chosen.name, overwrite=True, card=card)
            model = patched_model(before.model, weights, chosen.rank_schedule)
            return Trained(model, concept, seconds, _report(session), patched_clip(clip, weights))

    def applied(self, trained: Trained, prompt: str) -> tuple[Any, Any]:
        """MODEL and CONDITIONING of a prompt by Apply Concept."""
        from core_personalization.nodes.sharing.apply_concept import ApplyConcept

        with torch.inference_mode():
            return ApplyConcept.execute(trained.model, self.clip, trained.concept, prompt).args

    def refined(self, trained: Trained, prompt: str, settings: Mapping[str, Any]) -> Any:
        """CONDITIONING of a prompt by CoRe Test-Time Optimize."""
        from core_personalization.nodes.refinement.optimize_prompt import OptimizePrompt

        with torch.inference_mode():
            return OptimizePrompt.execute(
                trained.model, self.clip, trained.concept, prompt=prompt, width=self.side, height=self.side, **settings
            ).args[0]

    def _chosen(self, kind: type[Any], settings: Mapping[str, Any]) -> Any:
        from core_personalization.nodes.settings import validated

        common = {"resolution": self.side, "overwrite": True, "start": "anew", "preview_every": 0, "save_every": 0}
        return validated(kind, {**common, **settings})

    def _models(self, model: Any, clip: Any = None) -> Any:
        from core_personalization.nodes.host.models.host_models import HostModels

        return HostModels(model, clip or self.clip, self.vae)


def _drop_layers_that_add_nothing(clip: Any) -> None:
    """The mini world's text encoder is filled up with them to CLIP's twelve: the same bits in less time without."""
    encoder = clip.cond_stage_model.clip_l.transformer.text_model.encoder
    kept = [
        layer for layer in encoder.layers if bool(layer.mlp.fc2.weight.any() or layer.self_attn.out_proj.weight.any())
    ]
    encoder.layers = torch.nn.ModuleList(kept)


def _timed(session: Any) -> float:
    began = time.monotonic()
    session.train()
    return time.monotonic() - began


def _report(session: Any) -> dict[str, Any]:
    """Last value of every curve, and the mean share that each term had: of single gradients, and of averaged ones."""
    shares, averaged = (
        {name.removeprefix(kind): sum(values) / len(values)
         for name, values in session.losses.items() if name.startswith(kind)}
        for kind in ("gradient_share.", "averaged_share.")
    )  # fmt: skip
    last = {name: values[-1] for name, values in session.losses.items() if "." not in name and values}
    return {"last": last, "shares": shares, "averaged": averaged}


def context_losses(recipe: Any) -> dict[str, float]:
    """Mean L_emb and L_attn of v, as CoRe has them, over `LOOKED_AT` draws of pictures, noise and prompt, the same for
    every v; none where the method has no such terms."""
    from core_personalization.core_ops.recipes.context_regularization import ContextRegularization
    from core_personalization.core_ops.training.training_loop import STREAMS

    if not isinstance(recipe, ContextRegularization):
        return {}
    recipe = ContextRegularization(recipe.config, recipe.problem, recipe.prompts)
    random = {name: torch.Generator().manual_seed(LOOKED_AT_SEED) for name in STREAMS}
    found: dict[str, list[float]] = {}
    with torch.inference_mode(False), torch.enable_grad():
        for _ in range(LOOKED_AT):
            for each in recipe.training_step(random).objective.passes[1:]:
                for name, value in each.computed().items():
                    found.setdefault(name, []).append(float(value.detach()))
    return {name: sum(values) / len(values) for name, values in found.items()}
