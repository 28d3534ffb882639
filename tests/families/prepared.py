"""A node's training, ready for its first step, with its parts at hand."""

from __future__ import annotations

from typing import Any


class Prepared:
    """training: what `ready_to_train` or `ready_to_finetune` returned. start: v before the first step, on the CPU."""

    def __init__(self, training: Any, checked: Any) -> None:
        self.checked, self.session, self.loop = checked, training.session, training.session.loop
        self.models = training.models
        self.encoder, self.denoiser = self.models.encoder, self.models.denoiser
        self.embedding, self.latents = training.learned.embedding, self.loop.recipe.problem.latents
        self.start, self.losses = self.embedding.snapshot(), self.session.losses
        self.train = self.session.train

    @property
    def memory(self) -> str:
        return self.session.memory
