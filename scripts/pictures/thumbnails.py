"""Per example workflow the picture that the template browser shows: what goes in above, what comes out below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from driver.mini_world import CONCEPT, OTHER_CONCEPT
from PIL import Image, ImageFilter, ImageOps
from preparation.installation import ROOT
from templates.parts import NAME

from .runs import ATTENTION, CAPTIONS, IGNORED, QUICK_START, SCORE, SIDE_BY_SIDE, Runs
from .sheet import Sheet

Drawn = Callable[[Runs], Image.Image]
SIDE = 440
"""Shown 254 pixels wide, on some screens with twice as many dots."""
CONCEPTS = ROOT / "lab" / "assets" / "concepts"


def references(concept: str = CONCEPT) -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in sorted((CONCEPTS / concept).glob("*.png"))]


def given() -> Sheet:
    return Sheet(SIDE).row(references())


def quick_start(runs: Runs) -> Image.Image:
    run = runs.of("Train my dog - quick start")
    sheet = given().line(f"embedding:{run.inputs('CoReTrainEmbedding')['concept_name']}", accent=True, mono=True)
    return sheet.row(run.pictures("SaveImage"), ["in the jungle", ""]).image(SIDE)


def form(runs: Runs) -> Image.Image:
    run = runs.of("Train my dog - quick start")
    sheet = Sheet(SIDE).line("a form of five fields", accent=True)
    for words in ("checkpoint", "photos", "name", "what it is", "prompt"):
        sheet.line(f"▸ {words}", 20)
    return sheet.row(run.pictures("SaveImage"), ["in the jungle", ""], side=190).image(SIDE)


def compared(name: str, words: str, below: Sequence[str]) -> Drawn:
    """The same prompt before and after a training."""

    def draw(runs: Runs) -> Image.Image:
        pictures = [runs.of(name).pictures(f"{when} (pictures)")[0] for when in ("Before", "After")]
        return given().line(words, accent=True).row(pictures, below).image(SIDE)

    return draw


def drawn(name: str, words: str) -> Drawn:
    def draw(runs: Runs) -> Image.Image:
        return (
            given().line(words, accent=True).row(runs.of(name).pictures("SaveImage"), ["in the jungle", ""]).image(SIDE)
        )

    return draw


def two_methods(runs: Runs) -> Image.Image:
    run = runs.of(TWO_METHODS)
    pictures = [run.pictures(f"{which} method (pictures)")[0] for which in ("One", "Another")]
    return given().line("two methods, the same seed", accent=True).row(pictures, ["CoRe", "DTI"]).image(SIDE)


def style(_: Runs) -> Image.Image:
    """The mini world has no paintings to learn: what goes in, here the dog drawn with a pencil, and what is told."""
    sketches = [ImageOps.invert(picture.convert("L").filter(ImageFilter.FIND_EDGES)) for picture in references()]
    sheet = Sheet(SIDE).row(sketches).line("a word for how it is drawn", accent=True).space(10)
    for words in ("in the garden", "on the beach", "in the kitchen", "in the city"):
        sheet.line(f"a {{}} of a dog {words}", 18, mono=True)
    return sheet.image(SIDE)


def vote(runs: Runs) -> Image.Image:
    """With the pictures of the two words that the template opens."""
    run = runs.of(TWO_METHODS)
    pictures = [run.pictures(f"{which} method (pictures)")[0] for which in ("One", "Another")]
    sheet = given().line("which shows this dog better?", accent=True)
    return sheet.row(pictures, ["this one?", "or this one?"]).image(SIDE)


def against(rival: str) -> Callable[[Runs], Image.Image]:
    """The project has none of their models: what is compared."""

    def thumbnail(_: Runs) -> Image.Image:
        sheet = given().space(10).line("trained", 72, accent=True).space(10)
        sheet = sheet.line("or only looked at? A concept beside", 22)
        return sheet.line(f"{rival}: same prompts, same seeds", 22).image(SIDE)

    return thumbnail


def two_pets(runs: Runs) -> Image.Image:
    """The second thing that comes with the project is a teapot. Of the preview: beach and snow, of each."""
    preview = runs.of(TWO_PETS).pictures("The looks of both")[0]
    side = preview.width // 4
    places = [(side * (number % 4), side * (number // 4)) for number in (2, 3, 6, 7)]
    drawn = [preview.crop((left, top, left + side, top + side)) for left, top in places]
    sheet = Sheet(SIDE).row([*references()[:2], *references(OTHER_CONCEPT)[:2]])
    return sheet.line("two things, one LoRA", accent=True).row(drawn).image(SIDE)


def shared_concept(runs: Runs) -> Image.Image:
    run = runs.of("Use a shared concept")
    sheet = Sheet(SIDE).line("one file: word, LoRA, picture, card", accent=True)
    sheet.row(run.pictures("CoReLoadConcept")[:1], [run.inputs("CoReLoadConcept")["file"]], side=150)
    return sheet.row(run.pictures("SaveImage"), ["in the jungle", ""], side=150).image(SIDE)


def captions(runs: Runs) -> Image.Image:
    lines = runs.template(CAPTIONS).inputs("CoReSelectiveCaption")["own_captions"].splitlines()
    sheet = Sheet(SIDE).line("say everything but the dog", accent=True)
    return sheet.row(references()[1:3], [f"“{line}”" for line in lines[1:3]]).image(SIDE)


def attention(runs: Runs) -> Image.Image:
    page = runs.of(ATTENTION).pictures("Concept above, its kind below")[0]
    return Sheet(SIDE).line("where does it look?", accent=True).wide(page, 380).image(SIDE)


def side_by_side(runs: Runs) -> Image.Image:
    sheet = runs.of(SIDE_BY_SIDE).pictures("Side by side")[0]
    return Sheet(SIDE).line("the other words, side by side", accent=True).wide(sheet, 330).image(SIDE)


def ignored_word(runs: Runs) -> Image.Image:
    run = runs.of(IGNORED)
    pictures = [run.pictures(f"{title} (pictures)")[0] for title in ("As it is", "Refined")]
    sheet = Sheet(SIDE).row(pictures, ["as it is", "refined for this prompt"], side=170)
    return sheet.wide(run.pictures("CoReContextSimilarity")[0]).image(SIDE)


def score(runs: Runs) -> Image.Image:
    pictures = runs.of(SCORE).pictures("SaveImage")
    sheet = Sheet(SIDE).line("one concept, 20 prompts, six scores", accent=True)
    for start in range(0, 20, 5):
        sheet.row(pictures[start : start + 5])
    return sheet.image(SIDE)


def best_step(runs: Runs) -> Image.Image:
    """What a training leaves beside each saved step; scores need CLIP and DINO, which the project has not."""
    runs.of(QUICK_START)
    sheet = Sheet(SIDE).line("which saved step is best?", accent=True)
    for file in sorted((runs.server.base.embeddings / f"{NAME}-steps").glob("*.jpg"), key=lambda file: len(file.name)):
        sheet.line(file.stem, 14, mono=True).wide(Image.open(file).convert("RGB"), 160)
    return sheet.image(SIDE)


def sdxl(runs: Runs) -> Image.Image:
    """The project has no SDXL model: what goes in, and what the template does with it."""
    steps = runs.template("Train SDXL - word and LoRA").inputs("CoReUNetIdentityFinetune")
    sheet = given().space(20).line("SDXL", 96, accent=True).space(10).line("at 1024 pixels: a word in both", 22)
    return sheet.line(f"text encoders, a LoRA of rank {steps['rank']}", 22).image(SIDE)


WORD_AND_LORA, DREAMBOOTH = "Train my dog - word and LoRA", "Train a DreamBooth LoRA"
CUSTOM, THREE_STAGES = "Train with Custom Diffusion", "Train with AttnDreamBooth - three stages"
TWO_METHODS = "Train with two methods - side by side"
LAYERS = "Train a word by layer - XTI and NeTI"
TWO_PETS = "Train my dog and my cat - one LoRA"
THUMBNAILS: Mapping[str, Drawn] = {
    "Train my dog - quick start": quick_start,
    "Train my dog - form.app": form,
    WORD_AND_LORA: compared(WORD_AND_LORA, "a word, then its looks", ["the word", "with the LoRA"]),
    TWO_PETS: two_pets,
    "Train SDXL - word and LoRA": sdxl,
    THREE_STAGES: drawn(THREE_STAGES, "word, attention, looks"),
    DREAMBOOTH: compared(DREAMBOOTH, "sks dog, as a LoRA", ["without", "with the LoRA"]),
    CUSTOM: compared(CUSTOM, "keys, values and a word", ["before", "after"]),
    CAPTIONS: captions,
    TWO_METHODS: two_methods,
    "Train my style - from paintings": style,
    LAYERS: drawn(LAYERS, "a word for each layer"),
    "Use a shared concept": shared_concept,
    IGNORED: ignored_word,
    ATTENTION: attention,
    SIDE_BY_SIDE: side_by_side,
    SCORE: score,
    "Score by vote - which do people prefer": vote,
    "Score against PhotoMaker - no training": against("PhotoMaker"),
    "Score against FLUX.2 - no training": against("FLUX.2"),
    "Score saved steps - which is best": best_step,
}
