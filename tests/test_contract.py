"""Promises that hold without ComfyUI: who imports whom, and that pages and workflows name nodes that exist."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from driver.mini_world import NODES as IN_MINI_WORLD

ROOT = Path(__file__).resolve().parents[1]
CORE_OPS = ROOT / "core_ops"
NODES = ROOT / "nodes"
HELP_PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
DOCUMENTS = [*HELP_PAGES, *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY"))]
DOCUMENTS += [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "lab").rglob("README.md"))]
COMFYUI = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "nodes", "server")

BLOCKER = f"""
import importlib, importlib.abc, importlib.util, pkgutil, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {COMFYUI!r} or name.startswith("pack.nodes"):
            raise ImportError(f"{{name}} must not be imported here")

sys.meta_path.insert(0, Blocked())
spec = importlib.util.spec_from_file_location("pack", {str(ROOT / "__init__.py")!r},
                                              submodule_search_locations=[{str(ROOT)!r}])
pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
"""


def run_blocked(code: str) -> str:
    """What `code` prints in a fresh Python that refuses ComfyUI and our nodes; the pack is loaded as `pack`."""
    done = subprocess.run([sys.executable, "-c", BLOCKER + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_imported_by(file: Path) -> set[str]:
    """Absolute names; relative imports are resolved to the pack's folders, such as core_ops.losses."""
    package = file.relative_to(ROOT).parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            found.update([module] if node.module else [f"{module}.{alias.name}" for alias in node.names])
    return found


def below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def importers(folder: Path, forbidden: tuple[str, ...], besides: tuple[Path, ...] = ()) -> dict[str, list[str]]:
    """Files of a folder with what they import from `forbidden`."""
    files = [file for file in folder.rglob("*.py") if not any(file.is_relative_to(other) for other in besides)]
    assert files
    bad = {file: [m for m in modules_imported_by(file) if any(below(m, name) for name in forbidden)] for file in files}
    return {str(file.relative_to(ROOT)): names for file, names in bad.items() if names}


def test_importing_the_pack_imports_neither_torch_nor_comfyui():
    loaded = run_blocked("print(*{name.split('.')[0] for name in sys.modules})").split()
    assert "pack" in loaded
    assert not {"torch", "numpy", *COMFYUI} & set(loaded)


def test_every_module_of_core_ops_is_imported_without_comfyui():
    code = """
core_ops = importlib.import_module("pack.core_ops")
for module in pkgutil.walk_packages(core_ops.__path__, "pack.core_ops."):
    importlib.import_module(module.name)
print(*(name for name in sys.modules if name.startswith("pack.core_ops.")))
"""
    imported = set(run_blocked(code).split())
    files = [file.relative_to(CORE_OPS).with_suffix("") for file in CORE_OPS.rglob("*.py")]
    expected = {f"pack.core_ops.{'.'.join(file.parts).removesuffix('.__init__')}" for file in files}
    assert expected - {"pack.core_ops.__init__"} == imported


def test_core_ops_names_neither_comfyui_nor_the_nodes():
    assert importers(CORE_OPS, COMFYUI) == {}


def test_only_nodes_host_reaches_into_comfyui():
    """nodes/files asks it for folders, and no more."""
    internals = tuple(name for name in COMFYUI if name not in ("comfy_api", "nodes"))
    assert importers(NODES, internals, besides=(NODES / "host", NODES / "files")) == {}
    assert importers(NODES / "files", tuple(name for name in internals if name != "folder_paths")) == {}


PRIVATE = {
    "_try_get_embedding": "tokenizer",
    "embedding_directory": "tokenizer",
    "escape_important": "prompt_reading",
    "patches_replace": "attention_replacement",
    "comfy_attention": "unet_layout",
    "Downsample": "unet_layout",
    "preferred_attention": "attention_replacement",
    "WrappersMP": "sampling_wrappers",
    "model_conds": "watched_entries",
    "cached_patcher_init": "host_models",
    "is_within_directory": "caption_files",
    "BaseGenerate": "text_generation",
    "fix_empty_latent_channels": "latents",
    "unet_to_diffusers": "unet_weights",
}
"""Names of ComfyUI that its makers promise nobody, and the one module of nodes/host in which each stands."""


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_name_of_comfyui_stands_in_one_module(name):
    found = {file.stem for file in NODES.rglob("*.py") if name in names_in(file)}
    assert found == {PRIVATE[name]}


def names_in(file: Path) -> set[str]:
    """All that a module names, as a name, an attribute, a key or an import; not what its docstrings say."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def test_losses_import_torch_and_nothing_of_this_project():
    files = [file for file in (CORE_OPS / "losses").glob("*.py") if file.name != "__init__.py"]
    assert files
    for file in files:
        outside = {module.split(".")[0] for module in modules_imported_by(file)} - sys.stdlib_module_names
        assert outside == {"torch"}, file


def test_recipes_do_not_import_each_other():
    assert importers(CORE_OPS / "recipes", ("core_ops.recipes", "nodes")) == {}


def test_the_host_is_used_by_the_nodes_and_does_not_use_them():
    for file in (NODES / "host").rglob("*.py"):
        ours = {module for module in modules_imported_by(file) if below(module, "nodes")}
        allowed = ("nodes",)  # The bare name is ComfyUI's own nodes.py.
        wings = ("nodes.host", "nodes.files")
        assert all(any(below(module, wing) for wing in wings) or module in allowed for module in ours), file


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_uses_only_nodes_of_ours_that_have_a_help_page(workflow):
    types = {node["type"] for node in nodes_of(graph_of(workflow))}
    ours = {kind for kind in types if kind.startswith("CoRe")}
    assert ours
    assert ours <= {page.stem for page in HELP_PAGES}


@pytest.mark.parametrize("page", HELP_PAGES, ids=lambda page: page.stem)
def test_a_help_page_has_a_picture_and_the_same_parts_in_the_same_order(page):
    content = page.read_text(encoding="utf-8")
    parts = re.findall(r"^## (.+)$", content, flags=re.MULTILINE)
    wanted = ["Three steps", "Inputs", "Outputs", "Memory and time", "Failures and remedies"]
    assert [part for part in parts if part in wanted] == wanted
    assert parts[-1] in ("Failures and remedies", "Deviations from the paper", "Deviations from the papers")
    before = content.partition("## Three steps\n")[0]
    assert before.count(f"](images/{page.stem}.jpg)") == content.count("](images/") == 1


@pytest.mark.parametrize("page", HELP_PAGES, ids=lambda page: page.stem)
def test_a_help_page_has_three_steps_and_inputs_in_two_columns(page):
    """The editor's side panel cuts a third column off."""
    content = page.read_text(encoding="utf-8")
    steps, inputs = (content.partition(f"\n## {part}\n")[2].partition("\n## ")[0] for part in ("Three steps", "Inputs"))
    assert re.findall(r"^\d+", steps, flags=re.MULTILINE) == ["1", "2", "3"]
    tables = re.findall(r"^\| Input \|.*$", inputs, flags=re.MULTILINE)
    assert tables and set(tables) == {"| Input | Meaning |"}


def graph_of(workflow: Path) -> dict[str, Any]:
    return json.loads(workflow.read_text(encoding="utf-8"))


def subgraphs_of(graph: Mapping[str, Any]) -> list[dict[str, Any]]:
    return graph.get("definitions", {}).get("subgraphs", [])


def nodes_of(graph: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the workflow and of its subgraphs."""
    return [node for each in (graph, *subgraphs_of(graph)) for node in each["nodes"]]


def test_every_workflow_has_an_id_of_its_own_a_note_and_groups():
    graphs = [graph_of(file) for file in WORKFLOWS]
    assert len({graph["id"] for graph in graphs}) == len(graphs)
    for file, graph in zip(WORKFLOWS, graphs, strict=True):
        assert any(node["type"] == "MarkdownNote" for node in graph["nodes"]) and graph["groups"], file.stem


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_begins_with_the_word_that_people_type_and_its_notes_are_short(workflow):
    assert workflow.stem.split()[0] in ("Train", "Use", "See", "Score", "Why")
    notes = [node["widgets_values"][0] for node in nodes_of(graph_of(workflow)) if node["type"] == "MarkdownNote"]
    assert all(0 < len(note.split()) <= 40 for note in notes)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_note_names_fields_as_nodes_show_them(workflow):
    """Without code, which the editor draws blue on a note's own colour."""
    graph = graph_of(workflow)
    known = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    labels = {name: told["name"] for kind in known.values() for name, told in kind["inputs"].items()}
    shown = {each.get("label") or each["name"] for node in graph["nodes"] for each in node["inputs"]}
    renamed = {name for name, label in labels.items() if "_" in name and label != name} - shown
    notes = [node["widgets_values"][0] for node in graph["nodes"] if node["type"] == "MarkdownNote"]
    for note in (*notes, *(graph["extra"]["core_personalization"]["texts"]["zh"][note] for note in notes)):
        assert "`" not in note
        assert set(re.findall(r"\w+", note)) & renamed == set(), note


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_table_is_shown_as_markdown(workflow):
    graph = graph_of(workflow)
    nodes = {node["id"]: node for node in graph["nodes"]}
    for _, origin, slot, target, *_ in graph["links"]:
        name = nodes[origin]["outputs"][slot]["name"]
        is_table = name.endswith("table") or (nodes[origin]["type"], name) == ("CoReTestTimeOptimize", "report")
        if nodes[target]["type"] == "PreviewAny":
            assert nodes[target]["properties"] == ({"core_markdown": True} if is_table else {})


LOADED_FROM = {
    **{"CheckpointLoaderSimple": "checkpoints", "PhotoMakerLoader": "photomaker", "UNETLoader": "diffusion_models"},
    **{"CLIPLoader": "text_encoders", "VAELoader": "vae"},
}
"""By node that loads a model, the folder of ComfyUI's models."""


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_says_where_its_models_are_to_be_had(workflow):
    """The editor then offers to fetch them."""
    loaders = [node for node in nodes_of(graph_of(workflow)) if node["type"] in LOADED_FROM]
    assert any(node["type"] == "CheckpointLoaderSimple" for node in loaders)
    for node in loaders:
        (model,) = node["properties"]["models"]
        name = node["widgets_values"][0]
        assert model["name"] == name and model["directory"] == LOADED_FROM[node["type"]]
        assert re.fullmatch(rf"https://huggingface\.co/\S+/{re.escape(name)}", model["url"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_trains_and_draws_at_the_models_own_size(workflow):
    """Not at the mini world's; the size of what is drawn follows that of the training."""
    known = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    for node in nodes_of(graph_of(workflow)):
        assert 64 not in node["widgets_values"], node["type"]
        names = known.get(node["type"], {}).get("inputs", {})
        if "resolution" in names and node["type"].startswith("CoRe"):
            sockets = {each["name"] for each in node["inputs"] if "widget" not in each}
            values = dict(zip([name for name in names if name not in sockets], node["widgets_values"], strict=True))
            assert values["resolution"] == 0, node["type"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_subgraph_has_a_field_for_every_field_that_its_inputs_lead_to(workflow):
    """The editor gives values to fields by position."""
    graph = graph_of(workflow)
    for subgraph in subgraphs_of(graph):
        inner = {node["id"]: node for node in subgraph["nodes"]}
        led_to = [link for link in subgraph["links"] if link["origin_id"] == subgraph["inputNode"]["id"]]
        ends = [(link["origin_slot"], inner[link["target_id"]]["inputs"][link["target_slot"]]) for link in led_to]
        fields = [subgraph["inputs"][slot]["name"] for slot in sorted({slot for slot, end in ends if "widget" in end})]
        placed = [node for node in graph["nodes"] if node["type"] == subgraph["id"]]
        assert placed
        for node in placed:
            assert [each["name"] for each in node["inputs"] if "widget" in each] == fields, node["title"]
            assert len(node["widgets_values"]) == len(fields), node["title"]


@pytest.mark.parametrize("title", IN_MINI_WORLD)
def test_what_the_mini_world_changes_is_the_title_of_a_node(title):
    known = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    nodes = [node for workflow in WORKFLOWS for node in nodes_of(graph_of(workflow))]
    assert title in {node.get("title") or known.get(node["type"], {}).get("display_name") for node in nodes}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_points_at_files_and_headings_that_exist(document):
    content = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(<([^>]+)>\)|\]\(([^)\s<]+)\)", content)
    for target in map("".join, targets):
        file, _, heading = target.partition("#")
        if file.startswith(("https:", "http:")):
            continue
        place = document.parent / file if file else document
        assert place.exists(), target
        if heading:
            assert heading in headings(place), target
    named = re.findall(r"python (scripts/\S+\.py|tests/\S+\.py)", content)
    assert all((ROOT / name).is_file() for name in named), named


def headings(document: Path) -> set[str]:
    """Anchors as Markdown viewers make them."""
    lines = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in lines}


def test_the_map_of_the_house_names_every_wing_and_nothing_else():
    house = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## How to add")[0]
    rows = re.findall(r"^\| (.+) \| (.+) \|$", house, flags=re.MULTILINE)
    named = {name for row in rows for cell in row for name in re.findall(r"`([\w/.]+)`", cell)}
    places = {name.rstrip("/") for name in named if "/" in name or name.endswith(".py")}
    below = {
        folder.name for folder in (*ROOT.glob("*/*"), *ROOT.glob("*/*/*")) if folder.is_dir() or folder.suffix == ".py"
    }
    assert {place for place in places if not (ROOT / place).exists() and place not in below} == set()
    wings = [file.parent for part in (CORE_OPS, NODES) for file in part.glob("*/__init__.py")]
    assert {wing.name for wing in wings} <= {place.split("/")[-1] for place in places}


def top_level(file: Path) -> set[str]:
    """What a module defines or imports, at its top or in an `if` there."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    statements = [*tree.body, *(inner for node in tree.body if isinstance(node, ast.If) for inner in node.body)]
    found: set[str] = set()
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
    return found


def test_every_name_of_the_pack_that_tests_and_lab_import_exists():
    """Some are imported only on a card, or in tests that take minutes."""
    missing = []
    for file in (path for folder in ("tests", "lab", "scripts") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not below(node.module or "", "core_personalization"):
                continue
            place = ROOT.joinpath(*node.module.split(".")[1:])
            module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            names = top_level(module) if module.is_file() else set()
            for name in (alias.name for alias in node.names):
                inner = place / name
                if name not in names and not inner.is_dir() and not inner.with_suffix(".py").is_file():
                    missing.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.module}.{name}")
    assert missing == []


def test_each_public_report_has_a_test_of_that_name():
    lines = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.endswith("| Test |")]
    named = [match[1] for line in rows if (match := re.search(r"`(test_\w+)` \|$", line))]
    assert len(named) == len(rows) > 26
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in named if f"def {name}(" not in tests] == []
