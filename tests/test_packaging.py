"""What ComfyUI's registry gets: the archive's contents and size, its metadata, and what loading it needs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import comfy_cli.file_utils
import pytest
import yaml
from comfy_cli.registry.config_parser import extract_node_configuration
from core_personalization import OLDEST_COMFYUI
from pack_archive import pack_archive
from registry import PLACE, WITH_PLACE, public_address, with_addresses

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # of comfy-cli

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/someone/core-personalization"
FOLDERS = {"core_ops", "editor", "example_workflows", "locales", "nodes", "subgraphs", "web"}
FILES = {"__init__.py", "pyproject.toml", "requirements.txt", "README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"}
KINDS = {".py", ".js", ".html", ".json", ".jpg", ".md", ".txt", ".toml", ""}
LARGEST_ARCHIVE = 3 * 2**20
LARGEST_FILE = 500 * 2**10

HOST_MODULES = {"torch", "numpy", "einops", "safetensors", "PIL", "psutil", "aiohttp", "server", "node_helpers"}
"""What ComfyUI itself has loaded before it looks for custom nodes."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(pack_archive(tmp_path_factory.mktemp("archive"))) as file:
        return file.infolist()


def test_the_archive_holds_what_comfyui_loads_and_nothing_else(archive):
    names = [Path(entry.filename) for entry in archive]
    assert {name.parts[0] for name in names if len(name.parts) > 1} == FOLDERS
    assert {name.name for name in names if len(name.parts) == 1} <= FILES
    assert {name.suffix for name in names} <= KINDS
    assert not [name for name in names if any(part.startswith(".") or part == "ruff.toml" for part in name.parts)]


def test_every_file_that_a_node_needs_is_in_the_archive(archive):
    names = {entry.filename for entry in archive}
    needed = [ROOT / name for name in ("__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md")]
    for folder, pattern in {
        "nodes": "**/*.py",
        "nodes/votes": "*.html",
        "core_ops": "**/*.py",
        "core_ops/prompts/prompt_sets": "*.txt",
        "web": "**/*.md",
        "editor": "*.js",
        "locales": "**/*.json",
        "example_workflows": "*.j*",
        "subgraphs": "*.json",
        "web/docs/images": "*.jpg",
    }.items():
        found = sorted((ROOT / folder).glob(pattern))
        assert found, folder
        needed += found
    tracked = set(comfy_cli.file_utils.list_git_tracked_files(str(ROOT))) or names
    expected = {file.relative_to(ROOT).as_posix() for file in needed}
    assert expected & tracked <= names


def test_the_archive_is_small(archive):
    assert sum(entry.compress_size for entry in archive) < LARGEST_ARCHIVE
    assert not [entry.filename for entry in archive if entry.file_size > LARGEST_FILE]


def test_without_git_nothing_else_gets_in(monkeypatch, tmp_path):
    """comfy-cli then packs all it finds, a prepared .venv and .host too."""
    monkeypatch.setattr(comfy_cli.file_utils, "list_git_tracked_files", lambda base=".": [])
    with zipfile.ZipFile(pack_archive(tmp_path)) as file:
        names = [Path(name) for name in file.namelist()]
    assert {name.parts[0] for name in names} <= FOLDERS | FILES
    assert not [name for name in names if name.suffix in (".pyc", ".safetensors") or "__pycache__" in name.parts]


def test_help_pages_in_the_archive_link_only_into_it(archive):
    names = {entry.filename for entry in archive}
    for page in sorted((ROOT / "web" / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8")):
            if not target.startswith(("https:", "http:")):
                place = os.path.relpath((page.parent / target).resolve(), ROOT).replace(os.sep, "/")
                assert place in names, f"{page.name}: {target}"


@pytest.fixture
def metadata(tmp_path):
    """As comfy-cli reads it, with the public address filled in."""
    path = tmp_path / "pyproject.toml"
    path.write_text(with_addresses((ROOT / "pyproject.toml").read_text(encoding="utf-8"), REPOSITORY), encoding="utf-8")
    found = extract_node_configuration(str(path))
    assert found
    return found


def test_the_metadata_is_complete(metadata, capsys):
    project, comfy = metadata.project, metadata.tool_comfy
    assert re.fullmatch(r"[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*", project.name) and len(project.name) < 100
    assert re.fullmatch(r"\d+\.\d+\.\d+", project.version)
    assert 20 < len(project.description) < 200
    assert project.requires_python == ">=3.10"
    assert project.license.file == "LICENSE" and (ROOT / "LICENSE").is_file()
    assert project.supported_os == ["OS Independent"]
    assert project.supported_comfyui_version == f">={OLDEST_COMFYUI}"
    urls = project.urls
    assert (urls.repository, urls.documentation, urls.issues) == (
        REPOSITORY,
        f"{REPOSITORY}#readme",
        f"{REPOSITORY}/issues",
    )
    assert comfy.publisher_id and comfy.display_name
    assert "Warning" not in capsys.readouterr().out


def test_every_accelerator_and_the_cpu_are_welcome(metadata):
    """ComfyUI's manager calls a CPU a conflict as soon as one accelerator is listed."""
    assert metadata.project.supported_accelerators == []


def test_icon_and_banner_are_drawn_here_in_the_registrys_size(metadata):
    prefix = REPOSITORY.replace("github.com", "raw.githubusercontent.com") + "/main/"
    for address, largest, ratio in (
        (metadata.tool_comfy.icon, (800, 400), 1),
        (metadata.tool_comfy.banner_url, (10_000, 10_000), 21 / 9),
    ):
        picture = ElementTree.parse(ROOT / address.removeprefix(prefix)).getroot()
        width, height = int(picture.attrib["width"]), int(picture.attrib["height"])
        assert width <= largest[0] and height <= largest[1] and width / height == pytest.approx(ratio)
        assert not [e for e in picture.iter() if e.tag.rpartition("}")[2] in ("script", "image", "foreignObject")]


def test_filling_in_an_address_again_replaces_it():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    once = with_addresses(text, "git@github.com:other/name.git")
    assert with_addresses(once, REPOSITORY) == with_addresses(text, REPOSITORY)
    assert "other" in once and "other" not in with_addresses(once, REPOSITORY)


def test_the_address_has_a_place_wherever_it_is_needed():
    assert public_address("git@github.com:someone/core-personalization.git") == REPOSITORY
    for name in WITH_PLACE:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert PLACE in text or "https://github.com/" in text, name


def test_version_changelog_and_citation_agree(metadata):
    changelog, citation = ((ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CITATION.cff"))
    versions = re.findall(r"^## \[(\d\S*)\]", changelog, flags=re.MULTILINE)
    assert versions[0] == metadata.project.version
    assert f"\nversion: {versions[0]}\n" in citation


def test_the_registrys_own_check_has_nothing_to_say(tmp_path):
    """`comfy node validate`, which needs no network."""
    command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", "node", "validate"]
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | home, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout.lower()


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[ip]*.yml")), ids=lambda form: form.stem
)
def test_an_issue_template_asks_what_is_needed(form):
    asked = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= asked.keys()
    assert any(field.get("validations", {}).get("required") for field in asked["body"])
    names = [field["id"] for field in asked["body"] if "id" in field]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("address", ["", "https://example.com/a/b", "https://github.com/a", "file:///etc"])
def test_another_address_is_refused(address):
    with pytest.raises(ValueError, match="not the address of a repository on GitHub"):
        with_addresses("", address)


def test_requirements_are_the_metadatas_and_none_of_comfyuis(metadata):
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert metadata.project.dependencies == [line for line in lines if line and not line.startswith("#")]
    comfyui = Path(os.environ.get("COMFYUI_PATH") or "/nowhere") / "requirements.txt"
    if comfyui.is_file():
        brought = {name(line) for line in comfyui.read_text(encoding="utf-8").splitlines() if name(line)}
        assert not {name(line) for line in metadata.project.dependencies} & brought


def name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    return found[0].lower().replace("_", "-") if found else ""


@pytest.mark.parametrize("folder", ["core_ops", "nodes"])
def test_what_comfyui_does_not_load_is_imported_when_used(folder):
    """matplotlib and transformers' vision models take seconds, which every start of ComfyUI would wait for."""
    allowed = HOST_MODULES | set(sys.stdlib_module_names) | {"comfy", "comfy_api", "comfy_execution", "folder_paths"}
    for file in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        tops = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        found = {alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names}
        found |= {node.module or "" for node in tops if isinstance(node, ast.ImportFrom) and not node.level}
        assert {module.split(".")[0] for module in found} <= allowed, file
