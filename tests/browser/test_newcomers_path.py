"""A newcomer's path, timed: from the registry's archive in a fresh ComfyUI to pictures, by mouse alone."""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from browser.editor import Editor
from driver import quick_start
from driver.base_folder import BaseFolder
from driver.checkpoint import provide_checkpoint
from driver.server import ComfyUIServer
from pack_archive import pack_archive
from preparation.pack_link import PACK_FOLDER

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # of comfy-cli
]
CHECKPOINT, FOLDER = "my-checkpoint.safetensors", "my-dog"
LOADER, PICTURES, TRAINING, FIRST, LAST = 2, 3, 4, 12, 17
_SHOWN = "([id, count]) => (app.graph.getNodeById(id).imgs ?? []).length === count"
_RESULT = """(id) => (app.graph.getNodeById(id).widgets.find((w) => w.name === '$$node-text-preview')?.value ?? '')
    .includes('embedding:')"""


@dataclass
class Timeline:
    """What was done, and after how many seconds from the first beginning it was there."""

    begun: float = field(default_factory=time.monotonic)
    rows: list[tuple[str, float]] = field(default_factory=list)

    def reached(self, what: str) -> None:
        self.rows.append((what, time.monotonic() - self.begun))

    def table(self) -> str:
        return "\n".join(["| Reached | After |", "|---|---|", *(f"| {what} | {s:.0f} s |" for what, s in self.rows)])


@pytest.fixture
def fresh(tmp_path: Path) -> BaseFolder:
    """A ComfyUI's folders before the pack is installed: with a user's own checkpoint and four pictures."""
    base = BaseFolder(tmp_path / "comfyui")
    for folder in (base.checkpoints, base.embeddings, base.output, base.path / "user", base.path / "custom_nodes"):
        folder.mkdir(parents=True)
    provide_checkpoint(base.checkpoints / CHECKPOINT)
    shutil.copytree(quick_start.CONCEPT_IMAGES / "patchwork-dog", base.input / FOLDER)
    return base


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack_archive(tmp_path)


@pytest.fixture
def page(chromium) -> Iterator[object]:
    context = chromium.new_context(viewport={"width": 1600, "height": 1000})
    yield context.new_page()
    context.close()


def open_template(editor: Editor) -> None:
    """From the browser of templates, which ComfyUI shows when it is opened for the first time."""
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text(PACK_FOLDER).first.click()
    dialog.get_by_text(quick_start.WORKFLOW.stem, exact=True).first.click()
    editor.page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'CoReTrainEmbedding')")


def test_from_installing_the_pack_to_pictures_of_the_concept(fresh, archive, page, comfyui_path, tmp_path_factory):
    kept = tmp_path_factory.getbasetemp() / "screenshots"
    path = Timeline()
    with zipfile.ZipFile(archive) as files:  # What ComfyUI's manager does.
        files.extractall(fresh.path / "custom_nodes" / PACK_FOLDER)
    path.reached("pack installed")
    with ComfyUIServer(comfyui_path, fresh) as server:
        path.reached("ComfyUI answers")
        editor = Editor(page, server.address)
        editor.go()
        page.get_by_role("dialog").get_by_text(PACK_FOLDER).first.wait_for()
        path.reached("its templates are shown")
        open_template(editor)
        path.reached("template open")
        page.screenshot(path=kept / "newcomer_template.jpg", quality=60)
        editor.choose(LOADER, "ckpt_name", CHECKPOINT)
        editor.choose(PICTURES, "folder", FOLDER)
        path.reached("checkpoint and folder chosen")
        assert editor.run()["node_errors"] == {}
        page.wait_for_function(_RESULT, arg=TRAINING, timeout=900_000)
        path.reached("trained: 100 steps, batch 6, 64 pixels")
        for node in (FIRST, LAST):
            page.wait_for_function(_SHOWN, arg=[node, 2], timeout=300_000)
        path.reached("four pictures of the concept on the nodes")
        page.screenshot(path=kept / "newcomer_pictures.jpg", quality=60)
    (kept / "newcomer.md").write_text(path.table(), encoding="utf-8")
    print("\n" + path.table())
    assert len(list(fresh.output.glob("*.png"))) == 4
    assert (fresh.embeddings / "patchwork-dog.safetensors").is_file()
