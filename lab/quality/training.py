"""From a cell to a trained MODEL and concept: the method's stages one after another, shared where they are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .host import Host, Trained
from .methods import ATTN, Finetune
from .protocol import Cell, Protocol, digest

KEPT_MODELS = 2


class Trainer:
    """Embeddings are kept as files, the last few U-Nets in memory: methods that begin alike begin from the same."""

    def __init__(self, host: Host, protocol: Protocol, folder: Path) -> None:
        self.host, self.protocol, self.folder = host, protocol, folder
        self._models: dict[str, Trained] = {}
        self._class_images: dict[str, list[Tensor]] = {}

    def train(self, cell: Cell) -> list[Trained]:
        """Result of every stage, the last one last."""
        if not cell.method.embedding:
            return []
        images, captions = cell.pictures(), cell.captions()
        settings = embedding_settings(self.protocol, cell)
        key = [settings, captions, cell.concept, cell.references, self.protocol.training()]
        results = [self._embedding(digest(key), images, captions, settings)]
        for stage in cell.method.finetunes:
            settings = self.finetune_settings(cell, stage)
            key = [key, settings, stage.class_images]
            results.append(self._finetune(digest(key), results[-1], cell, stage, settings))
        return results

    def _embedding(
        self, name: str, images: list[Tensor], captions: list[str] | None, settings: Mapping[str, Any]
    ) -> Trained:
        note = self.folder / "embeddings" / f"{name}.json"
        if note.exists():
            return self._stored(name, settings, json.loads(note.read_text("utf-8")))
        trained = self.host.embedding(images, captions, {**settings, "concept_name": name})
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"seconds": trained.seconds, "report": trained.report}), "utf-8")
        return trained

    def _stored(self, name: str, settings: Mapping[str, Any], note: Mapping[str, Any]) -> Trained:
        from core_personalization.nodes.concept import Concept
        from core_personalization.nodes.files import concept_files
        from core_personalization.nodes.host.models.text_encoder import encoder_names

        path = concept_files.embedding_path(name)
        vectors, space_time = concept_files.read_embedding(path, encoder_names(self.host.clip))
        concept = Concept(
            name, settings["super_category"], vectors, path, settings["method"] == ATTN, space_time=space_time
        )
        return Trained(self.host.model, concept, note["seconds"], note["report"])

    def _finetune(
        self, name: str, before: Trained, cell: Cell, stage: Finetune, settings: Mapping[str, Any]
    ) -> Trained:
        if name not in self._models:
            others = self._others(cell.kind) if stage.class_images else None
            trained = self.host.finetune(before, cell.pictures(), cell.captions(), others, {**settings, "name": name})
            while len(self._models) >= KEPT_MODELS:
                del self._models[next(iter(self._models))]
            self._models[name] = trained
        return self._models[name]

    def finetune_settings(self, cell: Cell, stage: Finetune) -> dict[str, Any]:
        """What is set in U-Net Identity Finetune."""
        protocol = self.protocol
        schedule: Mapping[str, Any] = {
            "steps": max(round(stage.share * protocol.finetune_steps), 1),
            "batch_size": protocol.finetune_batch,
            "learning_rate": stage.rate * protocol.rate_of(cell.method.name),
            "text_encoder_rate": protocol.text_encoder_rate,
        }
        if protocol.published:
            from core_personalization.nodes.finetune.presets import PRESETS

            schedule = PRESETS[stage.preset]
        return {**schedule, "seed": cell.seed, **stage.settings, **protocol.settings.get("finetune", {})}

    def _others(self, kind: str) -> list[Tensor]:
        """Pictures of the super-category, drawn by the model itself (DreamBooth's prior preservation)."""
        if kind not in self._class_images:
            count = self.protocol.class_images
            prompt = self.host.encode(f"a photo of a {kind}")
            pictures = self.host.sample(
                self.host.model, [prompt] * count, range(10_000, 10_000 + count),
                self.protocol.sampling_steps, self.protocol.guidance,
            )  # fmt: skip
            self._class_images[kind] = [picture.movedim(0, -1)[None] for picture in pictures]
        return self._class_images[kind]


def embedding_settings(protocol: Protocol, cell: Cell) -> dict[str, Any]:
    """What is set in CoRe Train Embedding."""
    given = cell.method.embedding
    subject = {"super_category": cell.kind, "prompt_set": cell.subject.prompt_set, "seed": cell.seed}
    schedule: Mapping[str, Any] = {
        "steps": protocol.embedding_steps,
        "batch_size": protocol.embedding_batch,
        "learning_rate": protocol.alignment_embedding_rate if given["method"] == ATTN else protocol.embedding_rate,
        "regularization_batch": protocol.regularization_batch,
    }
    if protocol.published:
        from core_personalization.nodes.embedding.methods import METHODS

        schedule = METHODS[given["method"]].published
    settings = {**subject, **schedule, **given, **protocol.settings.get("embedding", {})}
    if cell.method.rare_word:  # as in the template dreambooth_lora: the word stays what it is
        settings |= {"initial_words": cell.method.rare_word, "steps": 1, "batch_size": 1, "learning_rate": 1e-7}
    return settings
