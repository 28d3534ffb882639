"""Where the editor finds the pack's scripts, and what they read."""

from __future__ import annotations

from pathlib import Path


def serve(folder: Path, name: str) -> None:
    """Offers a folder, and loads the scripts in it, at /extensions/<name>.

    WEB_DIRECTORY would offer them at /extensions/<the pack's folder>, and the editor loads nothing from addresses with
    "extensions/core" in them: in a folder called core-personalization they would be passed over in silence.
    """
    import nodes  # ComfyUI's own

    nodes.EXTENSION_WEB_DIRS[name] = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
