"""A training that was made and could not be written is written by the next Run, and not made again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from families import embedding, finetuning

EMBEDDING = {"method": "Textual Inversion", "batch_size": 1, "steps": 3, "rescale_to": 0.0}
FINETUNE = {"scope": "keys and values of cross-attention", "learning_rate": 1e-3, "batch_size": 1, "steps": 3}


def train(models: Any, name: str, **given: Any) -> Any:
    return embedding.execute(models, concept_name=name, **{**EMBEDDING, **given})


def finetune(models: Any, name: str, **given: Any) -> Any:
    return finetuning.execute(models, name=name, **{**FINETUNE, **given})


def disk_is_full_for(name: str, patch: pytest.MonkeyPatch) -> None:
    from core_personalization.nodes.files import safe_files

    write = safe_files.write

    def full(path: Any, *arguments: Any, **more: Any) -> None:
        if path.stem == name and path.parent.name != "core_states":
            raise OSError(28, "No space left on device")
        write(path, *arguments, **more)

    patch.setattr(safe_files, "write", full)


@pytest.mark.parametrize(("run", "suffix"), [(train, ""), (finetune, ".unet")])
def test_what_was_trained_in_place_of_another_and_not_written_is_not_trained_again(sd1, steps, run, suffix):
    from core_personalization.nodes.files.concept_files import state_path

    name = f"unwritten{suffix[1:]}"
    run(sd1, name, overwrite=True)
    with pytest.MonkeyPatch.context() as patch:
        disk_is_full_for(name, patch)
        with pytest.raises(OSError, match="No space left"):
            run(sd1, name, overwrite=True, seed=5)
    run(sd1, name, overwrite=True, seed=5)
    assert steps == [1, 2, 3] * 2
    assert not state_path(f"{name}{suffix}").exists()
    run(sd1, name, overwrite=False, seed=5)
    assert steps == [1, 2, 3] * 2


@pytest.fixture
def ends_badly() -> Iterator[pytest.MonkeyPatch]:
    """After its files are written a training stops, as where memory runs out in the last preview."""
    from core_personalization.nodes.training.session import Session

    def fails(*_: Any) -> None:
        raise RuntimeError("the last preview")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "finish", fails)
        yield patch


@pytest.mark.parametrize("save_every", [0, 2])
def test_the_state_of_a_training_whose_files_are_there_goes_where_none_was_asked_for(
    sd1, steps, ends_badly, save_every
):
    from core_personalization.nodes.files.concept_files import state_path

    name = f"ends-badly-{save_every}"
    with pytest.raises(RuntimeError, match="the last preview"):
        train(sd1, name, save_every=save_every)
    ends_badly.undo()
    assert state_path(name).exists()
    train(sd1, name, save_every=save_every, overwrite=False)
    assert steps == [1, 2, 3]
    assert state_path(name).exists() == bool(save_every)


def test_the_state_of_another_training_stays_beside_files_that_are_loaded(sd1, steps):
    from core_personalization.nodes.files.concept_files import state_path

    train(sd1, "beside-it", overwrite=True)
    with pytest.MonkeyPatch.context() as patch:
        disk_is_full_for("beside-it", patch)
        with pytest.raises(OSError, match="No space left"):
            train(sd1, "beside-it", overwrite=True, seed=5)
    train(sd1, "beside-it", overwrite=False)
    assert steps == [1, 2, 3] * 2 and state_path("beside-it").exists()
