"""What becomes of jobs that fail, and of those whose worker dies; files that go to each machine once."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.exceptions import RayActorError

from fleet import run, sent_folder
from fleet.jobs import Job
from fleet.out_folder import OutFolder
from fleet.pool import Ended
from fleet.sent_folder import SentFolder, here
from fleet.worker import Outcome

DONE, STOPPED = Outcome("done", seconds=1), Outcome("stopped")
FAILED, DIED = Outcome("failed", "no such folder"), RayActorError()


class Said:
    """In place of a screen."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def done(self, job: str, worker: int, seconds: float) -> None:
        self.lines.append(f"{job} done")

    def update(self, *_: Any) -> None: ...


class Scripted:
    """In place of a pool: what comes of each job, in turn."""

    def __init__(self, script: dict[str, list[Any]], stopping: bool = False) -> None:
        self.items = deque(Job(name, 2, {}, {}, {}) for name in script)
        self.script, self.stopping, self.at_work = script, stopping, {}

    def run(self, show: Any) -> Any:
        while self.items and (job := self.items.popleft()) and self.script[job.name]:
            show({})
            yield Ended(job, 0, self.script[job.name].pop(0))


def worked(out: Path, stopping: bool = False, **script: list[Any]) -> tuple[int, list[str]]:
    said: Any = Said()
    pool: Any = Scripted(script, stopping)
    return run.work(pool, OutFolder(out), said), said.lines


def test_a_job_that_fails_three_times_is_set_aside_and_the_rest_goes_on(tmp_path):
    status, lines = worked(tmp_path, bad=[FAILED] * 3, good=[DONE])
    assert status == 1 and "good done" in lines
    assert lines[-1] == "bad: set aside. no such folder"
    assert OutFolder(tmp_path).messages("bad") == ["no such folder"] * 3


def test_a_worker_that_dies_is_no_fault_of_the_job(tmp_path):
    status, lines = worked(tmp_path, job=[DIED] * (run.LOST - 1) + [FAILED, FAILED, DONE])
    assert status == 0 and lines[-1] == "job done"
    assert OutFolder(tmp_path).messages("job") == []


def test_a_job_that_kills_every_worker_is_set_aside_at_last(tmp_path):
    status, _ = worked(tmp_path, job=[DIED] * run.LOST)
    assert status == 1 and len(OutFolder(tmp_path).messages("job")) == run.LOST


def test_what_is_stopped_is_neither_done_nor_set_aside(tmp_path):
    assert worked(tmp_path, stopping=True, job=[STOPPED])[0] == run.STOPPED
    assert OutFolder(tmp_path).messages("job") == []


def test_a_photo_that_changes_makes_another_job(tmp_path):
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "0.png").write_bytes(b"photo")
    (tmp_path / "other.png").write_bytes(b"not named")
    workflow: dict[str, Any] = {"1": {"class_type": "Load", "inputs": {"folder": "dog", "text": "../..", "n": 1}}}
    workflow["2"] = {"class_type": "Text", "inputs": {"a": "", "b": "x\0", "c": "猫" * 300, "d": ".", "e": "none.png"}}
    before = run.files_read(workflow, tmp_path)
    assert list(before) == ["dog/0.png"]
    (tmp_path / "dog" / "0.png").write_bytes(b"another")
    after = run.files_read(workflow, tmp_path)
    assert Job("dog", 2, {}, workflow, before).digest != Job("dog", 2, {}, workflow, after).digest


def test_how_often_a_state_is_kept_and_a_nodes_title_make_no_other_job():
    def digest(every: int, title: str, seed: int = 1) -> str:
        inputs = {"save_every": every, "seed": seed}
        return Job("dog", 2, {}, {"1": {"class_type": "Train", "inputs": inputs, "_meta": {"title": title}}}, {}).digest

    assert digest(50, "A word") == digest(500, "Another") != digest(50, "A word", seed=2)


def test_a_result_of_other_inputs_is_a_fault_of_its_row(tmp_path):
    out, job = OutFolder(tmp_path), Job("dog", 7, {}, {"1": {}}, {})
    out.finish("dog", out.claim("dog", "other"), {"job": "dog", "digest": "other"})
    out.claim("cat", "other")
    (done,) = run._taken(out, [job])
    assert str(done).startswith("row 7, column 'job': 'dog' is done there, with other inputs; give it another name")
    (begun,) = run._taken(out, [Job("cat", 8, {}, {"1": {}}, {})])
    assert "'cat' is begun there, with other inputs" in str(begun)
    out.finish("same", out.claim("same", job.digest), {"job": "same", "digest": job.digest})
    assert run._taken(out, [Job("same", 9, {}, {"1": {}}, {})]) == []


def test_files_go_to_a_machine_once(tmp_path, monkeypatch):
    folder, fetched = tmp_path / "models", []
    (folder / "loras").mkdir(parents=True)
    for name, content in {"a.safetensors": b"a", "loras/b.safetensors": b"bb", "loras/same.safetensors": b"bb"}.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(sent_folder.ray, "put", lambda content: content)
    monkeypatch.setattr(sent_folder.ray, "get", lambda content: fetched.append(None) or content)
    monkeypatch.setattr(sent_folder.tempfile, "tempdir", str(tmp_path))
    sent: SentFolder = sent_folder.send(folder)
    for _ in range(2):
        place = here(sent)
        assert {file.relative_to(place).as_posix(): file.read_bytes() for file in place.rglob("*.safetensors")} == {
            file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.safetensors")
        }
    assert len(fetched) == 2, "the third has the content of the second"
    assert here(folder) == folder
