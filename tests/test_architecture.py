"""The plan of the house, held to: which wing imports which; and that modules and functions stay short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from preparation.by_place import ROOT

PRODUCT = ("nodes", "core_ops")
FILES = sorted(file for folder in PRODUCT for file in (ROOT / folder).rglob("*.py"))
FLEET = sorted((ROOT / "fleet").rglob("*.py"))

CORE_OPS = {
    "losses": set(),
    "prompts": {"quoting"},
    "weights": set(),
    "training": {"conditioning", "diffusion_process", "losses", "pictures", "prompts"},
    "terms": {"conditioning", "diffusion_process", "losses", "prompts", "training"},
    "scores": {"conditioning", "prompts", "quoting"},
    "space_time": {"conditioning", "prompts", "training"},
    "recipes": {"conditioning", "diffusion_process", "losses", "prompts", "scores", "space_time", "terms", "training"},
}
"""By wing of core_ops: what else of core_ops it imports."""

NODES = {
    "files": set(),
    "host": {"files"},
    "training": {"charts", "concept", "files", "host", "labels", "settings"},
    "embedding": {"concept", "files", "host", "settings", "training"},
    "finetune": {"concept", "embedding", "files", "host", "prompt_concepts", "settings", "training"},
    "refinement": {"concept", "embedding", "files", "host", "prompt_concepts", "settings", "tables"},
    "captions": {"files", "host", "settings"},
    "photos": {"concept", "contact_sheet", "files", "host", "labels", "settings"},
    "sharing": {"concept", "files", "host", "labels", "prompt_concepts", "settings", "tables"},
    "insight": {"charts", "concept", "host", "settings", "tables"},
    "evaluation": {"charts", "concept", "files", "host", "settings", "sharing", "tables"},
    "votes": {"charts", "evaluation", "files", "host", "settings", "tables"},
}
"""By part of the nodes: what else of the nodes it imports."""


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All of a module but what only type checkers read."""
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from runtime_nodes(child)


def imported(file: Path) -> set[Path]:
    """The pack's modules that a module imports, at whatever place in it."""
    found: set[Path] = set()
    for node in runtime_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for name in (alias.name for alias in node.names):
                places = (
                    base / f"{name}.py",
                    base / name / "__init__.py",
                    base.with_suffix(".py"),
                    base / "__init__.py",
                )
                found.add(next(place for place in places if place.is_file()))
    return found - {file}


IMPORTS = {file: imported(file) for file in FILES}


def closure(start: Path) -> set[Path]:
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += IMPORTS[file]
    return seen


def wing(file: Path) -> tuple[str, str]:
    """("core_ops", "losses"), or ("nodes", "concept") for a module that stands alone."""
    folder, part, *_ = file.relative_to(ROOT).with_suffix("").parts
    return folder, part


@pytest.mark.parametrize(("folder", "plan"), [("core_ops", CORE_OPS), ("nodes", NODES)])
def test_a_wing_imports_what_the_plan_says(folder, plan):
    for part, allowed in plan.items():
        own = [file for file in FILES if wing(file) == (folder, part)]
        assert own, part
        arrows = {wing(target)[1] for file in own for target in IMPORTS[file] if wing(target)[0] == folder} - {part}
        assert arrows <= allowed, part
    assert {file.parent.name for file in (ROOT / folder).glob("*/__init__.py")} <= plan.keys()


def test_no_module_imports_itself_by_way_of_others():
    for file in FILES:
        assert file not in {module for target in IMPORTS[file] for module in closure(target)}, file


def test_the_pack_knows_nothing_of_fleets():
    for file in FILES:
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        assert not {name.split(".")[0] for name in names} & {"fleet", "ray"}, file


def test_train_embedding_needs_few_modules():
    """Beside what its methods add, a recipe and a loss each."""
    needed = closure(ROOT / "nodes" / "embedding" / "train_embedding.py")
    shared = [file for file in needed if not {"recipes", "losses", "space_time"} & {*file.parts}]
    assert len(shared) <= 46, sorted(str(file.relative_to(ROOT)) for file in shared)


def test_no_folder_has_more_than_fourteen_modules():
    for folder, files in groupby(FILES, key=lambda file: file.parent):
        assert sum(file.name != "__init__.py" for file in files) <= 14, folder


def test_modules_and_functions_are_short():
    for file in [*FILES, *FLEET]:
        source = file.read_text(encoding="utf-8")
        assert len(source.splitlines()) <= 300, file
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno + 1 < 45, f"{file}: {node.name}"


def test_no_two_modules_have_one_name():
    stems = [file.stem for file in FILES if file.name != "__init__.py"]
    assert sorted({stem for stem in stems if stems.count(stem) > 1}) == []


def test_few_private_helpers_are_named_once():
    """What is cut out of a function to be called once is read in two places."""
    functions, once = 0, []
    for file in FILES:
        source = file.read_text(encoding="utf-8")
        names = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        functions += len(names)
        once += [
            f"{file.stem}.{name}"
            for name in names
            if re.match("_[^_]", name) and len(re.findall(rf"\b{name}\b", source)) == 2
        ]
    assert len(once) < 0.12 * functions, f"{len(once)} of {functions}: {', '.join(once)}"
