"""Names and folders that mean harm, in every input that one can be typed into: refused, and nothing is written.

tests/host/test_safe_files.py has more names that are none.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import concepts, finetuning, scoring
from families.concepts import make_concept

NAMES = (
    "a/../../evil",
    "/tmp/evil",
    "C:\\evil",
    "\\\\server\\share\\evil",
    "NUL",
    "evil.",
    "evil\0.safetensors",
    "<img src=x>",
    "\u202eevil",
    "e\u0301vil",  # macOS and Windows differ on how many letters that is
)
FOLDERS = ("..", "../evil", "a/../../evil", "/tmp/evil", "\0", ".", "", "link", "link/deeper")


def run(node: Any, **given: Any) -> Any:
    with torch.inference_mode():
        return node.execute(**given)


def train(models: Any, concept: Any, **given: Any) -> None:
    from core_personalization.nodes.embedding.train_embedding import TrainEmbedding

    model, clip, vae = ([part] for part in models)
    values = {name: [value] for name, value in {"concept_name": "new", "super_category": "dog", **given}.items()}
    run(TrainEmbedding, model=model, clip=clip, vae=vae, images=finetuning.pictures(), **values)


def refine(models: Any, concept: Any, **given: Any) -> None:
    from core_personalization.nodes.refinement.optimize_prompt import OptimizePrompt

    run(OptimizePrompt, model=models[0], clip=models[1], concept=concept, prompt="a photo of a {}", **given)


def load(models: Any, concept: Any, **given: Any) -> None:
    concepts.load(models, **{"file": f"embeddings/{concept.path.name}", **given})


INPUTS: dict[str, Callable[[Any, Any, str], None]] = {
    "concept_name": lambda models, concept, name: train(models, concept, concept_name=name),
    "name": lambda models, concept, name: finetuning.execute(models, concept, name=name),
    "save_as": lambda models, concept, name: refine(models, concept, save_as=name),
    "embedding_name": lambda models, concept, name: load(models, concept, embedding_name=name),
    "file": lambda models, concept, name: load(models, concept, file=f"loras/{name}"),
}


@pytest.fixture(scope="module")
def concept(sd1) -> Any:
    return make_concept(sd1, "harmless")


def everything(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("where", INPUTS)
def test_a_hostile_name_is_refused_and_nothing_is_written(where, sd1, concept, comfyui):
    before = everything(comfyui)
    for name in NAMES:
        with pytest.raises(ValueError, match=f"^{where.split()[0]}: ") as refused:
            INPUTS[where](sd1, concept, name)
        assert name not in str(refused.value) or name.isprintable(), name
    assert everything(comfyui) == before


def test_a_scorecard_of_such_a_name_is_refused(vision_models, comfyui):
    before = everything(comfyui)
    for name in NAMES:
        with pytest.raises(ValueError, match=r"^scorecard_name: "):
            scoring.execute(vision_models, scorecard_name=name)
    assert everything(comfyui) == before


def test_a_name_that_only_case_tells_from_another_is_taken(sd1, concept, comfyui):
    """On Windows and macOS it would be the same file."""
    for node, given in ((train, {"concept_name": "HARMLESS"}), (refine, {"save_as": "Harmless"})):
        with pytest.raises(ValueError, match="an embedding 'harmless' exists already"):
            node(sd1, concept, **given)
    concepts.save(concept, name="Shared")
    with pytest.raises(ValueError, match=r"name: .*Shared\.safetensors exists already"):
        concepts.save(concept, name="shared", overwrite=False)
    with pytest.raises(ValueError, match="name: a finetune 'Shared' exists already"):
        finetuning.execute(sd1, concept, name="sharED", form="LoRA", overwrite=False)


@pytest.fixture
def outside(comfyui, tmp_path) -> Path:
    """A folder elsewhere, to which `link` in the input and output folders leads."""
    import folder_paths

    for base in (folder_paths.get_input_directory(), folder_paths.get_output_directory()):
        Path(base).mkdir(exist_ok=True)
        link = Path(base) / "link"
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(tmp_path, target_is_directory=True)
        except OSError:
            pytest.skip("this system lets not everybody make symbolic links")
    return tmp_path


@pytest.mark.parametrize("root", ["input", "output"])
def test_captions_are_saved_in_no_folder_outside(root, outside, comfyui):
    from core_personalization.nodes.captions.selective_caption import SelectiveCaption

    given = {"super_category": "dog", "case": "Case 1: class only", "save_to": root}
    before = everything(comfyui)
    for folder in FOLDERS:
        values = {name: [value] for name, value in {**given, "save_folder": folder}.items()}
        with pytest.raises(ValueError, match=r"^save_folder: "):
            run(SelectiveCaption, images=finetuning.pictures(), **values)
    assert everything(comfyui) == before
    assert list(outside.iterdir()) == []


def test_a_link_in_a_files_place_is_replaced_and_not_followed(sd1, concept, comfyui, outside):
    precious = outside / "precious.txt"
    precious.write_text("precious")
    link = concept.path.with_name("linked.safetensors")
    link.symlink_to(precious)
    with pytest.raises(ValueError, match="exists already"):
        train(sd1, concept, concept_name="linked")
    make_concept(sd1, "linked")  # as with overwrite on
    assert precious.read_text() == "precious"
    assert not link.is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such users")
def test_a_user_without_a_name_has_a_folder_too(comfyui, tmp_path, monkeypatch):
    from core_personalization.nodes.files import concept_files

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert str(os.getuid()) in concept_files.spare_state_path("mine").parent.name


@pytest.mark.skipif(os.name == "nt", reason="Windows gives every user a temporary folder")
def test_no_state_comes_from_a_folder_that_others_could_write(comfyui, tmp_path, monkeypatch):
    import folder_paths
    from core_personalization.nodes.files import concept_files, safe_files

    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    spare = concept_files.spare_state_path("planted").parent
    assert spare.parent == tmp_path
    spare.mkdir(mode=0o700)
    safe_files.write(spare / "planted.safetensors", {}, {"state": '{"step": 1}'}, overwrite=False)
    assert concept_files.load_state("planted") == {"step": 1}
    with monkeypatch.context() as elsewhere:  # another ComfyUI of the same person's
        elsewhere.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
        assert concept_files.load_state("planted") is None
    spare.chmod(0o777)
    assert concept_files.load_state("planted") is None
    spare.chmod(0o700)
    spare.rename(tmp_path / "elsewhere")
    spare.symlink_to(tmp_path / "elsewhere")
    assert concept_files.load_state("planted") is None
