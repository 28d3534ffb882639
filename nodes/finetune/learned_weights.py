"""What a finetune has learned so far, as files: its own at the end, and those of a step on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core_ops.training.embedding_problem import ConceptEmbedding
from ..concept import Concept
from ..files import concept_files
from ..host.models.host_models import HostModels, TrainingModels
from ..host.models.timestep_lora import RANK_ENTRY
from ..host.run_control import check_cancelled, show_text
from .finetune_inputs import CheckedFinetune, name_of_another
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
        new = NewFile(settings.name, card, self.checked.overwrites, whole=settings.saves_unet)
        return weights, save(self.host.model, weights, new)

    def save_concepts(self, name: str, overwrite: bool, card: Mapping[str, Any]) -> Sequence[Concept]:
        """The concepts as they are now: written, the first under this name, when trained along, else as they came."""
        group, learned = self.checked.concepts, self.embedding.snapshot()
        if not self.checked.settings.train_embedding:
            return group.concepts
        refined: list[Concept] = []
        for number, concept in enumerate(group.concepts):
            own = name_of_another(name, concept) if number else name
            vectors = {encoder: value[group.place(number)].clone() for encoder, value in learned.items()}
            refined.append(concept.learned_further(own, vectors, concept_files.embedding_path(own)))
            about = {**card, **said_of(refined[-1])}
            concept_files.save_embedding(own, vectors, card=about, overwrite=overwrite)
        return refined

    def keep(self, name: str, record: Mapping[str, Any]) -> str:
        """For a session that goes on, or stops early: the weights as trained, for nobody waits for a LoRA's extraction
        after a cancel. Returns the path."""
        weights = collect(self.host, self.models)
        card = self.card(record)
        path = save(self.host.model, weights, NewFile(name, card, overwrite=True))
        self.save_concepts(name, overwrite=True, card=card)
        return str(path)

    def card(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What the files say about themselves; record: of the training. It reads the whole base model's biases."""
        settings, concepts = self.checked.settings, self.checked.concepts.concepts
        ranks = settings.rank_schedule
        training = {
            "resolution": settings.resolution,
            **said_of(concepts[0]),
            "phrase": phrases(concepts),
            **({"also": [said_of(other) for other in concepts[1:]]} if concepts[1:] else {}),
            "pictures": self.checked.told,
            "settings": asdict(settings),
            **({} if ranks is None else {RANK_ENTRY: asdict(ranks)}),
            **record,
        }
        return self.host.card(training)


def said_of(concept: Concept) -> dict[str, Any]:
    return {"phrase": concept.phrase, "super_category": concept.super_category, "with_category": concept.with_category}


def phrases(concepts: Sequence[Concept]) -> str:
    """What the user writes in prompts."""
    return ", ".join(concept.phrase for concept in concepts)
