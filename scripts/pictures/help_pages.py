"""Per node the picture of its help page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from preparation.by_place import ROOT, load_package
from safetensors import safe_open
from torch import Tensor

from .runs import Runs
from .sheet import Sheet
from .thumbnails import CONCEPT, references

WIDTH = 560
SMOOTHED = 10
"""Steps: the diffusion loss depends on the noise of each step more than on what was learned."""


def train_embedding(runs: Runs) -> Image.Image:
    run = runs.of("quick_start")
    name = run.inputs("CoReTrainEmbedding")["concept_name"]
    sheet = Sheet(WIDTH).row(references()).line(f"four pictures become embedding:{name}", 17, accent=True)
    drawn = [picture for place in ("snow", "jungle") for picture in run.pictures(f"Pictures in the {place}")]
    sheet.row(drawn, ["in the snow", "", "in the jungle", ""])
    with safe_open(runs.server.output / "core_states" / f"{name}.safetensors", "pt") as state:
        losses = json.loads(state.metadata()["state"])["losses"]
    return sheet.wide(curves(losses)).image()


def unet_identity_finetune(runs: Runs) -> Image.Image:
    run = runs.of("core_full")
    before, after = (run.pictures(f"After stage {stage} (pictures)") for stage in ("1 alone", "2"))
    sheet = Sheet(WIDTH).row(references()).line("the same prompt and seeds, before and after", 17, accent=True)
    return sheet.row([*before, *after], ["the word alone", "", "with the finetuned U-Net", ""]).image()


def test_time_optimize(runs: Runs) -> Image.Image:
    run = runs.of("why_is_my_word_ignored")
    before, after = (run.pictures(f"{title} (pictures)") for title in ("As it is", "Mended"))
    rows = re.findall(r"\| (L_\w+) \| (\S+) \| (\S+) \| (\S+) \|", run.text("What was mended"))
    sheet = Sheet(WIDTH).row([*before, *after], ["as it is", "", "mended for this prompt", ""])
    for name, start, end, change in rows:
        sheet.line(f"{name}  {start} → {end}  ({change})", 15, mono=True)
    return sheet.image()


def context_attention_probe(runs: Runs) -> Image.Image:
    run = runs.of("attention_probe")
    frames = run.frames("Step by step")
    steps = len(frames) // len(run.pictures("Concept above, super-category below"))
    chosen = (1, steps // 3, steps)
    return (
        Sheet(WIDTH).row([frames[step - 1] for step in chosen], [f"step {step} of {steps}" for step in chosen]).image()
    )


def attention_maps(runs: Runs) -> Image.Image:
    return Sheet(WIDTH).wide(runs.of("attention_probe").pictures("Concept above, super-category below")[0]).image()


def context_similarity(runs: Runs) -> Image.Image:
    return Sheet(WIDTH).wide(runs.of("why_is_my_word_ignored").pictures("Similarity of the words around")[0]).image()


def selective_caption(runs: Runs) -> Image.Image:
    lines = runs.template("sid_captions").inputs("CoReSelectiveCaption")["own_captions"].splitlines()
    return Sheet(WIDTH).row(references(), lines).image()


def concept_prompt(runs: Runs) -> Image.Image:
    run = runs.of("quick_start")
    titles = [f"Concept in the {place}" for place in ("jungle", "snow")]
    pictures = [run.pictures(f"Pictures in the {place}") for place in ("jungle", "snow")]
    captions = [text for title in titles for text in (run.inputs(title)["template"], "")]
    return Sheet(WIDTH).row([picture for pair in pictures for picture in pair], captions).image()


def save_concept(runs: Runs) -> Image.Image:
    run = runs.of("core_full")
    sheet = Sheet(WIDTH).line(run.text("Save Concept"), 15, mono=True)
    return sheet.row(run.pictures("After stage 2 (pictures)")[:1], ["the picture in the file"], side=200).image()


def load_concept(runs: Runs) -> Image.Image:
    run = runs.of("load_shared_concept")
    sheet = Sheet(WIDTH).line(run.inputs("CoReLoadConcept")["file"], 15, accent=True, mono=True)
    pictures = [*run.pictures("CoReLoadConcept")[:1], *run.pictures("SaveImage")]
    return sheet.row(pictures, ["its picture", "“… in the snow”, with it", ""]).image()


def scorecard(_: Runs) -> Image.Image:
    """What the identity scores look at; the scores themselves need CLIP and DINO, which the project has not."""
    load_package("core_personalization", ROOT)
    load_package("lab", ROOT / "lab")
    from core_personalization.core_ops.scores import non_subject_segment, subject_segment

    from lab.world.drawing import concepts, render

    scenes = [render.render(scene) for scene in concepts.references(CONCEPT.name)]
    sheet = Sheet(WIDTH).line("references", 15, accent=True).row([scene.image for scene in scenes])
    sheet.line("reference_masks", 15, accent=True).row([scene.mask for scene in scenes])
    for title, segment in (("SA compares with", subject_segment), ("NSD compares with", non_subject_segment)):
        sheet.line(title, 15, accent=True).row([segment_of(scene, segment) for scene in scenes])
    return sheet.image()


def segment_of(scene: Any, segment: Callable[[Tensor, Tensor], Tensor]) -> Image.Image:
    picture, mask = (torch.from_numpy(np.array(image) / 255) for image in (scene.image, scene.mask))
    cut = segment(picture.movedim(-1, 0), mask).movedim(0, -1)
    return Image.fromarray((cut.numpy() * 255).round().astype(np.uint8))


def evaluation_prompts(runs: Runs) -> Image.Image:
    run = runs.of("scorecard")
    prompts = run.inputs("CoReEvaluationPrompts")["own_prompts"].splitlines()
    pictures, sheet = run.pictures("SaveImage"), Sheet(WIDTH)
    for start in range(0, len(prompts), 5):
        row = slice(start, start + 5)
        sheet.row(pictures[row], prompts[row])
    return sheet.image()


def curves(losses: Mapping[str, Sequence[float]]) -> Image.Image:
    """The terms over the steps, and their shares of the gradient."""
    figure = Figure((WIDTH / 100, 4.4), 200, layout="constrained")
    titles = {
        "diffusion": f"diffusion (mean of {SMOOTHED} steps)",
        "context_embedding": "context_embedding",
        "context_attention": "context_attention",
    }
    axes = figure.subplots(2, 2).flat
    for axis, (term, title) in zip(axes, titles.items(), strict=False):
        values = np.array(losses[term])
        if term == "diffusion":
            values = np.convolve(values, np.ones(SMOOTHED) / SMOOTHED, mode="valid")
        axis.plot(np.arange(len(losses[term]) - len(values), len(losses[term])) + 1, values, color="#c9822b")
        axis.set_title(title, fontsize=9, loc="left")
    for term in titles:
        shares = losses[f"gradient_share.{term}"]
        axes[3].plot([1, *range(10, 10 * len(shares), 10)], shares, label=term)
    axes[3].set_title("gradient_share", fontsize=9, loc="left")
    axes[3].legend(fontsize=7, frameon=False)
    for axis in axes:
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


HELP_PICTURES: Mapping[str, Callable[[Runs], Image.Image]] = {
    "CoReTrainEmbedding": train_embedding,
    "CoReUNetIdentityFinetune": unet_identity_finetune,
    "CoReTestTimeOptimize": test_time_optimize,
    "CoReContextAttentionProbe": context_attention_probe,
    "CoReAttentionMaps": attention_maps,
    "CoReContextSimilarity": context_similarity,
    "CoReSelectiveCaption": selective_caption,
    "CoReConceptPrompt": concept_prompt,
    "CoReSaveConcept": save_concept,
    "CoReLoadConcept": load_concept,
    "CoReEvaluationPrompts": evaluation_prompts,
    "CoReScorecard": scorecard,
}
