"""Which ComfyUI the pack takes, and what it says to one that is too old: before it imports anything of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import core_personalization
import pytest

ROOT = Path(__file__).resolve().parents[1]
OLDEST = core_personalization.OLDEST_COMFYUI

LOAD = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("pack", {str(ROOT / "__init__.py")!r},
                                              submodule_search_locations=[{str(ROOT)!r}])
pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
try:
    spec.loader.exec_module(pack)
except ImportError as error:
    print("refused:", error)
print(*(name for name in sys.modules if name.startswith("pack.")))
"""


def load_in(folder: Path, before: str = "") -> list[str]:
    """What a fresh Python with `folder` on its path prints when it loads the pack; then the pack's loaded modules."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); {before}\n{LOAD}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("version", [OLDEST, "0.28.1", "0.30.0", "0.46", "0.100.0", "1.0", "v0.33.0+fork", "0.28.0rc1"])
def test_this_comfyui_is_taken(version):
    assert core_personalization._refusal(version) is None


@pytest.mark.parametrize("version", ["0.27.9", "0.24.0", "0.9.0", "0.3.64", "0.3", "v0.27.0-5-gabc"])
def test_this_comfyui_is_too_old(version):
    told = core_personalization._refusal(version)
    assert told == f"CoRe Personalization needs ComfyUI 0.28.0 or newer, this is {version}: update ComfyUI."


@pytest.mark.parametrize("version", ["unknown", "", None])
def test_a_version_without_a_number_may_try(version):
    assert core_personalization._refusal(version) is None


def test_an_old_comfyui_is_told_and_nothing_is_imported(tmp_path):
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.24.0"\n')
    sentence = "CoRe Personalization needs ComfyUI 0.28.0 or newer, this is 0.24.0: update ComfyUI."
    assert load_in(tmp_path) == [f"refused: {sentence}", ""]


def test_one_that_does_not_say_its_version_is_told_too(tmp_path):
    told, modules = load_in(tmp_path, "import types; sys.modules['folder_paths'] = types.ModuleType('folder_paths')")
    assert told.endswith("needs ComfyUI 0.28.0 or newer, this is older than 0.3.11: update ComfyUI.") and not modules


def test_the_oldest_that_runs_is_not_told(tmp_path):
    (tmp_path / "comfyui_version.py").write_text(f'__version__ = "{OLDEST}"\n')
    assert load_in(tmp_path) == [""]


def test_outside_of_comfyui_the_pack_is_loaded(tmp_path):
    assert load_in(tmp_path) == [""]


def test_the_readme_names_the_same_version():
    assert f"ComfyUI {OLDEST} or newer is needed" in (ROOT / "README.md").read_text(encoding="utf-8")
