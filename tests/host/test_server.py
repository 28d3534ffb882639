"""The driver that the demo and the other tests use, against a real server."""

from __future__ import annotations

from io import StringIO
from urllib.request import urlopen

import pytest
from driver.client import ServerGone, WorkflowError, WorkflowInterrupted
from driver.progress_lines import ProgressLines
from driver.server import ComfyUIServer
from preparation.errors import PreparationError
from preparation.installation import ROOT

PICTURE = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 255}}
OUR_SCRIPTS = {f"/extensions/personalization/{file.name}" for file in (ROOT / "editor").glob("*.js")}
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "driver"}}


def test_the_pack_is_loaded_with_its_help_and_no_other(server):
    assert "CoReTrainEmbedding" in server.client.get("/object_info")
    scripts = server.client.get("/extensions")
    assert {path for path in scripts if not path.startswith("/extensions/core/")} == OUR_SCRIPTS
    page = urlopen(f"http://{server.process.address}/extensions/core-personalization/docs/CoReTrainEmbedding.md")
    assert page.status == 200


def test_a_workflow_runs_and_its_messages_arrive(server):
    seen = []
    execution = server.client.submit({"1": PICTURE, "2": SAVE}, seen.append)
    assert seen == execution.messages
    assert {m["data"]["node"] for m in seen if m["type"] == "executing"} == {"1", "2", None}
    (image,) = execution.outputs["2"]["images"]
    assert (server.process.output / image["filename"]).is_file()


def test_a_refused_workflow_says_which_node_and_why(server):
    with pytest.raises(WorkflowError, match=r"EmptyImage: Value 0 smaller than min"):
        server.client.submit({"1": {**PICTURE, "inputs": {**PICTURE["inputs"], "width": 0}}, "2": SAVE})
    with pytest.raises(WorkflowError, match="no outputs"):
        server.client.submit({"1": PICTURE})


def test_a_failing_node_is_named(server):
    load = {"class_type": "LoadImageDataSetFromFolder", "inputs": {"folder": "empty"}}
    (server.process.base.input / "empty").mkdir(exist_ok=True)
    (server.process.base.input / "empty" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(WorkflowError, match="LoadImageDataSetFromFolder failed"):
        server.client.submit({"1": load, "2": SAVE})


def test_interrupting_while_it_runs_is_told_apart_from_failing(server):
    """Many pictures one after the other, so that there is a node left when the interrupt comes."""
    workflow: dict = {"1": PICTURE, "2": SAVE}
    for number in range(3, 40):
        inputs = {"image": [str(number - 1) if number > 3 else "1", 0], "upscale_method": "lanczos", "scale_by": 1.0}
        workflow[str(number)] = {"class_type": "ImageScaleBy", "inputs": inputs}
    workflow["40"] = {**SAVE, "inputs": {"images": ["39", 0], "filename_prefix": "late"}}
    with pytest.raises(WorkflowInterrupted):
        server.client.submit(workflow, lambda m: server.client.interrupt() if m["type"] == "execution_start" else None)


def test_a_workflow_of_the_editor_is_converted(server):
    made = {"inputs": [], "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}], "mode": 0}
    kept = {"inputs": [{"name": "images", "type": "IMAGE", "link": 1}], "outputs": [], "mode": 0}
    nodes = [{"id": 1, "type": "EmptyImage", "widgets_values": [16, 24, 1, 7], **made}]
    nodes += [{"id": 2, "type": "SaveImage", "widgets_values": ["converted"], **kept}]
    ui_workflow = {"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]]}
    workflow = server.client.convert(ui_workflow)
    assert workflow["1"]["inputs"] == {"width": 16, "height": 24, "batch_size": 1, "color": 7}
    assert workflow["2"]["inputs"] == {"images": ["1", 0], "filename_prefix": "converted"}


def test_a_server_that_cannot_start_shows_the_end_of_its_log(server, tmp_path):
    from driver.base_folder import BaseFolder

    (tmp_path / "main.py").write_text("raise SystemExit('a reason in the log')", encoding="utf-8")
    broken = ComfyUIServer(tmp_path, BaseFolder.make(tmp_path / "base"))
    with pytest.raises(PreparationError, match=r"(?s)exit status 1.*a reason in the log"), broken:
        pass


def test_a_server_that_dies_is_noticed(comfyui_path, tmp_path):
    from driver.base_folder import BaseFolder
    from driver.client import ComfyUIClient

    with ComfyUIServer(comfyui_path, BaseFolder.make(tmp_path)) as process:
        client = ComfyUIClient(process.address)
        with pytest.raises(ServerGone):
            client.submit({"1": PICTURE, "2": SAVE}, lambda message: process.stop())
        with pytest.raises(ServerGone):
            client.get("/system_stats")


def test_progress_lines_end_every_node_once(server):
    workflow = {
        "1": {**PICTURE, "inputs": {**PICTURE["inputs"], "color": 9}, "_meta": {"title": "A picture"}},
        "2": SAVE,
    }
    screen = StringIO()
    server.client.submit(workflow, ProgressLines(workflow, screen))
    titles = [line.split("100%")[0].strip() for line in screen.getvalue().splitlines() if "100%" in line]
    assert titles == ["A picture", "SaveImage"]
