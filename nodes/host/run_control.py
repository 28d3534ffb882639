"""Progress, cancel and memory of one long run inside a node."""

from __future__ import annotations

import base64
import gc
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image
from server import PromptServer
from torch import Tensor

PREVIEW_SIDE = 800
"""Of the pictures on a node, in pixels: sharp at twice the width of a node."""

Cancelled = comfy.model_management.InterruptProcessingException


class RunProgress:
    """The node's progress bar, with a line of text under it and pictures."""

    def __init__(self, total: int, node_id: str | None, done: int = 0) -> None:
        self._bar = comfy.utils.ProgressBar(total, node_id)
        self._node_id = node_id
        self._total, self._first = total, done
        self._started = time.monotonic()

    def update(self, step: int, text: str, preview: Tensor | None = None) -> None:
        """Shows that `step` of the total is done, then raises `Cancelled` if the user asked for it.

        text: about the step; the time left is added. preview: a picture [H, W, 3].
        """
        self.show(step, preview)
        per_step = (time.monotonic() - self._started) / max(step - self._first, 1)
        self.say(f"step {step}/{self._total} · {about(per_step * (self._total - step))} left · {text}")
        check_cancelled()

    def show(self, step: int, preview: Tensor | None = None) -> None:
        """Moves the bar, and shows a picture [H, W, 3] on the node."""
        image = None
        if preview is not None:
            image = ("JPEG", image_of(preview), PREVIEW_SIDE)
        self._bar.update_absolute(step, self._total, image)

    def say(self, text: str) -> None:
        """Shows a line of text on the node, in the browser."""
        show_text(text, self._node_id)


def duration(seconds: float) -> str:
    """In whole minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def about(seconds: float) -> str:
    """Of a time to wait: in its largest unit, for nobody knows it better."""
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def image_of(picture: Tensor) -> Image.Image:
    """A picture [H, W, 3] in 0…1."""
    return Image.fromarray((picture.detach().clamp(0, 1) * 255).round().byte().cpu().numpy())


def jpeg(image: Image.Image, quality: int = 92) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


JPEG_URI = "data:image/jpeg;base64,"


def data_uri(content: bytes) -> str:
    """Of a JPEG."""
    return JPEG_URI + base64.b64encode(content).decode()


def show_text(text: str, node_id: str | None) -> None:
    """Shows a line of text on a node, in the browser."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        # A file's name may hold bytes that are no text.
        server.send_progress_text(text.encode("utf-8", "backslashreplace").decode(), node_id)


def node_id_of(node: Any) -> str | None:
    """The id in the graph of a node that asks for it as hidden input, while the host executes it; None elsewhere."""
    return node.hidden.unique_id if node.hidden else None


def blocked_output(message: str) -> Any:
    """An output that stops, with this message, whatever is connected to it; the node's other outputs work."""
    return ExecutionBlocker(message)


def check_cancelled() -> None:
    """Raises `Cancelled` when the user pressed cancel; the host itself asks only now and then."""
    comfy.model_management.throw_exception_if_processing_interrupted()


@contextmanager
def releasing_memory(settings_to_lower: str) -> Iterator[None]:
    """Gives back what a run took, however it ends; turns running out of memory into an error that says what to do."""
    try:
        yield
    except comfy.model_management.OOM_EXCEPTION as error:
        needed = (
            f" It had reached {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB." if torch.cuda.is_available() else ""
        )
        raise RuntimeError(f"Out of memory.{needed} Lower {settings_to_lower}.") from error
    finally:
        gc.collect()
        comfy.model_management.soft_empty_cache()
