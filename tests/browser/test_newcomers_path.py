"""A newcomer's path, timed: from the registry's archive in a fresh ComfyUI to pictures, by mouse alone."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from browser.editor import Editor
from browser.test_templates import CATEGORY
from driver import quick_start
from driver.base_folder import BaseFolder
from driver.checkpoint import provide_checkpoint
from driver.server import ComfyUIServer
from pack_archive import pack_archive
from preparation.pack_link import PACK_FOLDER
from preparation.timeline import Timeline

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # of comfy-cli
]
CHECKPOINT, FOLDER = "my-checkpoint.safetensors", "my-dog"
LOADER, PICTURES, TRAINING, DRAWN = 2, 3, 4, 11
TRAINING_PATIENCE = 900_000  # In milliseconds; all of the template's steps.


@pytest.fixture
def fresh(tmp_path: Path) -> BaseFolder:
    """A ComfyUI's folders before the pack is installed: with a user's own checkpoint and four pictures."""
    base = BaseFolder.make(tmp_path / "comfyui", with_pack=False)
    provide_checkpoint(base.checkpoints / CHECKPOINT)
    shutil.copytree(quick_start.CONCEPT_IMAGES / "patchwork-dog", base.input / FOLDER)
    return base


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack_archive(tmp_path)


def open_template(editor: Editor) -> None:
    """From the browser of templates, which ComfyUI shows when it is opened for the first time."""
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text(CATEGORY).first.click()
    dialog.get_by_text(quick_start.WORKFLOW.stem, exact=True).first.click()
    editor.page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'CoReTrainEmbedding')")


def test_from_installing_the_pack_to_pictures_of_the_concept(fresh, archive, window, comfyui_path, tmp_path_factory):
    screenshots = tmp_path_factory.getbasetemp() / "screenshots"
    path = Timeline()
    with zipfile.ZipFile(archive) as files:  # What ComfyUI's manager does.
        files.extractall(fresh.path / "custom_nodes" / PACK_FOLDER)
    with ComfyUIServer(comfyui_path, fresh) as server:
        path.say("ComfyUI answers")
        editor = Editor(window, server.address)
        editor.go()
        window.get_by_role("dialog").get_by_text(CATEGORY).first.wait_for()
        path.say("its templates are shown")
        open_template(editor)
        path.say("template open")
        window.screenshot(path=screenshots / "newcomer_template.jpg", quality=60)
        editor.choose(LOADER, "ckpt_name", CHECKPOINT)
        editor.choose(PICTURES, "folder", FOLDER)
        path.say("checkpoint and folder chosen")
        editor.use_mini_world(["CoReTrainEmbedding", "KSampler", "EmptyLatentImage"])
        assert editor.run()["node_errors"] == {}
        editor.wait_for_text(TRAINING, "embedding:", TRAINING_PATIENCE)
        path.say("trained")
        editor.wait_for_pictures(DRAWN, 2)
        path.say("two pictures of the concept on the node")
        window.screenshot(path=screenshots / "newcomer_pictures.jpg", quality=60)
    assert len(list(fresh.output.glob("*.png"))) == 2
    assert (fresh.embeddings / "my-dog.safetensors").is_file()
