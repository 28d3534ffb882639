"""Per node the picture of its help page."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from driver.mini_world import CONCEPT
from matplotlib.figure import Figure
from PIL import Image
from preparation.by_place import ROOT, load_package
from torch import Tensor

from .runs import ATTENTION, CAPTIONS, IGNORED, QUICK_START, SCORE, SHARED, SIDE_BY_SIDE, WORD_AND_LORA, Runs
from .sheet import ACCENT, PANEL, Sheet
from .thumbnails import DREAMBOOTH, LAYERS, TWO_PETS, references

WIDTH = 560


def train_embedding(runs: Runs) -> Image.Image:
    run = runs.of(QUICK_START)
    name = run.inputs("CoReTrainEmbedding")["concept_name"]
    sheet = Sheet(WIDTH).row(references()).line(f"four pictures become embedding:{name}", 17, accent=True)
    return sheet.wide(run.pictures("CoReTrainEmbedding")[0]).image()


def unet_identity_finetune(runs: Runs) -> Image.Image:
    before, after = (runs.of(WORD_AND_LORA).pictures(f"{when} (pictures)") for when in ("Before", "After"))
    sheet = Sheet(WIDTH).row(references()).line("the same prompt and seeds, before and after", 17, accent=True)
    return sheet.row([*before, *after], ["the embedding alone", "", "with the LoRA", ""]).image()


def also_train(runs: Runs) -> Image.Image:
    preview = runs.of(TWO_PETS).pictures("The looks of both")[0]
    return Sheet(WIDTH).line("one LoRA: each in four prompts, then both", 17, accent=True).wide(preview).image()


def test_time_optimize(runs: Runs) -> Image.Image:
    run = runs.of(IGNORED)
    before, after = (run.pictures(f"{title} (pictures)") for title in ("As it is", "Refined"))
    sheet = Sheet(WIDTH).row([*before, *after], ["as it is", "", "refined for this prompt", ""])
    rows = re.findall(r"\| ([\w ()]+) \| (0\.\d+) \| (0\.\d+) \|\n", run.text("What was refined") + "\n")
    return sheet.wide(read_before_and_after(rows)).image()


def read_before_and_after(rows: list[tuple[str, str, str]]) -> Image.Image:
    """rows: of each word its similarity before and after."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    for column, label, colour in ((1, "as it is", "0.6"), (2, "refined for this prompt", "#e08a00")):
        axes.plot([row[0] for row in rows], [float(row[column]) for row in rows], "o-", label=label, color=colour)
    axes.set_ylabel("similarity")
    axes.set_title("how each word is read, compared with the same prompt with “dog”", fontsize=10)
    axes.legend(fontsize=9)
    axes.grid(alpha=0.3)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    return Image.open(drawn).convert("RGB")


def context_attention_probe(runs: Runs) -> Image.Image:
    run = runs.of(ATTENTION)
    frames = run.frames("Step by step")
    steps = len(frames) // len(run.pictures("Concept above, its kind below"))
    chosen = (1, steps // 3, steps)
    return (
        Sheet(WIDTH).row([frames[step - 1] for step in chosen], [f"step {step} of {steps}" for step in chosen]).image()
    )


def attention_maps(runs: Runs) -> Image.Image:
    return Sheet(WIDTH).wide(runs.of(ATTENTION).pictures("Concept above, its kind below")[0]).image()


def attention_sheet(runs: Runs) -> Image.Image:
    return runs.of(SIDE_BY_SIDE).pictures("Side by side")[0]


def context_similarity(runs: Runs) -> Image.Image:
    return Sheet(WIDTH).wide(runs.of(IGNORED).pictures("CoReContextSimilarity")[0]).image()


def selective_caption(runs: Runs) -> Image.Image:
    lines = runs.template(CAPTIONS).inputs("CoReSelectiveCaption")["own_captions"].splitlines()
    return Sheet(WIDTH).row(references(), lines).image()


def concept_images(runs: Runs) -> Image.Image:
    """As the node shows a folder: the references, two of them with their masks and captions."""
    load_package("core_personalization", ROOT)
    load_package("lab", ROOT / "lab")
    from core_personalization.nodes.contact_sheet import Shown, contact_sheet

    from lab.world.drawing import concepts, render

    scenes = [render.render(scene) for scene in concepts.references(CONCEPT)]
    captions = runs.template(CAPTIONS).inputs("CoReSelectiveCaption")["own_captions"].splitlines()
    shown = []
    for number, (scene, caption) in enumerate(zip(scenes, captions, strict=True), start=1):
        pixels, mask = (torch.from_numpy(np.array(image) / 255) for image in (scene.image, scene.mask))
        title = f"dog-{number}.png {scene.image.width}×{scene.image.height}"
        shown.append(Shown(pixels, mask if number % 2 else None, title, caption))
    return Image.fromarray((contact_sheet(shown)[0].numpy() * 255).round().astype(np.uint8))


def concept_prompt(runs: Runs) -> Image.Image:
    run = runs.of(QUICK_START)
    template = run.inputs("CoReConceptPrompt")["template"]
    return Sheet(WIDTH).row(run.pictures("SaveImage"), [template, ""]).image()


def apply_concept(runs: Runs) -> Image.Image:
    run = runs.of(LAYERS)
    template = run.inputs("CoReApplyConcept")["template"]
    return Sheet(WIDTH).row(run.pictures("SaveImage"), [template, ""]).image()


def concept_from_words(runs: Runs) -> Image.Image:
    before, after = (runs.of(DREAMBOOTH).pictures(f"{when} (pictures)") for when in ("Before", "After"))
    return Sheet(WIDTH).row([*before, *after], ["“sks dog”, as the model knows it", "", "with its LoRA", ""]).image()


def save_concept(runs: Runs) -> Image.Image:
    run = runs.of(WORD_AND_LORA)
    sheet = Sheet(WIDTH).line(run.text("One file to share"), 15, mono=True)
    return sheet.row(run.pictures("After (pictures)")[:1], ["the picture in the file"], side=200).image()


def load_concept(runs: Runs) -> Image.Image:
    run = runs.of(SHARED)
    sheet = Sheet(WIDTH).line(run.inputs("CoReLoadConcept")["file"], 15, accent=True, mono=True)
    pictures = [*run.pictures("CoReLoadConcept")[:1], *run.pictures("SaveImage")]
    return sheet.row(pictures, ["its picture", "“… in the jungle”, with it", ""]).image()


def load_timestep_lora(_: Runs) -> Image.Image:
    """Ranks upwards, timesteps to the right as a sampler goes through them."""
    load_package("core_personalization", ROOT)
    from core_personalization.core_ops.weights.timestep_rank import RankSchedule

    counts = RankSchedule(64, 32).mask(torch.linspace(999, 0, 268)).T.flip(0).bool()
    colours = torch.where(counts.unsqueeze(-1), torch.tensor(ACCENT), torch.tensor(PANEL)).to(torch.uint8)
    picture = Image.fromarray(colours.numpy()).resize((536, 192), Image.Resampling.NEAREST)
    sheet = Sheet(WIDTH).line("which of a T-LoRA's 64 ranks draw", 17, accent=True).wide(picture)
    return sheet.line("from pure noise on the left to the finished picture on the right").image()


def scorecard(_: Runs) -> Image.Image:
    """What the identity scores look at; the scores themselves need CLIP and DINO, which the project has not."""
    load_package("core_personalization", ROOT)
    load_package("lab", ROOT / "lab")
    from core_personalization.core_ops.scores import non_subject_segment, subject_segment

    from lab.world.drawing import concepts, render

    scenes = [render.render(scene) for scene in concepts.references(CONCEPT)]
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
    run = runs.of(SCORE)
    prompts = run.inputs("CoReEvaluationPrompts")["own_prompts"].splitlines()
    pictures, sheet = run.pictures("SaveImage"), Sheet(WIDTH)
    for start in range(0, len(prompts), 5):
        row = slice(start, start + 5)
        sheet.row(pictures[row], prompts[row])
    return sheet.image()


def blind_vote(_: Runs) -> Image.Image:
    """The page as a browser shows it, with two pictures of the mini world."""
    load_package("core_personalization", ROOT)
    load_package("lab", ROOT / "lab")
    from core_personalization.nodes.votes.ballot import Pair
    from core_personalization.nodes.votes.ballot_page import jpeg_of, page
    from playwright.sync_api import sync_playwright

    from lab.world.drawing.concepts import CONCEPTS
    from lab.world.drawing.render import Scene, render

    kind, appearance = CONCEPTS[CONCEPT]
    scenes = (
        Scene(kind, appearance, "on the beach", seed=7),
        Scene(kind, CONCEPTS["split-dog"][1], "on the beach", "hat"),
    )
    left, right, *shown = (
        jpeg_of(torch.from_numpy(np.array(picture.resize((256, 256), Image.Resampling.BICUBIC)) / 255), 512)
        for picture in (*(render(scene).image for scene in scenes), *references())
    )
    pair = Pair(0, "a photo of a dog wearing a hat on the beach", "left")
    content = page("0" * 16, shown, [pair], [(left, right)])
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 800, "height": 672}, locale="en")
        window.set_content(content)
        window.get_by_role("button", name="Left", exact=True).first.click()
        drawn = window.screenshot()
    return Image.open(io.BytesIO(drawn)).convert("RGB")


def vote_results(_: Runs) -> Image.Image:
    """The chart, of votes that nobody gave."""
    load_package("core_personalization", ROOT)
    from core_personalization.nodes.votes.ballot import Key, Pair
    from core_personalization.nodes.votes.vote_counting import Count, Share
    from core_personalization.nodes.votes.vote_report import vote_chart

    shares = {"concept": Share(57, 80), "prompt": Share(46, 80), "both": Share(103, 160)}
    chart = vote_chart(Key("", ("method A", "method B"), (Pair(0, "", "left"),)), Count(shares, Share(1, 2), 4, []))
    return Image.fromarray((chart[0].numpy() * 255).round().astype(np.uint8))


HELP_PICTURES: Mapping[str, Callable[[Runs], Image.Image]] = {
    "CoReTrainEmbedding": train_embedding,
    "CoReUNetIdentityFinetune": unet_identity_finetune,
    "CoReAlsoTrain": also_train,
    "CoReTestTimeOptimize": test_time_optimize,
    "CoReContextAttentionProbe": context_attention_probe,
    "CoReAttentionMaps": attention_maps,
    "CoReAttentionSheet": attention_sheet,
    "CoReContextSimilarity": context_similarity,
    "CoReSelectiveCaption": selective_caption,
    "CoReConceptImages": concept_images,
    "CoReConceptPrompt": concept_prompt,
    "CoReApplyConcept": apply_concept,
    "CoReConceptFromWords": concept_from_words,
    "CoReSaveConcept": save_concept,
    "CoReLoadConcept": load_concept,
    "CoReLoadTimestepLora": load_timestep_lora,
    "CoReEvaluationPrompts": evaluation_prompts,
    "CoReScorecard": scorecard,
    "CoReBlindVote": blind_vote,
    "CoReVoteResults": vote_results,
}
