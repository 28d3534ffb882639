"""The product in a real ComfyUI, in this process: its training runs and Test-Time Optimize, beside core's sampler.

ComfyUI's folders (embeddings and so on) are in the benchmark's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..world.embedded import expand
from ..world.sampler import HostSampler

SIDE = 64


@dataclass(frozen=True)
class Trained:
    """MODEL and concept after a stage. seconds: of training alone. report: last terms, and gradient shares."""

    model: Any
    concept: Any
    seconds: float = 0.0
    report: Mapping[str, Any] | None = None


class Host(HostSampler):
    def __init__(self, folder: Path) -> None:
        super().__init__(expand(folder / "mini_world.safetensors"), folder / "comfyui")
        # At once, so that a long run is of one version, whatever happens to the files meanwhile.
        import core_personalization.nodes.embedding.run
        import core_personalization.nodes.finetune.run
        import core_personalization.nodes.test_time.run  # noqa: F401

    def embedding(self, images: Sequence[Tensor], captions: Sequence[str] | None, settings: Mapping[str, Any]) -> Any:
        """One run of CoRe Train Embedding, without the preview at its end."""
        from core_personalization.nodes.concept import Concept
        from core_personalization.nodes.embedding.inputs import check_inputs
        from core_personalization.nodes.embedding.run import EmbeddingRun
        from core_personalization.nodes.embedding.settings import EmbeddingSettings
        from core_personalization.nodes.settings import validated

        chosen = validated(EmbeddingSettings, {**_common(), **settings})
        with torch.inference_mode():
            run = EmbeddingRun(
                self._models(self.model), check_inputs(self._models(self.model), images, None, captions, chosen)
            )
            seconds = _timed(run)
            path = run.save_embedding(chosen.concept_name, overwrite=True)
        concept = Concept(
            chosen.concept_name, chosen.super_category, run.embedding.snapshot(), path, chosen.with_category
        )
        return Trained(self.model, concept, seconds, _report(run))

    def finetune(
        self, before: Trained, images: Sequence[Tensor], captions: Sequence[str] | None,
        class_images: Sequence[Tensor] | None, settings: Mapping[str, Any],
    ) -> Trained:  # fmt: skip
        """One run of U-Net Identity Finetune, without files and preview."""
        from core_personalization.nodes.finetune.inputs import GivenPictures, check_finetune
        from core_personalization.nodes.finetune.results import collect, patched_model
        from core_personalization.nodes.finetune.run import FinetuneRun
        from core_personalization.nodes.finetune.settings import FinetuneSettings
        from core_personalization.nodes.settings import validated

        chosen = validated(FinetuneSettings, {**_common(), **settings})
        given = GivenPictures(images, None, captions, class_images)
        host = self._models(before.model)
        with torch.inference_mode():
            run = FinetuneRun(host, check_finetune(host, before.concept, given, chosen))
            seconds = _timed(run)
            weights = collect(before.model, run.denoiser.trainable)
            concept = run.refined_concept(chosen.name, overwrite=True)
            return Trained(patched_model(before.model, weights), concept, seconds, _report(run))

    def refined(self, trained: Trained, prompt: str, settings: Mapping[str, Any]) -> Any:
        """CONDITIONING of a prompt by CoRe Test-Time Optimize."""
        from core_personalization.nodes.test_time.test_time_optimize import TestTimeOptimize

        with torch.inference_mode():
            return TestTimeOptimize.execute(
                trained.model, self.clip, trained.concept, prompt=prompt, width=SIDE, height=SIDE, **settings
            ).args[0]

    def _models(self, model: Any) -> Any:
        from core_personalization.nodes.training.inputs import HostModels

        return HostModels(model, self.clip, self.vae)


def _common() -> dict[str, Any]:
    return {"resolution": SIDE, "overwrite": True, "preview_every": 0, "save_every": 0}


def _timed(run: Any) -> float:
    began = time.monotonic()
    run.train()
    return time.monotonic() - began


def _report(run: Any) -> dict[str, Any]:
    """Last value of every curve, and the mean share of the gradient norm that each term had."""
    shares = {name.removeprefix("gradient_share."): sum(values) / len(values)
              for name, values in run.losses.items() if name.startswith("gradient_share.")}  # fmt: skip
    last = {name: values[-1] for name, values in run.losses.items() if "." not in name and values}
    return {"last": last, "shares": shares}
