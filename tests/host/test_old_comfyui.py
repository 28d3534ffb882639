"""What the log of a ComfyUI that is too old says: this one, under an older version number."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from driver.base_folder import BaseFolder
from driver.client import ComfyUIClient
from driver.server import ComfyUIServer

SENTENCE = "CoRe Personalization needs ComfyUI 0.28.0 or newer, this is 0.24.0: update ComfyUI."


@pytest.fixture(scope="module")
def older(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders are links; files are copies, since Python takes a linked main.py for the one that it leads to."""
    folder = tmp_path_factory.mktemp("older")
    for entry in comfyui_path.iterdir():
        if entry.is_dir():
            (folder / entry.name).symlink_to(entry, target_is_directory=True)
        else:
            shutil.copy(entry, folder)
    (folder / "comfyui_version.py").write_text('__version__ = "0.24.0"\n')
    return folder


def test_the_log_says_it_and_no_node_is_offered(older, tmp_path):
    with ComfyUIServer(older, BaseFolder.make(tmp_path)) as process:
        offered = ComfyUIClient(process.address).get("/object_info")
        log = process.log.read_text(encoding="utf-8", errors="replace")
    assert f"module for custom nodes: {SENTENCE}" in log
    assert "IMPORT FAILED" in log
    assert "KSampler" in offered and not [name for name in offered if name.startswith("CoRe")]
