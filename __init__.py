"""CoRe Personalization for ComfyUI: teach a model your own cat, teapot or toy from a few photos.

Importing this file imports nothing of ComfyUI but its version; the nodes are imported when the host asks for them.
"""

from __future__ import annotations

import re
import sys

WEB_DIRECTORY = "./web"
OLDEST_COMFYUI = "0.28.0"  # As requires-comfyui in pyproject.toml. Before it, the tokenizer answered otherwise.
__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    from .nodes.extension import PersonalizationExtension

    return PersonalizationExtension()


def _comfyui_version() -> str | None:
    """The version of the ComfyUI that loads this, such as "0.30.0"; None outside of ComfyUI."""
    try:
        from comfyui_version import __version__
    except ImportError:
        return "older than 0.3.11" if "folder_paths" in sys.modules else None
    return __version__


def _refusal(version: str | None) -> str | None:
    """What is said to a ComfyUI that is too old. One whose version has no number, as of a fork, may try."""
    number = re.search(r"\d+(\.\d+)*", version or "")
    if number is None or _parts(number.group()) >= _parts(OLDEST_COMFYUI):
        return None
    return f"CoRe Personalization needs ComfyUI {OLDEST_COMFYUI} or newer, this is {version}: update ComfyUI."


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


# At import, because hosts before 0.3.48 know no entry point; as an exception, because every host prints it and lists
# the pack as failed.
if _told := _refusal(_comfyui_version()):
    raise ImportError(_told)
