"""Another ComfyUI for the tests: which is taken, and which packages it gets of its own. No network, no ComfyUI."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import pytest
from preparation import installation, own_packages
from preparation.comfyui_source import COMFYUI, SECOND, TOO_OLD, Source, unpack
from preparation.errors import PreparationError
from preparation.installation import Installation, prepare
from preparation.timeline import Timeline

REQUIREMENTS = """
torch
comfyui-frontend-package==1.49.6
comfyui_workflow_templates==0.11.44
comfy-kitchen==0.2.31  # and why
comfy_aimdo == 0.4.13
comfy-angle
transformers>=4.50.3
"""


@pytest.fixture
def host_folder(tmp_path, monkeypatch) -> Path:
    """.host of these tests; the Python that runs them is ComfyUI's."""
    folder = tmp_path / ".host"
    monkeypatch.setattr(installation, "HOST_FOLDER", folder)
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    return folder


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """What pip was asked for; it makes the folder that it is told to."""
    calls: list[list[str]] = []

    def run_pip(_, arguments, *__):
        calls.append(list(arguments))
        Path(arguments[arguments.index("--target") + 1]).mkdir(parents=True)

    monkeypatch.setattr(own_packages, "run_pip", run_pip)
    return calls


def checkout(folder: Path, requirements: str) -> Path:
    for name in ("main.py", "nodes.py", "server.py", "comfy/sd.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "requirements.txt").write_text(requirements)
    return folder


def test_only_comfyuis_own_packages_are_read_of_its_requirements():
    assert own_packages.pins(REQUIREMENTS) == {
        "comfy-kitchen": "0.2.31",
        "comfy-aimdo": "0.4.13",
        "comfyui-frontend-package": "1.49.6",
    }


def test_what_differs_is_installed_once_and_goes_before_the_rest(host_folder, tmp_path, asked, monkeypatch):
    monkeypatch.setattr(own_packages, "_installed", lambda _: {"comfy-kitchen": "0.2.31", "comfy-aimdo": "0.4.11"})
    monkeypatch.setenv("PYTHONPATH", "before")
    source = checkout(tmp_path / "checkout", REQUIREMENTS)
    first, second = (prepare(Timeline(), ("json",), str(source)) for _ in range(2))
    assert first == second and len(asked) == 1
    assert asked[0][-2:] == ["comfy-aimdo==0.4.13", "comfyui-frontend-package==1.49.6"] and "--no-deps" in asked[0]
    assert first.comfyui == source and first.packages and first.packages.is_relative_to(host_folder)
    assert first.environment()["PYTHONPATH"] == os.pathsep.join([str(first.packages), "before"])


def test_an_interrupted_installation_is_not_taken_for_ready(host_folder, tmp_path, asked, monkeypatch):
    source = checkout(tmp_path / "checkout", REQUIREMENTS)

    def fail(_, arguments, *__):
        Path(arguments[arguments.index("--target") + 1]).mkdir(parents=True)
        raise PreparationError("pip failed")

    with monkeypatch.context() as broken, pytest.raises(PreparationError):
        broken.setattr(own_packages, "run_pip", fail)
        prepare(Timeline(), ("json",), str(source))
    assert not asked
    assert prepare(Timeline(), ("json",), str(source)).packages and len(asked) == 1


def test_nothing_is_installed_where_nothing_differs(host_folder, tmp_path, asked):
    source = checkout(tmp_path / "checkout", "torch\n")
    assert prepare(Timeline(), ("json",), str(source)) == Installation(source, Path(sys.executable))
    assert not asked


def test_what_is_neither_a_version_nor_a_comfyui_is_refused(host_folder, tmp_path):
    with pytest.raises(PreparationError, match=rf"--comfyui is 0\.31\.7, .* nor one of {COMFYUI.version}, "):
        prepare(Timeline(), ("json",), "0.31.7")


def test_it_goes_before_the_comfyui_of_the_environment(host_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(checkout(tmp_path / "users", "")))
    source = checkout(tmp_path / "checkout", "")
    assert prepare(Timeline(), ("json",), str(source)).comfyui == source


@pytest.mark.parametrize(("source", "version"), [(SECOND, SECOND.version), (TOO_OLD[0], "0.1")])
def test_only_a_misleading_version_is_replaced(tmp_path, source: Source, version):
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.1"\n')
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "comfyui_version.py", f"{source.folder_in_archive}/comfyui_version.py")
    unpack(tmp_path / "a.tar.gz", tmp_path / "ComfyUI", source)
    assert (tmp_path / "ComfyUI" / "comfyui_version.py").read_text().strip() == f'__version__ = "{version}"'
