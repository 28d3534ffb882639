"""Embedding files as ComfyUI, A1111 and diffusers read them, and the state that a run can resume from."""

from __future__ import annotations

import filecmp
import getpass
import hashlib
import io
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core_ops.conditioning import Embedding
from ...core_ops.prompts.prompt_templates import reads_as_weight
from ...core_ops.space_time.reading import own_tensors, read_space_time
from ...core_ops.space_time.space_time_embedding import SpaceTimeEmbedding
from . import file_metadata, safe_files

logger = logging.getLogger(__name__)

STATE_FOLDER = "core_states"
EMBEDDING_KEY = "emb_params"
BUNDLE, SINGLE = "bundle_emb.", "string_to_param.*"
_BUNDLED = re.compile(rf"{re.escape(BUNDLE)}(.+)\.({re.escape(SINGLE)}|clip_[lg])", re.DOTALL)
"""Of what core reads in a bundle: its embedding's name, and the key."""


def embedding_path(name: str) -> Path:
    """Where an embedding of this name goes: the first of the host's embeddings folders."""
    return Path(folder_paths.get_folder_paths("embeddings")[0]) / f"{name}.safetensors"


def validate_embedding_name(parameter: str, name: str) -> None:
    """Raises ValueError, beginning with `parameter`, unless it is a plain file name and no number."""
    safe_files.validate_name(parameter, name)
    if reads_as_weight(name):
        raise ValueError(
            f"{parameter}: {name!r} is a number, and ComfyUI reads (embedding:{name}) as a weight; add letters, for "
            f"example 'my-{name}'."
        )


def validate_new_embedding(name: str, overwrite: bool, parameter: str = "concept_name") -> None:
    """Raises ValueError, beginning with `parameter`, when the name is no plain file name, taken in any embeddings
    folder, or not writable."""
    validate_embedding_name(parameter, name)
    if (other := safe_files.taken(embedding_path(name))) and not overwrite:
        raise ValueError(
            f"{parameter}: an embedding {other.stem!r} exists already at {other}; "
            "choose another name or switch overwrite on."
        )
    own = embedding_path(name)
    for path in set(files_named(name)) - {own}:
        if not (own.exists() and filecmp.cmp(own, path, shallow=False)):
            raise ValueError(
                f"{parameter}: another embedding {name!r} is at {path}, and prompts may find that one; choose another "
                "name, or move that file out of ComfyUI's embeddings folders."
            )
    safe_files.validate_writable(parameter, own.parent)


def files_named(name: str) -> list[Path]:
    """The files of this name, of which the host finds any: it looks through all its embeddings folders, and their
    subfolders, in no order."""
    listed = [file for file in folder_paths.get_filename_list("embeddings") if Path(file).stem == name]
    found = {embedding_path(name), *(Path(folder_paths.get_full_path_or_raise("embeddings", file)) for file in listed)}
    return sorted(path for path in found if path.exists())


def embedding_tensors(vectors: Embedding, space_time: SpaceTimeEmbedding | None = None) -> dict[str, Tensor]:
    """The keys other programs expect: `emb_params` for one text encoder, `clip_l` and `clip_g` for SDXL.

    What differs by layer and timestep comes after them: core reads the first.
    """
    keyed = {EMBEDDING_KEY: next(iter(vectors.values()))} if len(vectors) == 1 else dict(vectors)
    return keyed | (space_time.tensors() if space_time else {})


def save_embedding(
    name: str,
    vectors: Embedding,
    card: Mapping[str, Any],
    overwrite: bool,
    space_time: SpaceTimeEmbedding | None = None,
) -> Path:
    """Writes the embedding with its card as metadata, and returns where."""
    path = embedding_path(name)
    tensors = embedding_tensors(vectors, space_time)
    metadata = file_metadata.metadata("textual-inversion", name=path.stem, tensors=tensors, card=card)
    safe_files.write(path, tensors, metadata=metadata, overwrite=overwrite)
    return path


def read_embedding(path: Path, encoders: Sequence[str]) -> tuple[dict[str, Tensor], SpaceTimeEmbedding | None]:
    """What a file holds that `save_embedding` wrote: vectors by text encoder, and what they are the mean of."""
    tensors, _ = safe_files.read_own(path)
    vectors = {name: tensors[EMBEDDING_KEY if len(encoders) == 1 else name] for name in encoders}
    return vectors, read_space_time(tensors, vectors)


def place_embedding(
    name: str, vectors: Embedding, card: Mapping[str, Any], space_time: SpaceTimeEmbedding | None = None
) -> Path:
    """The file of this embedding where the host's tokenizer finds it by this name; written if there is none yet.

    Raises ValueError when the name is no plain file name, or belongs to another embedding in any embeddings folder.
    """
    safe_files.validate_name("embedding_name", name)
    present = files_named(name)
    for path in present:
        if not holds(path, vectors, space_time):
            raise ValueError(
                f"embedding_name: another embedding {name!r} is at {path}; it stays. "
                "Give this one a name of its own in embedding_name."
            )
    return present[0] if present else save_embedding(name, vectors, card, overwrite=False, space_time=space_time)


def holds(path: Path, vectors: Embedding, space_time: SpaceTimeEmbedding | None = None) -> bool:
    """Whether a file's embedding is this one, whatever its number format and the name that another program gave it."""
    try:
        found = _of_bundle(safe_files.read(path)[0]) if path.suffix == ".safetensors" else {}
    except Exception:  # damaged, and so another
        return False
    tensors = embedding_tensors(vectors, space_time)
    if len(found) == len(tensors) == 1:
        found = dict(zip(tensors, found.values(), strict=True))
    return found.keys() == tensors.keys() and all(
        torch.equal(found[key].float().reshape(-1), tensors[key].reshape(-1)) for key in tensors
    )


def _of_bundle(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A bundle's embedding as in a file of its own; what is in any other file. Core reads several as one: no such."""
    bundled = {match: tensor for name, tensor in tensors.items() if (match := _BUNDLED.fullmatch(name))}
    if len({match[1] for match in bundled}) != 1:
        return tensors
    embedding = {EMBEDDING_KEY if match[2] == SINGLE else match[2]: tensor for match, tensor in bundled.items()}
    return embedding | own_tensors(tensors)


def state_path(name: str) -> Path:
    """Where the state of this name goes: `STATE_FOLDER` in the host's output folder."""
    return Path(folder_paths.get_output_directory()) / STATE_FOLDER / f"{name}.safetensors"


def spare_state_path(name: str) -> Path:
    """Where a state goes on the system's own disk when the output folder, whose own it is, is full or gone."""
    output = hashlib.sha256(os.fsencode(folder_paths.get_output_directory())).hexdigest()[:8]
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()  # a container's user may have no name
    return Path(tempfile.gettempdir()) / f"{STATE_FOLDER}-{user}-{output}" / f"{name}.safetensors"


def save_state(name: str, state: Mapping[str, Any]) -> Path:
    """Writes nested dictionaries of tensors, numbers and strings; replaces the state of an earlier step."""
    tensors: dict[str, Tensor] = {}
    metadata = {"state": json.dumps(_split(state, "", tensors))}
    path, spare = state_path(name), spare_state_path(name)
    try:
        safe_files.write(path, tensors, metadata=metadata, overwrite=True)
    except OSError as error:
        spare.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(spare.parent):
            raise
        logger.warning("%s The state is kept in %s.", error, spare)
        safe_files.write(spare, tensors, metadata=metadata, overwrite=True)
        return spare
    if _is_private(spare.parent):
        remove(spare)
    return path


def load_state(name: str, tensors: bool = True) -> dict[str, Any] | None:
    """What `save_state` wrote under this name; None when there is none. tensors: also those, which may be large.

    Raises ValueError when it cannot be read.
    """
    spare = spare_state_path(name)
    places = [state_path(name), *([spare] if _is_private(spare.parent) else [])]
    path = max(places, key=lambda place: place.stat().st_mtime if place.is_file() else 0.0)
    if not path.is_file():
        return None
    try:
        if tensors:
            found, metadata = safe_files.read_own(path)
        else:
            found, metadata = {}, safe_files.read_metadata(path)
        return dict(_join(json.loads(metadata["state"]), "", found))
    except safe_files.NoRoom as error:
        raise ValueError(f"start: what was kept is whole, but {error}") from error
    except Exception as error:
        raise ValueError(
            f"start: {path} is not a state that this node saved ({error}); choose 'anew' to replace it."
        ) from error


def remove_state(name: str) -> None:
    """Of a training that needs it no more."""
    spare = spare_state_path(name)
    for path in (state_path(name), *([spare] if _is_private(spare.parent) else [])):
        remove(path)


def remove(path: Path) -> None:
    """Of what is of use no more: it stays where it cannot go, as on Windows what another program has open."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s could not be removed, and stays: %s", path, error.strerror)


def step_name(name: str, step: int) -> str:
    """What was learned up to a step lies in a folder of its own: `embedding:NAME-steps/NAME-step50`."""
    return f"{name}-steps/{name}-step{step}"


def remove_steps(folder: Path, name: str, others: Sequence[str] = ()) -> None:
    """Removes what `step_name` names in a folder, with its pictures, and nothing else.

    others: what is added to the name of a step for further concepts.
    """
    place = folder / f"{name}-steps"
    added = "|".join(re.escape(f"-{other}") for other in others)
    for file in place.glob("*"):
        if re.fullmatch(rf"{re.escape(name)}-step\d+(?:{added})?\.(safetensors|jpg)", file.name):
            remove(file)
    with suppress(OSError):  # something is left in it, or it is not there
        place.rmdir()


def _is_private(folder: Path) -> bool:
    """Whether nobody else can have put a file there: the system's folder of temporary files is everybody's."""
    if os.name == "nt":  # a folder of the user's own
        return True
    if folder.is_symlink() or not folder.is_dir():
        return False
    about = folder.stat()
    return about.st_uid == os.getuid() and not about.st_mode & 0o022


def _split(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    """Moves tensors out of nested dictionaries into `tensors`, leaving None in their places."""
    if isinstance(value, Mapping):
        return {name: _split(inner, f"{key}/{name}", tensors) for name, inner in value.items()}
    if isinstance(value, torch.Tensor):
        tensors[key] = value
        return None
    return value


def _join(value: Any, key: str, tensors: Mapping[str, Tensor]) -> Any:
    """Puts the tensors that `_split` moved out back into their places."""
    if isinstance(value, Mapping):
        return {name: _join(inner, f"{key}/{name}", tensors) for name, inner in value.items()}
    return tensors.get(key, value)


def picture_beside(file: Path) -> Path:
    """Where the preview of a file lies; ComfyUI's list of models shows it."""
    return file.with_suffix(".preview.jpg")


def read_picture(path: Path) -> Tensor | None:
    """[1, H, W, 3] of a picture that a training wrote; None where there is none."""
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=["JPEG"]) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    except (OSError, ValueError, SyntaxError):
        return None
    return torch.from_numpy(pixels / 255).unsqueeze(0)
