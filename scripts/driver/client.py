"""One conversation with a ComfyUI server: convert a workflow, queue it, follow it to its end."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import websocket
from comfy_cli.workflow_to_api import convert_ui_to_api
from preparation.errors import PreparationError

Workflow = dict[str, Any]
Message = dict[str, Any]
TEXT_EVENT = 3
"""Of ComfyUI's BinaryEventTypes."""


class WorkflowError(PreparationError):
    """ComfyUI refused a workflow, or a node of it failed."""


class WorkflowInterrupted(WorkflowError):
    """Somebody called interrupt()."""


class ServerGone(PreparationError):
    """The connection ended before the workflow did."""


@dataclass(frozen=True)
class Execution:
    """outputs: per node id what it shows, such as {"images": [{"filename", "subfolder", "type"}]}.

    messages: all that came while it ran, in order, each {"type", "data"}.
    """

    prompt_id: str
    outputs: Mapping[str, Mapping[str, Any]]
    messages: list[Message]


class ComfyUIClient:
    def __init__(self, address: str) -> None:
        self._address = address
        self._id = uuid.uuid4().hex

    def get(self, path: str) -> Any:
        return self._request(path, None)

    def convert(self, ui_workflow: Workflow) -> Workflow:
        """A workflow as the editor saves it, in the form that the server runs."""
        return convert_ui_to_api(ui_workflow, self.get("/object_info"))

    def interrupt(self) -> None:
        self._request("/interrupt", {})

    def submit(self, workflow: Workflow, on_message: Callable[[Message], object] | None = None) -> Execution:
        """Runs a workflow in API form to its end. Raises WorkflowError, WorkflowInterrupted or ServerGone."""
        try:
            connection = websocket.create_connection(f"ws://{self._address}/ws?clientId={self._id}")
        except (OSError, websocket.WebSocketException) as error:
            raise ServerGone(f"ComfyUI does not answer: {error}") from error
        try:
            prompt_id = self._request("/prompt", {"prompt": workflow, "client_id": self._id})["prompt_id"]
            messages = _follow(connection, prompt_id, on_message or (lambda message: None))
        except (ConnectionError, websocket.WebSocketException) as error:
            raise ServerGone(f"ComfyUI ended while it ran the workflow ({error}).") from error
        finally:
            connection.close()
        _raise_failure(messages)
        return Execution(prompt_id, self.get(f"/history/{prompt_id}")[prompt_id]["outputs"], messages)

    def _request(self, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self._address}{path}", data=data)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request) as response:
                answer = response.read()
        except urllib.error.HTTPError as error:
            raise WorkflowError(_refusal(error.read())) from error
        except urllib.error.URLError as error:
            raise ServerGone(f"ComfyUI does not answer: {error.reason}") from error
        return json.loads(answer) if answer else None


def _follow(connection: websocket.WebSocket, prompt_id: str, on_message: Callable[[Message], object]) -> list[Message]:
    messages: list[Message] = []
    while True:
        content = connection.recv()
        message = json.loads(content) if isinstance(content, str) and content else _progress_text(content)
        if message is None:
            continue  # A preview picture.
        data = message.get("data", {})
        if data.get("prompt_id", prompt_id) != prompt_id:
            continue
        messages.append(message)
        on_message(message)
        # "executing nothing" is sent after the history is written, unlike execution_success.
        if message["type"] == "executing" and data["node"] is None and data.get("prompt_id") == prompt_id:
            return messages


def _progress_text(content: str | bytes) -> Message | None:
    """The line that a node shows while it works, as a message like the others; ComfyUI sends it as bytes."""
    if not isinstance(content, bytes) or int.from_bytes(content[:4], "big") != TEXT_EVENT:
        return None
    end = 8 + int.from_bytes(content[4:8], "big")
    return {"type": "progress_text", "data": {"node": content[8:end].decode(), "text": content[end:].decode()}}


def _raise_failure(messages: list[Message]) -> None:
    for message in messages:
        data = message.get("data", {})
        if message["type"] == "execution_interrupted":
            raise WorkflowInterrupted(f"The workflow was interrupted in node {data['node_type']}.")
        if message["type"] == "execution_error":
            raise WorkflowError(f"Node {data['node_type']} failed: {data['exception_message'].strip()}")


def _refusal(body: bytes) -> str:
    """The server's reasons, per node, in one paragraph."""
    try:
        answer = json.loads(body)
        reasons = [
            f"{node['class_type']}: {error['message']} ({error['details']})"
            for node in answer["node_errors"].values()
            for error in node["errors"]
        ]
        return "ComfyUI refuses the workflow. " + ("; ".join(reasons) or answer["error"]["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"ComfyUI refuses the request: {body.decode(errors='replace')[:500]}"
