"""What a finetune has learned so far, as files: its own at the end, and those of a step on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core_ops.training.embedding_problem import ConceptEmbedding
from ..concept import Concept
from ..files import concept_files
from ..host.models.host_models import HostModels, TrainingModels
from ..host.models.timestep_lora import RANK_ENTRY
from ..host.run_control import check_cancelled, show_text
from .finetune_inputs import CheckedFinetune
from .finetune_results import NewFile, TrainedWeights, collect, save, with_extracted_lora


@dataclass(frozen=True)
class LearnedWeights:
    """The U-Net's weights and, where it is trained along, the embedding, as they are now; and their files."""

    host: HostModels
    checked: CheckedFinetune
    models: TrainingModels
    embedding: ConceptEmbedding

    def save(self, card: Mapping[str, Any], node_id: str | None) -> tuple[TrainedWeights, Path]:
        """Writes the files that were asked for."""
        settings = self.checked.settings
        weights = collect(self.host, self.models)
        if settings.extracts_lora:

            def before_each(done: int, total: int) -> None:
                show_text(f"extracting the LoRA: weight {done + 1} of {total}", node_id)
                check_cancelled()

            weights = with_extracted_lora(self.host.model, weights, rank=settings.rank, before_each=before_each)
        new = NewFile(settings.name, card, settings.overwrite, whole=settings.saves_unet)
        return weights, save(self.host.model, weights, new)

    def save_concept(self, name: str, overwrite: bool, card: Mapping[str, Any]) -> Concept:
        """The concept as it is now: written under this name when it was trained along, else the one that came."""
        concept = self.checked.concept
        if not self.checked.settings.train_embedding:
            return concept
        vectors = self.embedding.snapshot()
        refined = concept.learned_further(name, vectors, concept_files.embedding_path(name))
        concept_files.save_embedding(name, vectors, card={**card, "phrase": refined.phrase}, overwrite=overwrite)
        return refined

    def keep(self, name: str, record: Mapping[str, Any]) -> str:
        """For a session that goes on, or stops early: the weights as trained, for nobody waits for a LoRA's extraction
        after a cancel. Returns the path."""
        weights = collect(self.host, self.models)
        card = self.card(record)
        path = save(self.host.model, weights, NewFile(name, card, overwrite=True))
        self.save_concept(name, overwrite=True, card=card)
        return str(path)

    def card(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What the files say about themselves; record: of the training. It reads the whole base model's biases."""
        settings, concept = self.checked.settings, self.checked.concept
        ranks = settings.rank_schedule
        training = {
            "resolution": settings.resolution,
            "phrase": concept.phrase,
            "super_category": concept.super_category,
            "with_category": concept.with_category,
            "pictures": self.checked.told,
            "settings": asdict(settings),
            **({} if ranks is None else {RANK_ENTRY: asdict(ranks)}),
            **record,
        }
        return self.host.card(training)
