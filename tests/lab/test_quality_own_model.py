"""The benchmark on somebody's own checkpoint and photos, end to end with small random models."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from families.build import FAMILIES, save_half
from families.vision import save_clip, save_dino
from preparation.by_place import ROOT

from lab.quality.protocol import OWN, PROTOCOLS

PHOTOS = ROOT / "lab" / "assets" / "concepts" / "patchwork-dog"
FEW = (
    "from dataclasses import replace; import runpy, sys; from lab.quality import pipeline; "
    "pipeline.OWN = replace(pipeline.OWN, sampling_steps=1, pictures_per_prompt=1, class_images=1); "
    "sys.argv[0] = 'lab'; runpy.run_module('lab', run_name='__main__', alter_sys=False)"
)


@pytest.fixture(scope="module")
def given(comfyui_path: Path, tmp_path_factory) -> list[str]:
    """Arguments: a checkpoint, four photos of which the first has a caption, a CLIP and a DINO."""
    folder = tmp_path_factory.mktemp("own")
    save_half(FAMILIES["sd1"], folder / "mine.safetensors")
    shutil.copytree(PHOTOS, folder / "my-dog")
    (folder / "my-dog" / "0.txt").write_text("a photo of a dog on the sofa")
    clip, dino = save_clip(folder / "clip", comfyui_path / "comfy" / "sd1_tokenizer"), save_dino(folder / "dino")
    return [
        "quality", f"--checkpoint={folder / 'mine.safetensors'}", "--photos", str(folder / "my-dog"), "dog", "animate",
        "--resolution=64", f"--clip={clip}", f"--dino={dino}", f"--folder={folder / 'runs'}",
        *(f"--set={each}" for each in ("steps=1", "batch_size=1", "precision=fp32", "finetune.rank=2")),
    ]  # fmt: skip


def command(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", FEW, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.host
def test_methods_are_compared_on_ones_own_model(given):
    chosen = ("TI + DreamBooth, LoRA", "CoRe fast, LoRA")
    methods = [word for name in chosen for word in ("--method", name)]
    first = command([*given, *methods])
    assert first.returncode == 0, first.stderr[-3000:]
    assert first.stdout.count("my-dog, photos, seed 0: ") == len(chosen)
    assert "Difference from TI + DreamBooth, LoRA, same" in first.stdout
    (folder,) = (Path(each.removeprefix("--folder=")) for each in given if each.startswith("--folder="))
    own = folder / "own"
    rows = list(csv.DictReader((own / "own_pictures.csv").open()))
    assert len(rows) == 20 * len(chosen)
    assert all(row[name] for row in rows for name in ("text_alignment", "clip_t"))
    assert 0 < sum(row["dino"] == "" for row in rows) < len(rows), "not where the prompt asks for another look"
    assert {file.name for file in own.glob("*.webp")} == {"quality_own.webp", "quality_own_pictures.webp"}
    second = command([*given, *methods])
    assert second.returncode == 0 and "my-dog, photos" not in second.stdout
    assert second.stdout.strip() == (own / "own.md").read_text("utf-8").strip()
    assert json.loads((own / "protocol.json").read_text())["checkpoint"][0] == "mine.safetensors"


REFUSED = {
    "--checkpoint=none.safetensors": "checkpoint: there is no file none.safetensors",
    "--photos nowhere dog animate": "photos: there is no folder nowhere",
    "--photos lab/assets/concepts/striped-teapot teapot thing": "photos: 'thing' is no kind",
    "--set=stepps=1": "set: 'stepps' is no input of embedding or finetune",
    "--set=embedding.rank=1": "set: 'embedding.rank' is no input of embedding or finetune",
    "--clip=nowhere": "clip_model: ",
    "--protocol=smoke": "protocol: a checkpoint of your own has one of its own",
}
EACH_IS_REFUSED = """
import argparse, json, sys
from lab.commands import quality
parser = argparse.ArgumentParser()
quality.add_arguments(parser)
for more, sentence in json.loads(sys.argv[1]).items():
    try:
        quality.run(parser.parse_args([*sys.argv[2:], *more.split()]))
    except ValueError as error:
        assert str(error).startswith(sentence), error
    else:
        raise AssertionError(more)
"""
CAPTIONS_ARE_THERE_TO_TRAIN_ON = """
import argparse, dataclasses, sys
from pathlib import Path
from lab.commands import quality
from lab.quality.own_model import OwnModel
from lab.quality.protocol import OWN
parser = argparse.ArgumentParser()
quality.add_arguments(parser)
given = parser.parse_args(sys.argv[2:])
as_dog = OwnModel.given(given, Path(sys.argv[1])).about()
given.photos = [[given.photos[0][0], "cat", "animate"]]
assert OwnModel.given(given, Path(sys.argv[1])).about() != as_dog
given.photos[0][1] = "dog"
assert OwnModel.given(given, Path(sys.argv[1])).about() == as_dog
for photos, found in ((given.photos[0], 2), (["lab/assets/concepts/striped-teapot", "teapot", "inanimate"], 0)):
    given.photos = [photos]
    own = OwnModel.given(given, Path(sys.argv[1]))
    cells = list(own.cells(dataclasses.replace(OWN, concepts=tuple(own.subjects))))
    assert sum(cell.method.sid_captions for cell in cells) == found, photos
    assert all(cell.captions() in (None, ["a photo of a {} on the sofa", "", "", ""]) for cell in cells)
"""


@pytest.mark.host
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(given):
    words = ["-c", EACH_IS_REFUSED, json.dumps(REFUSED), *given[1:], "--method", "CoRe fast"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "seed 0" not in done.stdout, done.stderr[-3000:]


@pytest.mark.host
def test_methods_with_captions_are_left_out_where_the_photos_have_none(given, tmp_path):
    words = ["-c", CAPTIONS_ARE_THERE_TO_TRAIN_ON, str(tmp_path), *given[1:]]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


NODES_TAKE_WHAT_IS_PUBLISHED = """
import sys
from pathlib import Path
from lab.comfyui import start
start(Path(sys.argv[1]))
from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
from core_personalization.nodes.finetune.finetune_settings import FinetuneSettings
from core_personalization.nodes.settings import validated
from lab.quality.methods import METHODS
from lab.quality.protocol import OWN, Cell
from lab.quality.subjects import DIVERSE, Thing
from lab.quality.training import Trainer, embedding_settings
trainer = Trainer(None, OWN, Path())
for method in METHODS.values():
    cell = Cell(method, Thing("striped-cat"), DIVERSE, 0)
    if method.embedding:
        validated(EmbeddingSettings, {"concept_name": "x", **embedding_settings(OWN, cell)})
    for stage in method.finetunes:
        chosen = validated(FinetuneSettings, {"name": "x", **trainer.finetune_settings(cell, stage)})
"""


@pytest.mark.host
def test_the_nodes_take_what_each_method_is_published_with(comfyui_path, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", NODES_TAKE_WHAT_IS_PUBLISHED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert OWN.published and not any(protocol.published for protocol in PROTOCOLS.values())
