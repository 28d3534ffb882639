"""A training that was made and could not be written is written by the next Run, and not made again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from families import embedding, finetuning
from families.stopping import cancel_after

EMBEDDING = {"method": "Textual Inversion", "batch_size": 1, "steps": 3, "rescale_to": 0.0}
FINETUNE = {"scope": "keys and values of cross-attention", "learning_rate": 1e-3, "batch_size": 1, "steps": 3}


def train(models: Any, name: str, **given: Any) -> Any:
    return embedding.execute(models, concept_name=name, **{**EMBEDDING, **given})


def finetune(models: Any, name: str, **given: Any) -> Any:
    return finetuning.execute(models, name=name, **{**FINETUNE, **given})


def disk_is_full_for(name: str, patch: pytest.MonkeyPatch, but_in: str = "") -> None:
    from core_personalization.nodes.files import safe_files

    write = safe_files.write

    def full(path: Any, *arguments: Any, **more: Any) -> None:
        if path.stem == name and path.parent.name not in ("core_states", but_in):
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


def killed(patch: pytest.MonkeyPatch) -> None:
    """Whatever stops a training, nothing more is kept, as where its process is killed."""
    from core_personalization.nodes.training.session import Session

    patch.setattr(Session, "_keep_what_was_learned", lambda _: None)


@pytest.mark.parametrize(("run", "suffix"), [(train, ""), (finetune, ".unet")])
def test_what_a_process_was_killed_over_when_all_was_trained_is_not_trained_again(sd1, steps, run, suffix):
    """Between the state of the last step and the file, which takes minutes where a LoRA is extracted."""
    from core_personalization.nodes.files.concept_files import state_path

    name, given = f"killed{suffix[1:]}", {"overwrite": True, "save_every": 3}
    run(sd1, name, **given)
    with pytest.MonkeyPatch.context() as patch:
        disk_is_full_for(name, patch)
        killed(patch)
        with pytest.raises(OSError, match="No space left"):
            run(sd1, name, seed=5, **given)
    run(sd1, name, seed=5, **given)
    assert steps == [1, 2, 3] * 2
    assert state_path(f"{name}{suffix}").exists()
    run(sd1, name, seed=5, **{**given, "overwrite": False})
    assert steps == [1, 2, 3] * 2
    run(sd1, name, seed=5, **given)
    assert steps == [1, 2, 3] * 3, "its files are there, and overwrite trains anew"


@pytest.mark.parametrize("save_every", [0, 3])
def test_a_file_that_had_no_room_beside_another_is_written_by_the_next_run(sd1, steps, embeddings, save_every):
    from core_personalization.nodes.files.concept_files import state_path

    name, given = f"second-{save_every}", {"train_embedding": True, "overwrite": False, "save_every": save_every}
    with pytest.MonkeyPatch.context() as patch:
        disk_is_full_for(name, patch, but_in="diffusion_models")
        with pytest.raises(OSError, match="No space left"):
            finetune(sd1, name, **given)
    with pytest.raises(ValueError, match=rf"'{name}' exists already .*\.safetensors is not there; choose another name"):
        finetune(sd1, name, seed=5, **given)
    with pytest.raises(ValueError, match=rf"'{name}' exists already .*\.safetensors is not there; choose another name"):
        finetune(sd1, name, start="anew", **given)
    written = finetune(sd1, name, **given)
    assert steps == [1, 2, 3]
    assert (embeddings / f"{name}.safetensors").exists()
    assert state_path(f"{name}.unet").exists() == bool(save_every)
    again = finetune(sd1, name, **given)
    assert steps == [1, 2, 3] and again[5] == written[5]


def test_so_it_is_where_the_training_went_on_with_another_rate(sd1, steps, embeddings):
    from core_personalization.nodes.host.run_control import Cancelled

    name, given = "second-rate", {"train_embedding": True, "overwrite": False}
    with pytest.MonkeyPatch.context() as patch:
        cancel_after(patch, 2)
        with pytest.raises(Cancelled):
            finetune(sd1, name, **given)
    with pytest.MonkeyPatch.context() as patch:
        disk_is_full_for(name, patch, but_in="diffusion_models")
        with pytest.raises(OSError, match="No space left"):
            finetune(sd1, name, **given, learning_rate=1e-4)
    finetune(sd1, name, **given, learning_rate=1e-4)
    assert steps == [1, 2, 3] and (embeddings / f"{name}.safetensors").exists()


def test_another_file_beside_one_that_had_no_room_is_not_replaced(sd1, steps, embeddings):
    """As where overwrite is switched off before the second Run."""
    name, given = "second-another", {"train_embedding": True}
    before = Path(finetune(sd1, name, overwrite=True, **given)[5])
    content = before.read_bytes()
    (embeddings / f"{name}.safetensors").unlink()
    with pytest.MonkeyPatch.context() as patch:
        disk_is_full_for(name, patch)
        with pytest.raises(OSError, match="No space left"):
            finetune(sd1, name, overwrite=True, seed=5, **given)
    with pytest.raises(ValueError, match=r"exists already .* is not there; choose another name"):
        finetune(sd1, name, overwrite=False, seed=5, **given)
    assert before.read_bytes() == content
    finetune(sd1, name, overwrite=True, seed=5, **given)
    assert steps == [1, 2, 3] * 2


def nothing_is_removed(patch: pytest.MonkeyPatch, *endings: str) -> None:
    """Files whose names end so are open in another program, as on Windows."""
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith(endings):
            raise PermissionError(13, "The process cannot access the file", str(path))
        unlink(path, missing_ok=missing_ok)

    patch.setattr(Path, "unlink", refused)


@pytest.mark.parametrize(("run", "suffix"), [(train, ""), (finetune, ".unet")])
def test_a_step_that_another_program_has_open_is_left_and_the_training_ends_well(
    sd1, steps, monkeypatch, caplog, run, suffix
):
    from core_personalization.nodes.files.concept_files import state_path

    name = f"held{suffix[1:]}"
    nothing_is_removed(monkeypatch, "-step2.safetensors")
    given = {"save_every": 1, "clear_steps": True, "overwrite": True}
    for _ in range(2):
        made = run(sd1, name, **given)
    assert steps == [1, 2, 3] * 2
    file = Path(made[0].path if run is train else made[5])
    assert file.exists() and not state_path(f"{name}{suffix}").exists()
    assert [left.name for left in (file.parent / f"{name}-steps").iterdir()] == [f"{name}-step2.safetensors"]
    assert f"{name}-step2.safetensors" in caplog.text and "cannot access the file" in caplog.text


def test_a_state_that_another_program_has_open_is_left(sd1, steps, monkeypatch, caplog):
    from core_personalization.nodes.files.concept_files import state_path

    state, given = state_path("held-state"), {"save_every": 3, "clear_steps": True}
    with monkeypatch.context() as patch:
        nothing_is_removed(patch, state.name)
        made = train(sd1, "held-state", overwrite=True, **given)
        assert str(state) in caplog.text
        train(sd1, "held-state", overwrite=False, **given)
    assert made[0].path.exists() and state.exists()
    train(sd1, "held-state", overwrite=False, **given)
    assert steps == [1, 2, 3] and not state.exists()


def test_a_last_state_that_has_no_room_does_not_fail_what_is_written(sd1, steps, monkeypatch, caplog):
    from core_personalization.nodes.files import concept_files

    save_state = concept_files.save_state

    def full(name: str, state: Any) -> Path:
        if state["loop"]["step"] == 3:
            raise OSError(28, "No space left on device")
        return save_state(name, state)

    monkeypatch.setattr(concept_files, "save_state", full)
    made = train(sd1, "no-state", save_every=2)
    assert made[0].path.exists() and steps == [1, 2, 3]
    assert "No space left on device" in caplog.text


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
