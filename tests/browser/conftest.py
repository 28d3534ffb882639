"""ComfyUI's editor in a headless Chromium, the machine's or Playwright's; without one these tests are skipped, and say
why."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest
import torch
from browser.editor import Editor
from driver import quick_start
from driver.base_folder import BaseFolder
from driver.mini_world import CHECKPOINT, CONCEPT
from PIL import Image
from safetensors.torch import save_file
from templates.comparing import WORDS
from templates.looking import SAVED_STEPS
from templates.parts import FOLDER, NAME, OTHER, SD15, SDXL
from templates.rivals import FACE, FLUX2_VAE, KLEIN, PHOTOMAKER, QWEN
from templates.training import STYLE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FETCH_SECONDS = 600
CARD = {"core_personalization.super_category": '"dog"', "core_personalization.base_model": f'"{SD15.file}"'}


@pytest.fixture(scope="module")  # While it is there, a loop runs in this process, and asyncio.run is refused.
def chromium() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (group test)")
    trouble = "" if any(map(shutil.which, PROGRAMS)) else fetch_chromium()
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if trouble:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is on the PATH, and none can be fetched: {trouble}")
    with playwright.sync_playwright() as driver:
        # Chromium refuses its sandbox to root, which test machines often are; it opens nothing but our own server.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@functools.cache
def fetch_chromium() -> str:
    """The system's package, or else Playwright's own, once for all its users; returns why both failed."""
    playwright = [sys.executable, "-m", "playwright", "install", "chromium"]
    system = [["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "chromium"]]
    if shutil.which("apt-get") and all(tried(command) == "" for command in system):
        return ""
    return tried(playwright)


def tried(command: Sequence[str]) -> str:
    """Runs it; returns why it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)}: {error}"
    lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
    return next((line for line in lines if "rror" in line), lines[-1]) if done.returncode else ""


@pytest.fixture(scope="module")
def window(chromium: Browser) -> Iterator[Page]:
    """One that has seen nothing yet."""
    context = chromium.new_context(viewport={"width": 1600, "height": 1000})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def opened(window: Page, server) -> Editor:
    """The editor on a server that has the demo's checkpoint and pictures, also under the names that templates have."""
    quick_start.fill_base_folder(server.process.base)
    place_named_files(server.process.base)
    return Editor.open(window, server.process.address)


@pytest.fixture
def editor(
    opened: Editor, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Editor]:
    """How the screen looks at each test's end is kept in pytest's folder of temporary files, in screenshots/."""
    opened.errors.clear()
    yield opened
    name = re.sub(r"[^\w.-]+", "_", request.node.name)
    opened.page.screenshot(path=tmp_path_factory.getbasetemp() / "screenshots" / f"{name}.jpg", quality=60)


@pytest.fixture(scope="module")
def in_chinese(opened: Editor) -> Iterator[Editor]:
    opened.set("Comfy.Locale", "zh")
    opened.start_again()
    yield opened
    opened.set("Comfy.Locale", "en")
    opened.start_again()


def place_named_files(base: BaseFolder) -> None:
    """What templates name as their users' own; enough to be listed and chosen."""
    for checkpoint in (SD15, SDXL):
        named = base.checkpoints / checkpoint.file
        if not named.exists():
            named.hardlink_to(base.checkpoints / CHECKPOINT)
    photos = quick_start.CONCEPT_IMAGES / CONCEPT
    for folder in (FOLDER, OTHER, STYLE, FACE):
        shutil.copytree(photos, base.input / folder, dirs_exist_ok=True)
    for model in (PHOTOMAKER, KLEIN, QWEN, FLUX2_VAE):
        rival = base.checkpoints.parent / model.folder / model.name
        rival.parent.mkdir(exist_ok=True)
        rival.touch()
    shutil.copyfile(photos / "0.png", base.input / "example.png")
    embeddings = [NAME, FACE, *WORDS.values(), *(f"{NAME}-steps/{NAME}-step{step}" for step in SAVED_STEPS)]
    for file in (base.embeddings / f"{name}.safetensors" for name in embeddings):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.open(photos / "0.png").save(file.with_suffix(".preview.jpg"))  # As a training leaves it.
        if not file.exists():
            save_file({"emb_params": torch.zeros(1, 768)}, file, CARD)
