"""What an overfitted concept takes of the attention: trained, drawn with the product's probe, and tabulated."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from .quality.host import Host, Trained
from .quality.judging import identity, silhouette
from .quality.methods import FAST, METHODS
from .quality.protocol import EVIDENCE, Cell
from .quality.subjects import BIASED, Thing
from .quality.training import Trainer
from .world.drawing.concepts import CONCEPTS, prompt_templates
from .world.drawing.contexts import CONTEXTS
from .world.networks.judge import ATTRIBUTES, Judge

BEACH = "on the beach"
LEARNED = ("Textual Inversion", FAST)
"""By the quality benchmark's settings, its first stage alone."""
CLASS_WORD, REFINED = "super-category", "Textual Inversion, refined at test time"
SHARES = ("concept", "place", "other_words")
MEANS = ("concept_on_itself", "similarity", "identity", "place_right", "on_the_beach", "in_a_hat")


@dataclass(frozen=True)
class Row:
    """One subject with one prompt. Shares, of all tokens' attention, and accuracies are means over pictures.

    concept_on_itself: how much of the concept's own attention falls where its kind stands on average.
    similarity: mean cosine of the tokens after {} with those beside the super-category. identity: the judge's mean
    cosine with the concept itself in all places. place_right: it sees the prompt's place; on_the_beach, in_a_hat: what
    only the references had.
    """

    subject: str
    prompt: str
    pictures: int
    concept: float
    place: float
    other_words: float
    concept_on_itself: float
    similarity: float
    identity: float
    place_right: float
    on_the_beach: float
    in_a_hat: float


@dataclass(frozen=True)
class Subject:
    """What stands in {}: the super-category, or a learned concept; test_time: refined for each prompt."""

    name: str
    phrase: str
    trained: Trained | None = None
    test_time: bool = False


@dataclass(frozen=True)
class Watched:
    """captured: the probe's. shown: numbers in it of the concept and of the place. pictures: [B, 64, 64, 3] in 0…1."""

    row: Row
    captured: Any
    shown: tuple[int, int]
    pictures: Tensor


def templates(concept: str) -> list[str]:
    """The evaluation prompts that ask for a photo in another place than the references', and for nothing else."""
    photos = [template for template in prompt_templates(concept) if template.startswith("a photo of a {} ")]
    return [template for template in photos if place_of(template) not in ("", BEACH) and "wearing" not in template]


def place_of(template: str) -> str:
    return next((place for place in CONTEXTS if template.endswith(place)), "")


def trained_subjects(host: Host, concept: str, folder: Path) -> list[Subject]:
    """Same references, seed, steps and batches for all; in the order of the picture's rows."""
    trainer = Trainer(host, EVIDENCE, folder)
    words = [replace(METHODS[name], finetunes=()) for name in LEARNED]
    learned = {word.name: trainer.train(Cell(word, Thing(concept), BIASED, seed=0))[0] for word in words}
    subjects = [Subject(name, trained.concept.token, trained) for name, trained in learned.items()]
    overfitted = subjects[0]
    refined = Subject(REFINED, overfitted.phrase, overfitted.trained, test_time=True)
    return [Subject(CLASS_WORD, CONCEPTS[concept][0]), overfitted, refined, *subjects[1:]]


class Observer:
    """Draws prompts with the probe on, and reads off what the tables need."""

    def __init__(self, host: Host, concept: str, pictures: int) -> None:
        self._host, self._kind, self._pictures = host, CONCEPTS[concept][0], pictures
        self._judge = Judge.load()
        self._cell = Cell(METHODS["Textual Inversion"], Thing(concept), BIASED, seed=0)

    @torch.inference_mode()
    def watch(self, subject: Subject, template: str) -> Watched:
        from core_personalization.nodes.insight.attention_probe import ContextAttentionProbe

        host, prompt = self._host, template.replace("{}", subject.phrase)
        conditioning = self._conditioning(subject, template)
        given = conditioning if subject.test_time else None
        model, probe = ContextAttentionProbe.execute(host.model, host.clip, given, prompt=prompt, each_step=False).args
        latents = self._sample(model, conditioning)
        pictures = host.vae.decode(latents).clamp(0, 1).float().cpu()
        captured = probe.captured(latents)
        labels = [word.label for word in captured.words]
        shown = labels.index(subject.phrase), labels.index(place_of(template).split()[-1])
        row = Row(
            subject.name,
            template,
            len(pictures),
            **_shares(captured, *shown),
            concept_on_itself=_on_itself(captured.maps()[:, shown[0], 0], self._kind),
            similarity=self._similarity(conditioning, template),
            **self._judged(pictures, place_of(template)),
        )
        return Watched(row, captured, shown, pictures)

    def _conditioning(self, subject: Subject, template: str) -> Any:
        if subject.test_time:
            assert subject.trained is not None
            return self._host.refined(subject.trained, template, {"batch_size": EVIDENCE.embedding_batch})
        return self._host.encode(template.replace("{}", subject.phrase))

    def _sample(self, model: Any, conditioning: Any) -> Tensor:
        from nodes import common_ksampler  # type: ignore[attr-defined] - ComfyUI's

        latent = {"samples": torch.zeros(self._pictures, 4, self._host.side // 8, self._host.side // 8)}
        steps, guidance = EVIDENCE.sampling_steps, EVIDENCE.guidance
        negative = self._host.encode("")
        (drawn,) = common_ksampler(model, 0, steps, guidance, "euler", "normal", conditioning, negative, latent)
        return drawn["samples"]

    def _similarity(self, conditioning: Any, template: str) -> float:
        """Both phrases are one token, so that the tokens after them have the same places."""
        from core_personalization.nodes.host.prompts.prompt_reading import read_prompt

        words = read_prompt(self._host.clip, template.replace("{}", self._kind)).words
        number = next(i for i, word in enumerate(words) if word.label == self._kind)
        after = [position for word in words[number + 1 :] for position in word.positions]
        reference = self._host.encode(template.replace("{}", self._kind))[0][0]
        found = torch.nn.functional.cosine_similarity(conditioning[0][0][0, after], reference[0, after], dim=-1)
        return float(found.mean())

    def _judged(self, pictures: Tensor, place: str) -> dict[str, float]:
        channels_first = pictures.movedim(-1, 1)
        seen = self._judge.attributes(channels_first)

        def share(attribute: str, value: str) -> float:
            return float((seen[attribute] == ATTRIBUTES[attribute].index(value)).float().mean())

        return {
            "identity": float(identity(self._judge, self._cell, channels_first).mean()),
            "place_right": share("context", place),
            "on_the_beach": share("context", BEACH),
            "in_a_hat": share("accessory", "hat"),
        }


def _shares(captured: Any, concept: int, place: int) -> dict[str, float]:
    """Means over pictures; other_words: all of the prompt but the concept."""
    shares = captured.shares().mean(dim=0).tolist()
    words = sum(share for word, share in zip(captured.words, shares, strict=True) if word.in_prompt)
    return {"concept": shares[concept], "place": shares[place], "other_words": words - shares[concept]}


def _on_itself(maps: Tensor, kind: str) -> float:
    """maps: [B, h, w]."""
    mask = interpolate(silhouette(kind)[None, None], maps.shape[1:], mode="area")[0]
    return float(((maps * mask).sum(dim=(1, 2)) / maps.sum(dim=(1, 2))).mean())


def write_csv(rows: Sequence[Row], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _short(value) for name, value in asdict(row).items()} for row in rows)


def table(rows: Sequence[Row]) -> str:
    """Means over prompts, in Markdown."""
    heads = ("", *(name.replace("_", " ") for name in (*SHARES, *MEANS)))
    lines = [heads, ("---",) * len(heads)]
    for subject in dict.fromkeys(row.subject for row in rows):
        own = [row for row in rows if row.subject == subject]
        means = {name: mean(getattr(row, name) for row in own) for name in (*SHARES, *MEANS)}
        shares, others = [f"{means[name]:.2%}" for name in SHARES], [f"{means[name]:.2f}" for name in MEANS]
        lines.append((subject, *shares, *others))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def picture(watched: Sequence[Watched]) -> Image.Image:
    """The first picture of each subject, one above the other, with the maps of the concept and of the place."""
    from core_personalization.nodes.insight.attention_pages import Panel, draw_pages
    from core_personalization.nodes.insight.attention_settings import MapSettings

    panels = [Panel(each.pictures, _titled(each), each.shown) for each in watched]
    page = draw_pages(panels, MapSettings(columns=3))[0]
    return Image.fromarray((page * 255).round().byte().numpy())


def _titled(watched: Watched) -> Any:
    """What was captured, with the subject's name in place of its embedding's."""
    captured, (concept, _) = watched.captured, watched.shown
    words = list(captured.words)
    words[concept] = replace(words[concept], label="{}")
    return replace(captured, prompt=f"{watched.row.subject}: {watched.row.prompt}", words=tuple(words))


def _short(value: Any) -> Any:
    return f"{value:.5f}" if isinstance(value, float) else value


def watch_all(given: argparse.Namespace) -> None:
    """given: concept, pictures, folder and images, as of the command."""
    given.folder.mkdir(parents=True, exist_ok=True)
    given.images.mkdir(parents=True, exist_ok=True)
    host = Host.mini_world(given.folder)
    subjects = trained_subjects(host, given.concept, given.folder)
    observer = Observer(host, given.concept, given.pictures)
    watched = [[observer.watch(subject, template) for subject in subjects] for template in templates(given.concept)]
    rows = [each.row for of_prompt in watched for each in of_prompt]
    write_csv(rows, given.images / "attention.csv")
    picture(watched[0]).save(given.images / "attention.webp", quality=75, method=6)
    print(table(rows))
