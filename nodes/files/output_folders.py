"""The folders that our nodes write to by themselves."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from . import unfinished_files
from .concept_files import STATE_FOLDER, embedding_path
from .score_files import FOLDER
from .unet_files import new_file_path


def sweep() -> None:
    """Removes what killed processes left; folders that a user names for captions are swept when written to again."""
    output = Path(folder_paths.get_output_directory())
    named = [new_file_path("loras", "_").parent, new_file_path("diffusion_models", "_").parent]
    unfinished_files.sweep([embedding_path("_").parent, *named, output / STATE_FOLDER, output / FOLDER])
