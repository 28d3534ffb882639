"""One file to share a concept: LoRA, embedding and card, in the bundle form of A1111's web UI.

The embedding's keys are `bundle_emb.NAME.KEY`, KEY as in a file of its own: `string_to_param.*` for one text encoder,
`clip_l` and `clip_g` for SDXL. Core reads it, too, when the file lies in the embeddings folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from torch import Tensor

from ...core_ops.conditioning import Embedding
from ...core_ops.quoting import quoted
from ...core_ops.space_time.reading import own_tensors
from ...core_ops.space_time.space_time_embedding import PREFIX
from . import file_metadata, foreign_files, safe_files
from .concept_files import BUNDLE, EMBEDDING_KEY, SINGLE
from .unet_files import new_file_path

FOLDERS = ("loras", "embeddings")
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
MOST_VECTORS = 75
"""What a prompt has room for."""

_SDXL = {"clip_l", "clip_g"}


@dataclass(frozen=True)
class ConceptFile:
    """What a file holds: the embedding and its name, by key of an embedding file; the LoRA, perhaps none.

    space_time: the tensors of one that differs by layer, perhaps none.
    """

    embedding_name: str
    embedding: Mapping[str, Tensor]
    space_time: Mapping[str, Tensor]
    lora: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def concept_file_names() -> list[str]:
    """Every file that might hold a concept, as the host lists them, with the folder's kind in front.

    Last come embeddings that are to be converted first: who looks for one finds it, and is told so.
    """
    return [*_listed(FOLDERS, (".safetensors",)), *_listed(("embeddings",), PICKLES)]


def _listed(folders: Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    names = ((folder, name) for folder in folders for name in folder_paths.get_filename_list(folder))
    return [f"{folder}/{name}" for folder, name in names if name.lower().endswith(suffixes)]


def concept_file_path(file: str) -> Path:
    """Raises ValueError unless `file` is one of `concept_file_names`, and safetensors. A folder in its name may be
    written as Windows or as others write it."""
    known = {_as_posix(name): name for name in concept_file_names()}.get(_as_posix(file), "")
    folder, _, name = known.partition("/")
    path = folder_paths.get_full_path(folder, name) if known else None
    if path is not None and name.lower().endswith(PICKLES):
        raise ValueError(
            f"file: {name} may run code when it is opened, so it is not; convert it to safetensors, as the help of "
            "Load Concept says."
        )
    if path is None:
        raise ValueError(
            f"file: there is no {quoted(file)} among the LoRAs and embeddings; refresh the list and choose one."
        )
    return Path(path)


def _as_posix(name: str) -> str:
    return name.replace("\\", "/")


def save_concept(
    name: str,
    concept_name: str,
    embedding: Embedding,
    lora: Mapping[str, Tensor],
    space_time: Mapping[str, Tensor],
    about: tuple[Mapping[str, Any], Mapping[str, str]],
    overwrite: bool,
) -> Path:
    """Writes the bundle where core's Load LoRA lists it. about: the card, and further metadata."""
    keys = {SINGLE: next(iter(embedding.values()))} if len(embedding) == 1 else embedding
    tensors = {**lora, **space_time, **{f"{BUNDLE}{concept_name}.{key}": value.float() for key, value in keys.items()}}
    card, extra = about
    path = new_file_path("loras", name)
    metadata = file_metadata.metadata("lora", name=name, tensors=tensors, card=card) | dict(extra)
    safe_files.write(path, tensors, metadata=metadata, overwrite=overwrite)
    return path


def read_concept(path: Path, chosen: str = "") -> ConceptFile:
    """A bundle, or an embedding file, of this pack or of another program.

    chosen: the embedding of several in a bundle. Raises ValueError naming what is wrong with the file.
    """
    tensors, header = foreign_files.read("file", path)
    outline = _outline(path, header, chosen)
    embedding = {key: tensors.pop(name) for key, name in outline.embedding.items()}
    if not any(map(_bundled, header.shapes)):
        embedding = {key: tensor.unsqueeze(0) if tensor.ndim == 1 else tensor for key, tensor in embedding.items()}
    _validate_shapes(path, embedding)
    space_time = own_tensors(tensors)
    lora = {name: tensor for name, tensor in tensors.items() if not _bundled(name) and name not in space_time}
    return ConceptFile(outline.embedding_name, embedding, space_time=space_time, lora=lora, metadata=header.metadata)


@dataclass(frozen=True)
class ConceptOutline:
    """A concept's file by its header alone. embedding: names of its tensors, by key of an embedding file."""

    embedding_name: str
    embedding: Mapping[str, str]
    has_lora: bool
    metadata: Mapping[str, str]


def name_in_prompts(typed: str, stored: str) -> str:
    """What calls a file's embedding: the name that was typed. Where that only chooses one of several, or is empty, the
    nearest that a name can come to the stored one; a path stays one, which is no name."""
    return typed if typed not in ("", stored) else re.sub(r"[^\w./\\:-]+", "-", stored).strip("-") or "concept"


def outline_of(path: Path, chosen: str = "") -> ConceptOutline:
    """What `read_concept` will find, without reading weights; raises ValueError as that does, but for weights."""
    return _outline(path, foreign_files.read_header("file", path), chosen)


def _outline(path: Path, header: foreign_files.Header, chosen: str) -> ConceptOutline:
    shapes = {name: shape for name, shape in header.shapes.items() if not name.startswith(PREFIX)}
    if _is_embedding(shapes):
        return ConceptOutline(path.stem, {key: key for key in shapes}, False, header.metadata)
    embeddings: dict[str, dict[str, str]] = {}
    for name in filter(_bundled, shapes):
        rest = name.removeprefix(BUNDLE)  # NAME.KEY, where both may have dots in them
        key = next((key for key in (SINGLE, EMBEDDING_KEY, *_SDXL) if rest.endswith(f".{key}")), None)
        if key is None:
            raise ValueError(
                f"file: {path.name} has an embedding in an unknown form, {rest[:80]!r}; choose another file."
            )
        embeddings.setdefault(rest.removesuffix(f".{key}"), {})[key] = name
    if not embeddings:
        raise ValueError(f"file: {path.name} holds no embedding, so it is no concept; load it with Load LoRA.")
    if len(embeddings) > 1 and chosen not in embeddings:
        raise ValueError(
            f"embedding_name: {path.name} has {len(embeddings)} embeddings, {', '.join(map(quoted, embeddings))}; "
            "write the one that you want."
        )
    found = chosen if chosen in embeddings else next(iter(embeddings))
    has_lora = not all(map(_bundled, shapes))
    return ConceptOutline(found, embeddings[found], has_lora, header.metadata)


def _bundled(name: str) -> bool:
    return name.startswith(BUNDLE)


def _is_embedding(shapes: Mapping[str, Sequence[int]]) -> bool:
    """Under core's keys, or the only tensor of a file: other programs name it by the word, {"<cat>": [width]}."""
    if shapes.keys() in ({EMBEDDING_KEY}, _SDXL):
        return True
    return len(shapes) == 1 and not any(_bundled(name) or len(shape) not in (1, 2) for name, shape in shapes.items())


def vectors_for(file: ConceptFile, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """The embedding by the names of a CLIP's text encoders, in fp32; raises ValueError when it is as wide as others.

    widths: of the encoders' input embeddings.
    """
    single = len(widths) == 1 and len(file.embedding) == 1
    vectors = {next(iter(widths)): next(iter(file.embedding.values()))} if single else dict(file.embedding)
    found = {name: tensor.shape[1] for name, tensor in vectors.items()}
    if found != dict(widths):
        raise ValueError(
            f"file: its embedding is for text encoders {found}, the connected clip has {dict(widths)}; "
            "connect the text encoder of its base model."
        )
    return {name: vectors[name].float() for name in widths}


def _validate_shapes(path: Path, embedding: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless each encoder's vectors are [vectors, width], as many for both."""
    counts = {tensor.shape[0] for tensor in embedding.values() if tensor.ndim == 2}
    if (
        any(tensor.ndim != 2 for tensor in embedding.values())
        or len(counts) != 1
        or not 0 < max(counts) <= MOST_VECTORS
    ):
        shapes = {key: list(tensor.shape) for key, tensor in embedding.items()}
        raise ValueError(
            f"file: {path.name} has an embedding of shapes {shapes}; needed are [vectors, width], 1 to {MOST_VECTORS}."
        )
