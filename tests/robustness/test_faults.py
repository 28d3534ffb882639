"""After every fault: a message that says what to do, what was learned kept, the host as it was, the next run right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from core_personalization.core_ops.training.training_loop import TrainingLoop
from core_personalization.nodes.files import safe_files

from robustness import fault_table
from robustness.faults import CANCELLED, FAULTS, STATE, STEP, WHOLE, Fault, Scene
from robustness.smallest import Models, condition
from robustness.subjects import PROBE, SUBJECTS, TRAIN, Result, Subject, train_embedding

CASES = [
    pytest.param(
        fault, subject, id=f"{subject.title}: {fault.title}", marks=[] if subject in fault.quick else pytest.mark.long
    )
    for fault in FAULTS
    for subject in fault.outcomes
]
RESUMED = (STEP, STATE, WHOLE)


@dataclass(frozen=True)
class Undisturbed:
    """The host's condition, and each node's result when nothing goes wrong."""

    condition: dict[str, str]
    results: dict[str, Result]


@pytest.fixture(scope="module")
def undisturbed(models: Models) -> Undisturbed:
    return Undisturbed(condition(models), {each.title: each.run(models, "undisturbed") for each in SUBJECTS})


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's, for one test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of text that a run shows on its node."""
    from core_personalization.nodes.host import run_control

    lines: list[str] = []
    monkeypatch.setattr(run_control, "show_text", lambda text, node_id: lines.append(text))
    return lines


@pytest.fixture
def scene(comfyui: Path, said: list[str]) -> Iterator[Scene]:
    with pytest.MonkeyPatch.context() as patch:
        yield Scene(patch, comfyui)


def arm(scene: Scene, fault: Fault, subject: Subject) -> None:
    """From the second step on: of the training loop, or of the sampler."""
    import comfy.samplers

    owner, name = (comfy.samplers, "sampling_function") if subject is PROBE else (TrainingLoop, "_train_one_step")
    step, calls = getattr(owner, name), []

    def counted(*args: Any, **more: Any) -> Any:
        rehearsal = subject is not PROBE and args[0].recipe.parameters[0].is_meta  # for the memory plan
        calls.extend([None] * (not rehearsal))
        scene.armed = scene.armed or len(calls) > 1
        return step(*args, **more)

    scene.patch.setattr(owner, name, counted)
    fault.strike(scene)
    scene.armed = fault.at_once


def same(result: Result, expected: Result) -> bool:
    return result.keys() == expected.keys() and all(torch.equal(result[key], expected[key]) for key in expected)


def expected_error(fault: Fault) -> type[BaseException]:
    from core_personalization.nodes.host.run_control import Cancelled

    return Cancelled if fault.title == CANCELLED else Exception


@pytest.mark.parametrize(("fault", "subject"), CASES)
def test_fault(models, undisturbed, scene, said, fault: Fault, subject: Subject):
    outcome, name = fault.outcomes[subject], f"fault-{FAULTS.index(fault)}-{SUBJECTS.index(subject)}"
    arm(scene, fault, subject)
    if outcome.sees or fault.title == CANCELLED:
        with pytest.raises(expected_error(fault)) as raised:
            subject.run(models, name)
        assert outcome.sees in str(raised.value)
    else:
        subject.run(models, name)
    assert scene.armed
    scene.patch.undo()
    assert condition(models) == undisturbed.condition
    kept(subject, name, outcome.kept, said)
    assert same(subject.run(models, name), undisturbed.results[subject.title])


def kept(subject: Subject, name: str, promise: str, said: list[str]) -> None:
    """What the table promises is there, the user was told of it, and nothing half is beside it."""
    from core_personalization.nodes.files import concept_files
    from core_personalization.nodes.files.concept_files import step_name

    if subject.file is None:
        return
    file = subject.file(name)
    assert all(whole(path) for path in file.parent.rglob(f"{name}*.safetensors"))
    assert not list(file.parent.rglob(".core-*"))
    if promise not in RESUMED:
        assert promise.startswith("Everything") == file.exists()
        return
    state = f"{name}{subject.state}"
    step = concept_files.load_state(state)["loop"]["step"]
    assert concept_files.state_path(state).exists() == (promise != STATE)
    assert said[-1].startswith(f"{name}: stopped after step {step}. Kept: ")
    assert said[-1].endswith("a state, from which Run goes on.")
    assert file.exists() == (promise == WHOLE)
    if promise != STATE:
        assert whole(file.parent / f"{step_name(name, step)}.safetensors")


def whole(path: Path) -> bool:
    return bool(safe_files.read(path)[0])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """One MiB, mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_really_full(models, undisturbed, scene, said, small_disk, monkeypatch):
    """It fills up after the first step; the filling is removed before the run is continued."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(small_disk / "output"))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(small_disk)], {".safetensors"}))
    filling = small_disk / "filling"

    def fill(scene: Scene) -> None:
        def strike(step, *args):
            with pytest.raises(OSError, match="No space left"):
                filling.write_bytes(b"x" * 2**21)
            return step(*args)

        scene.replace(torch.optim.AdamW, "step", strike)

    arm(scene, Fault("", fill, {}), TRAIN)
    with pytest.raises(OSError, match=r"on-a-small-disk.safetensors could not be written.*Free space on the disk of"):
        train_embedding(models, "on-a-small-disk")
    scene.patch.undo()
    assert [file.name for file in small_disk.rglob("*") if file.is_file()] == ["filling"]
    filling.unlink()
    assert "Kept: a state, from which Run goes on." in said[-1]
    resumed = train_embedding(models, "on-a-small-disk")
    assert same(resumed, undisturbed.results[TRAIN.title])


@pytest.mark.parametrize("subject", [each for each in SUBJECTS if each.file], ids=lambda subject: subject.title)
def test_a_folder_that_cannot_be_written_is_refused_first(models, scene, subject: Subject):
    scene.armed = True
    scene.fails_here(Path, "mkdir", 30)
    scene.patch.setattr(TrainingLoop, "_train_one_step", lambda loop: pytest.fail("training was started"))
    with pytest.raises(ValueError, match=r"^(concept_)?(name|save_as): .* could not be written: Read-only file system"):
        subject.run(models, "refused")


def test_the_table_in_the_documents_is_made_of_this_list():
    """Otherwise: python tests/robustness/fault_table.py"""
    assert fault_table.DOCUMENT.read_text(encoding="utf-8") == fault_table.document()
