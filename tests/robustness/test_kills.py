"""A training process is killed, again and again: nothing is half written, and it ends as if it had never been."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from core_personalization.nodes.files import safe_files
from families.build import checkpoint
from safetensors.torch import save_file

from robustness import training_process
from robustness.smallest import SMALLEST, Models
from robustness.subjects import FINETUNE, TRAIN, Subject

STEPS = 10
LONGEST_WAIT = 1.5
"""Seconds after which a process is killed at the latest: about as long as half of the training takes."""
AIMED = [
    ("save_file", "before"),
    ("save_file", "half"),
    ("save_file", "after"),
    ("_flush", "after"),
    ("replace", "before"),
    ("replace", "after"),
]


@dataclass
class KilledRun:
    """One training in a base folder of its own, process after process. kills: how many it survived so far.

    process: that the training processes are forks of.
    """

    subject: Subject
    base: Path
    checkpoint: Path
    name: str
    kills: int = 0
    steps_seen: list[int] = field(default_factory=list)
    left_behind: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def errors(self) -> Path:
        return self.base.with_suffix(".errors")

    def start(self) -> subprocess.Popen[str]:
        settings: dict[str, Any] = {"steps": STEPS, "save_every": 1, "overwrite": False, "preview_steps": 2}
        orders = {"base": str(self.base), "checkpoint": str(self.checkpoint), "node": self.subject.title}
        orders |= {"name": self.name, "settings": settings}
        command = [sys.executable, training_process.__file__, json.dumps(orders)]
        with self.errors.open("w") as errors:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)

    def run(self, strike: tuple[str, int, str] | None, wait: float | None) -> str | None:
        """The hash of what was learned, or None when the process was killed before."""
        if self.process is None or self.process.poll() is not None:
            self.process = self.start()
        assert self.process.stdin and self.process.stdout
        print(json.dumps(strike), file=self.process.stdin, flush=True)
        ready = self.process.stdout.readline().split()
        assert ready and ready[0] == "ready", self.errors.read_text()
        assert int(ready[2]) == self.left_behind and int(ready[3]) == 0, "what was left behind is swept at the start"
        killer = threading.Timer(wait or 0, kill, [int(ready[1])])
        if wait is not None:
            killer.start()
        said = dict.fromkeys(("done", "ended"), "")
        while not said["ended"] and (line := self.process.stdout.readline()):
            said.update([line.split()])
        killer.cancel()
        if said["done"]:
            self.process.communicate()
            return said["done"]
        assert int(said["ended"] or self.process.wait()) in (-9, 9), self.errors.read_text()
        assert "Error" not in self.errors.read_text()
        self.kills += 1
        self.check()
        return None

    def check(self) -> None:
        """Every file with a final name is whole, the state loads, and no step is lost that was saved before."""
        for path in self.base.rglob("*.safetensors"):
            safe_files.read(path)
        state = self.base / "output" / "core_states" / f"{self.name}{self.subject.state}.safetensors"
        step = json.loads(safe_files.read(state)[1]["state"])["loop"]["step"] if state.exists() else 0
        assert step >= max(self.steps_seen, default=0)
        self.steps_seen.append(step)
        self.left_behind = len(list(self.base.rglob(".core-*")))


def kill(process: int) -> None:
    with suppress(ProcessLookupError):  # It has ended.
        os.kill(process, 9)


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "smallest.safetensors"
    save_file(checkpoint(SMALLEST), path)
    return path


def blows(seed: int) -> Iterator[tuple[tuple[str, int, str] | None, float | None]]:
    """In turn one while it writes, at a random file and stage, and one at a random moment."""
    chance = random.Random(seed)
    while True:
        stage, when = chance.choice(AIMED)
        yield (stage, chance.randint(1, 4), when), None
        yield None, chance.uniform(0, LONGEST_WAIT)


def killed_again_and_again(run: KilledRun, seed: int, kills: int, models: Models) -> KilledRun:
    """Until it ends by itself after so many; what it learned is then what an uninterrupted run learns."""
    for strike, wait in blows(seed):
        enough = run.kills >= kills
        learned = run.run(None if enough else strike, None if enough else wait)
        if learned is not None:
            break
    whole = run.subject.run(models, "uninterrupted", steps=STEPS, save_every=1)
    assert learned == training_process.result_hash(whole)
    return run


def file_hash(base: Path, name: str) -> str:
    """Of the tensors as they lie in the file; the rest of it says when it was made."""
    (path,) = base.rglob(f"{name}.safetensors")
    tensors, metadata = safe_files.read(path)
    assert metadata["modelspec.hash_sha256"] == safe_files.tensor_hash(tensors)
    return metadata["modelspec.hash_sha256"]


def test_a_new_process_learns_the_same_bits(models, checkpoint_file, tmp_path, embeddings):
    other = KilledRun(TRAIN, tmp_path, checkpoint_file, "restarted")
    assert other.run(None, None) == training_process.result_hash(TRAIN.run(models, "here", steps=STEPS, save_every=1))
    assert file_hash(tmp_path / "models", "restarted") == file_hash(embeddings, "here")


def test_three_kills(models, checkpoint_file, tmp_path):
    run = killed_again_and_again(KilledRun(TRAIN, tmp_path, checkpoint_file, "killed"), 1, 3, models)
    assert run.kills == 3


@pytest.mark.long
@pytest.mark.parametrize("subject", [TRAIN, FINETUNE], ids=lambda subject: subject.title)
def test_thirty_kills(models, checkpoint_file, tmp_path, subject):
    """A run that ends before it has met so many is followed by another."""
    kills, lines = 0, []
    for seed in range(100):
        name = f"killed-{seed}"
        run = KilledRun(subject, tmp_path / name, checkpoint_file, name)
        kills += killed_again_and_again(run, seed, 30 - kills, models).kills
        lines.append(f"{name}: killed after steps {run.steps_seen}")
        if kills >= 30:
            break
    print(f"\n{subject.title}: {kills} kills, nothing lost", *lines, sep="\n")
    assert kills >= 30
