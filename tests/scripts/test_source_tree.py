"""Rules for the source tree that a machine can check: lint, who may import whom, standard library in the scripts."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The folder as a package of its own: an import that leaves it fails, and what it pulls in is listed.
IMPORT_ALONE = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import core_ops
for module in pkgutil.walk_packages(core_ops.__path__, "core_ops."):
    importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_ruff_finds_nothing():
    ruff = subprocess.run([sys.executable, "-m", "ruff", "check", str(ROOT)], capture_output=True, text=True)
    assert ruff.returncode == 0, ruff.stdout + ruff.stderr


def test_core_ops_can_be_taken_out_of_the_pack():
    command = [sys.executable, "-c", IMPORT_ALONE, str(ROOT)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert not {"comfy", "comfy_api", "folder_paths", "nodes", "server"} & set(answer.stdout.split())


def test_importing_the_pack_imports_neither_torch_nor_comfyui():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", code, str(ROOT / "__init__.py")]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "comfy", "comfy_api", "nodes"} & set(modules)


@pytest.mark.parametrize("file", sorted((ROOT / "scripts").glob("preparation/*.py")), ids=lambda file: file.name)
def test_the_preparation_needs_only_the_standard_library(file):
    imports = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Import)]
    froms = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names}
    names |= {node.module or "" for node in froms if not node.level}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
