"""The node "Selectively Informative Captions" run by ComfyUI: what is shown, passed on, and cancelled."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from families.captioning import ANSWER, CAPTION, new_folder, pictures
from families.vision_language import load_vision_language


@pytest.fixture(scope="module")
def reader():
    """A vision-language model that always answers `ANSWER`."""
    return load_vision_language(ANSWER)


@pytest.fixture
def folder(comfyui) -> Path:
    return new_folder()


class Messages:
    """Takes the place of the server: keeps what a browser would get, and may act on it."""

    def __init__(self, on_message: Callable[[str, Any], object] = lambda event, data: None) -> None:
        self.client_id, self.last_node_id = "test", None
        self.sent: list[tuple[str, Any]] = []
        self._on_message = on_message

    def send_sync(self, event: Any, data: Any, sid: Any = None) -> None:
        self.sent.append((event, data))
        self._on_message(event, data)

    def send_progress_text(self, text: str, node_id: str) -> None:
        self.send_sync("progress_text", text)


@pytest.fixture
def run(comfyui, reader, monkeypatch):
    """Runs a graph of a loader, our node and core's preview through ComfyUI's executor."""
    import execution
    import server
    from comfy_extras.nodes_preview_any import PreviewAny
    from core_personalization.nodes.captions.selective_caption import SelectiveCaption

    class Loader:
        RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE", "CLIP"), "load", "test"
        OUTPUT_IS_LIST = (True, False)
        INPUT_TYPES = classmethod(lambda cls: {"required": {}})

        def load(self):
            return pictures(), reader

    classes = {"TestLoader": Loader, "CoReSelectiveCaption": SelectiveCaption, "PreviewAny": PreviewAny}
    for name, node in classes.items():
        monkeypatch.setitem(import_module("nodes").NODE_CLASS_MAPPINGS, name, node)

    def run(messages: Messages, **inputs) -> Any:
        monkeypatch.setattr(server.PromptServer, "instance", messages, raising=False)
        defaults = {
            field.id: field.default for field in SelectiveCaption.GET_SCHEMA().inputs if hasattr(field, "default")
        }
        defaults = {name: value for name, value in defaults.items() if name != "captions"}
        graph = {
            "1": {"class_type": "TestLoader", "inputs": {}},
            "2": {
                "class_type": "CoReSelectiveCaption",
                "inputs": {**defaults, "images": ["1", 0], "vision_clip": ["1", 1], **inputs},
            },
            "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
        }
        executor = execution.PromptExecutor(
            messages, execution.CacheType.NONE, {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
        )
        executor.execute(graph, "prompt", {"client_id": "test"}, ["2", "3"])
        return executor

    return run


def test_comfyuis_executor_shows_captions_and_passes_them_on(run):
    messages = Messages()
    executor = run(messages)
    assert executor.success, executor.status_messages
    shown = {data["node"]: data["output"] for event, data in messages.sent if event == "executed"}
    assert shown["2"]["text"] == ["\n".join([CAPTION] * 3)]
    assert len(shown["2"]["images"]) == 3
    assert CAPTION in shown["3"]["text"][0]
    texts = [data for event, data in messages.sent if event == "progress_text"]
    assert [text.split(" · ")[0] for text in texts[:3]] == ["step 1/3", "step 2/3", "step 3/3"]
    assert texts[-1].startswith("\n".join([CAPTION] * 3)) and "picture 1 (model)" in texts[-1]


def test_cancel_stops_between_two_images_and_saves_nothing(run, folder):
    import comfy.model_management

    def cancel(event, data):
        if event == "progress_text" and data.startswith("step 1/3"):
            comfy.model_management.interrupt_current_processing()

    messages = Messages(cancel)
    executor = run(messages, save_to="input", save_folder=folder.name)
    assert not executor.success
    assert "execution_interrupted" in [event for event, _ in messages.sent]
    assert [data for event, data in messages.sent if event == "progress_text" and data.startswith("step 2/3")] == []
    assert not folder.exists()
