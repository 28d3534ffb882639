"""Every template as somebody with a checkpoint of SD 1.5's or SDXL's full size meets it, from the registry's archive.

Checkpoint and photos are chosen, then it runs with few steps. Random weights; minutes a template. SDXL's needs 24 GB.
"""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from browser.editor import Editor
from driver import quick_start
from driver.base_folder import BaseFolder
from driver.server import ComfyUIServer
from families.build import save_half
from pack_archive import pack_archive
from PIL import Image
from preparation.pack_link import PACK_FOLDER
from safetensors import safe_open

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # of comfy-cli
]
MINE, FOLDER = "my-checkpoint.safetensors", "my-photos"
CHOSEN = {"ckpt_name": MINE, "folder": FOLDER}
FEW = {"overwrite": True, "batch_size": 1, "gradient_accumulation": 1, "augmentation": 0, "preview_every": 0}
SHORT = {
    "CoReTrainEmbedding": {**FEW, "steps": 2},
    "CoReUNetIdentityFinetune": {**FEW, "steps": 1},
    "CoReTestTimeOptimize": {"steps": 1, "batch_size": 1},
    "KSampler": {"steps": 1},
    "EmptyLatentImage": {"batch_size": 1},
}
TEMPLATES = sorted(
    (file.stem for file in quick_start.TEMPLATES.glob("*.json") if not file.stem.startswith(("Score", "Train SDXL"))),
    key=lambda name: (not name.startswith("Train"), name),
)
"""Those that train first: the others use what they made. Scores need models that only the network has."""
PATIENCE = 6_000
"""Seconds, of one template."""
_SET = """([types, subgraphs]) => {
    const set = (graph) => graph.nodes.forEach((node) => {
        for (const [name, value] of Object.entries(types[node.type] ?? {})) {
            const widget = node.widgets?.find((widget) => widget.name === name);
            if (widget) widget.value = value;
        }
        if (node.subgraph) {
            for (const widget of node.widgets) if (widget.name in subgraphs) widget.value = subgraphs[widget.name];
            set(node.subgraph);
        }
    });
    set(app.rootGraph ?? app.graph);
}"""


@pytest.fixture(scope="module")
def editor(window, comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    with fresh_comfyui(window, comfyui_path, tmp_path_factory.mktemp("sd15"), "SD15") as opened:
        yield opened


@contextmanager
def fresh_comfyui(window: Page, comfyui_path: Path, folder: Path, family: str) -> Iterator[Editor]:
    """With the archive unpacked in it, a checkpoint and a folder of photos; no mini world."""
    base = BaseFolder.make(folder / "comfyui", with_pack=False)
    from lab.speed import sizes

    # In a process of its own: what it took is given back, and ComfyUI needs it.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        process.submit(save_half, getattr(sizes, family), base.checkpoints / MINE).result()
    photos = base.input / FOLDER
    photos.mkdir()
    for number in range(4):
        pixels = torch.rand(6, 8, 3, generator=torch.Generator().manual_seed(number))
        Image.fromarray((pixels * 255).byte().numpy()).resize((1600, 1200)).save(photos / f"{number}.jpg")
    shutil.copyfile(photos / "0.jpg", base.input / "example.png")
    with zipfile.ZipFile(pack_archive(folder)) as files:
        files.extractall(base.path / "custom_nodes" / PACK_FOLDER)
    with ComfyUIServer(comfyui_path, base) as server:
        opened = Editor.open(window, server.address)
        opened.base = base
        yield opened


@pytest.mark.parametrize("template", TEMPLATES)
def test_it_trains_and_draws_at_the_models_own_size(editor, template):
    trains_and_draws(editor, template, 512)


@pytest.mark.parametrize("side", [256, 1024])
def test_sdxl_trains_and_draws(window, comfyui_path, tmp_path_factory, side):
    """At 1024, its own size, it needs 24 GB for itself and an hour; the same weights at 256 some minutes."""
    with fresh_comfyui(window, comfyui_path, tmp_path_factory.mktemp("sdxl"), "SDXL") as editor:
        trains_and_draws(editor, "Train SDXL - word and LoRA", side, resolution=0 if side == 1024 else side)


def trains_and_draws(editor: Editor, template: str, side: int, resolution: int = 0) -> None:
    base: BaseFolder = editor.base
    editor.load(json.loads((quick_start.TEMPLATES / f"{template}.json").read_text(encoding="utf-8")), template)
    choices = {type: CHOSEN for type in ("CheckpointLoaderSimple", "CoReConceptImages")}
    editor.evaluate(_SET, [choices, {}])
    editor.evaluate(_SET, [SHORT, {"steps": 1, "batch_size": 1}])
    if resolution:
        editor.evaluate(_SET, [{type: {"resolution": resolution} for type in SHORT}, {}])
    before = pictures_in(base)
    answer = editor.run()
    assert answer["node_errors"] == {}
    wait_until_done(editor, answer["prompt_id"])
    drawn = pictures_in(base) - before
    saved = [file for file in drawn if file.suffix == ".png" and file.is_relative_to(base.output)]
    assert drawn and {Image.open(file).size for file in saved} <= {(side, side)}
    for embedding in base.embeddings.glob("*.safetensors"):
        assert resolution_of(embedding) == side
    assert editor.errors == []


def pictures_in(base: BaseFolder) -> set[Path]:
    """Saved ones, and animations of attention maps and sheets on nodes, which have a size of their own."""
    return {*base.output.rglob("*.png"), *base.output.rglob("*.webp"), *base.temporary.rglob("*.png")}


def wait_until_done(editor: Editor, prompt_id: str) -> None:
    until = time.monotonic() + PATIENCE
    history_of = f"http://{editor.address}/api/history/{prompt_id}"
    while not (history := editor.page.request.get(history_of, timeout=1000 * PATIENCE).json()):
        assert time.monotonic() < until
        editor.page.wait_for_timeout(1000)
    status: dict[str, Any] = history[prompt_id]["status"]
    assert status["status_str"] == "success", status["messages"]


def resolution_of(embedding: Path) -> int:
    with safe_open(embedding, "pt") as file:
        return json.loads(file.metadata()["core_personalization.resolution"])
