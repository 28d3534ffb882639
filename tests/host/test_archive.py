"""The registry's archive, unpacked: all nodes load from it alone, soon, and without the network."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import sys
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pack_archive import pack_archive, untracked

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "zh")
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # of comfy-cli


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, as ComfyUI's manager unpacks it into custom_nodes."""
    new = untracked("nodes", "core_ops", "web", "locales", "editor", "example_workflows", "subgraphs")
    assert not new, f"the archive holds what git knows; git add {' '.join(new)}"
    folder = tmp_path_factory.mktemp("archive")
    with zipfile.ZipFile(pack_archive(folder)) as archive:
        archive.extractall(folder / "custom_nodes" / "core-personalization")
    return folder / "custom_nodes" / "core-personalization"


def load(pack: Path, name: str) -> dict[str, Any]:
    """Node classes by id, imported anew under a name of their own, which is forgotten afterwards."""
    spec = importlib.util.spec_from_file_location(name, pack / "__init__.py", submodule_search_locations=[str(pack)])
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)

    async def listed():
        return await (await module.comfy_entrypoint()).get_node_list()

    try:
        spec.loader.exec_module(module)
        return {node.GET_SCHEMA().node_id: node for node in asyncio.run(listed())}
    finally:
        for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == name]:
            del sys.modules[loaded]


def test_the_network_is_closed_to_what_runs_here(no_network):
    for reach_out in (socket.getaddrinfo, lambda *address: socket.create_connection(address, timeout=1)):
        for host in ("huggingface.co", "93.184.216.34"):
            with pytest.raises(pytest.fail.Exception, match="the network was asked for"):
                reach_out(host, 80)


def test_all_nodes_load_from_the_archive_without_the_network(unpacked, comfyui, no_network):
    from core_personalization.nodes.extension import PersonalizationExtension

    nodes = load(unpacked, "pack_from_archive")
    ours = {node.GET_SCHEMA().node_id for node in asyncio.run(PersonalizationExtension().get_node_list())}
    assert set(nodes) == ours
    for node_id, node in nodes.items():
        assert node.__module__.startswith("pack_from_archive.")
        assert (unpacked / "web" / "docs" / f"{node_id}.md").is_file()
    for language in LANGUAGES:
        texts = json.loads((unpacked / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert set(texts) == ours


def test_a_start_of_comfyui_waits_under_three_tenths_of_a_second(unpacked, comfyui, tmp_path, monkeypatch):
    """Of a processor, beyond what ComfyUI has loaded anyway; with the bytecode that Python keeps of the first start.

    tests/test_packaging.py sees that no module beyond ComfyUI's own is imported.
    """
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    load(unpacked, "pack_first_start")
    taken = []
    for start in range(3):
        before = time.thread_time()
        load(unpacked, f"pack_start_{start}")
        taken.append(time.thread_time() - before)
    assert min(taken) < 0.3


@pytest.mark.long
def test_a_server_has_nodes_help_and_translations_of_the_archive(unpacked, comfyui_path):
    from driver.base_folder import BaseFolder
    from driver.client import ComfyUIClient
    from driver.server import ComfyUIServer

    base = BaseFolder(unpacked.parents[1])
    for folder in (base.checkpoints, base.embeddings, base.input, base.output, base.path / "user"):
        folder.mkdir(parents=True, exist_ok=True)
    ids = {page.stem for page in (ROOT / "web" / "docs").glob("*.md")}
    with ComfyUIServer(comfyui_path, base) as server:
        client = ComfyUIClient(server.address)
        assert ids <= client.get("/object_info").keys()
        for node_id in ids:
            page = f"http://{server.address}/extensions/core-personalization/docs/{node_id}.md"
            assert urllib.request.urlopen(page).read() == (ROOT / "web" / "docs" / f"{node_id}.md").read_bytes()
        translations = client.get("/i18n")
        for language in LANGUAGES:
            assert ids <= translations[language]["nodeDefs"].keys()
            assert "CoRe Personalization" in translations[language]["nodeCategories"]
        templates = client.get("/workflow_templates")["core-personalization"]
        assert set(templates) == {file.stem for file in (unpacked / "example_workflows").glob("*.json")}
    assert "Traceback" not in server.log.read_text(encoding="utf-8", errors="replace")
