"""Per example workflow the picture that the template browser shows: what goes in above, what comes out below."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PIL import Image
from preparation.installation import ROOT

from .runs import Runs
from .sheet import Sheet

SIDE = 440
"""Shown 254 pixels wide, on some screens with twice as many dots."""
CONCEPT = ROOT / "lab" / "assets" / "concepts" / "patchwork-dog"


def references() -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in sorted(CONCEPT.glob("*.png"))]


def given() -> Sheet:
    return Sheet(SIDE).row(references())


def quick_start(runs: Runs) -> Image.Image:
    run = runs.of("quick_start")
    pictures = [run.pictures(f"Pictures in the {place}")[0] for place in ("jungle", "snow")]
    sheet = given().line(f"embedding:{run.inputs('CoReTrainEmbedding')['concept_name']}", accent=True, mono=True)
    return sheet.row(pictures, ["in the jungle", "in the snow"]).image(SIDE)


def core_full(runs: Runs) -> Image.Image:
    run = runs.of("core_full")
    pictures = [run.pictures(f"After stage {stage} (pictures)")[0] for stage in ("1 alone", "2")]
    sheet = given().line("a word, then its looks", accent=True)
    return sheet.row(pictures, ["after stage 1", "after stage 2"]).image(SIDE)


def attndreambooth(runs: Runs) -> Image.Image:
    run = runs.of("attndreambooth")
    pictures = [run.pictures(f"After stage {stage} (pictures)")[0] for stage in (2, 3)]
    sheet = given().line("word, attention, looks", accent=True)
    return sheet.row(pictures, ["after stage 2", "after stage 3"]).image(SIDE)


def dreambooth_lora(runs: Runs) -> Image.Image:
    run = runs.of("dreambooth_lora")
    pictures = [run.pictures(f"{which} the LoRA (pictures)")[0] for which in ("Without", "With")]
    return given().line("sks dog, as a LoRA", accent=True).row(pictures, ["without", "with the LoRA"]).image(SIDE)


def custom_diffusion(runs: Runs) -> Image.Image:
    sheet = given().line("keys, values and a word", accent=True)
    return sheet.row(runs.of("custom_diffusion").pictures("The concept (pictures)"), ["in the snow", ""]).image(SIDE)


def load_shared_concept(runs: Runs) -> Image.Image:
    run = runs.of("load_shared_concept")
    sheet = Sheet(SIDE).line("one file: word, LoRA, picture, card", accent=True)
    sheet.row(run.pictures("CoReLoadConcept")[:1], [run.inputs("CoReLoadConcept")["file"]], side=150)
    return sheet.row(run.pictures("SaveImage"), ["in the snow", ""], side=150).image(SIDE)


def sid_captions(runs: Runs) -> Image.Image:
    lines = runs.template("sid_captions").inputs("CoReSelectiveCaption")["own_captions"].splitlines()
    sheet = Sheet(SIDE).line("say everything but the dog", accent=True)
    return sheet.row(references()[1:3], [f"“{line}”" for line in lines[1:3]]).image(SIDE)


def attention_probe(runs: Runs) -> Image.Image:
    sheet = Sheet(SIDE).line("where does it look?", accent=True)
    page = runs.of("attention_probe").pictures("Concept above, super-category below")[0]
    return sheet.wide(page, 380).image(SIDE)


def why_is_my_word_ignored(runs: Runs) -> Image.Image:
    run = runs.of("why_is_my_word_ignored")
    pictures = [run.pictures(f"{title} (pictures)")[0] for title in ("As it is", "Mended")]
    sheet = Sheet(SIDE).row(pictures, ["as it is", "mended for this prompt"], side=170)
    return sheet.wide(run.pictures("Similarity of the words around")[0]).image(SIDE)


def scorecard(runs: Runs) -> Image.Image:
    pictures = runs.of("scorecard").pictures("SaveImage")
    sheet = Sheet(SIDE).line("one concept, 20 prompts, six scores", accent=True)
    for start in range(0, 20, 5):
        sheet.row(pictures[start : start + 5])
    return sheet.image(SIDE)


def sdxl(runs: Runs) -> Image.Image:
    """The project has no SDXL model: what goes in, and what the template does with it."""
    steps = runs.template("sdxl").inputs("CoReUNetIdentityFinetune")
    sheet = given().space(20).line("SDXL", 96, accent=True).space(10).line("at 1024 pixels: a word in both", 22)
    return sheet.line(f"text encoders, a LoRA of rank {steps['rank']}", 22).image(SIDE)


THUMBNAILS: Mapping[str, Callable[[Runs], Image.Image]] = {
    draw.__name__: draw
    for draw in (
        quick_start,
        core_full,
        attndreambooth,
        dreambooth_lora,
        custom_diffusion,
        load_shared_concept,
        sid_captions,
        attention_probe,
        why_is_my_word_ignored,
        scorecard,
        sdxl,
    )
}
