"""A list of jobs, from its check to the last of them."""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from comfy_cli.workflow_to_api import convert_ui_to_api
from preparation.errors import PreparationError
from ray.exceptions import RayActorError, RayError

from .job_list import Fault, FaultyList, read_list
from .jobs import Job, Place, Schema, Workflow, checked_jobs, keeping_states
from .out_folder import OutFolder, digests
from .pool import STARTS, Ended, Pool, Share, why
from .screen import Screen
from .sent_folder import send
from .worker import Outcome, Setup, Worker

FAILURES = 3
"""Times that a job may fail before it is set aside."""
LOST = 6
"""Times that a job may lose its worker: it may be the job that needs too much memory."""
STOPPED = 130
"""Exit status, as of any program that Ctrl-C ended."""


@dataclass
class Tries:
    """What became of the jobs' attempts so far."""

    failed: dict[str, list[str]] = field(default_factory=dict)
    lost: dict[str, list[str]] = field(default_factory=dict)

    def given_up(self, job: str, outcome: Outcome) -> bool:
        """Notes that it failed or was lost; whether that was once too often."""
        kind, most = (self.failed, FAILURES) if outcome.ended == "failed" else (self.lost, LOST)
        messages = kind.setdefault(job, [])
        messages.append(outcome.message)
        return len(messages) >= most


def run(given: argparse.Namespace) -> int:
    """The exit status: 1 where a job was set aside. Raises FaultyList, and PreparationError, before any job begins."""
    listed = read_list(given.jobs)
    workflow = _read_workflow(given.workflow)
    out = OutFolder(given.out.resolve())
    connect(given.address)
    try:
        share = Share.found(given.cpus, given.gpus)
        setup = _setup(given, out)
        first = share.actors(Worker, 1, setup)
        schema = _started(first[0])
        workflow = keeping_states(_as_api(workflow, schema), schema, given.save_every)
        jobs, places, faults = checked_jobs(listed, workflow, schema)
        jobs = [replace(job, read=files_read(job.workflow, given.inputs)) for job in jobs]
        faults += _taken(out, jobs)
        if not faults:
            faults = _refused(first[0], jobs, places)
        if faults:
            raise FaultyList(faults)
        out.write_plan({job.name: job.inputs for job in jobs})
        todo = [job for job in jobs if out.manifest(job.name) is None]
        count = min(given.workers or share.workers(), max(len(todo), 1))
        actors = [*first, *share.actors(Worker, count - 1, setup, first=1)]
        with Screen(len(jobs), len(jobs) - len(todo), count) as screen:
            return work(Pool(actors, todo), out, screen)
    finally:
        ray.shutdown()


def connect(address: str) -> None:
    """To a cluster, or to one that is started on this machine for as long as this program runs."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise PreparationError(f"--address {address}: Ray is not there ({error})") from error


def work(pool: Pool[Job], out: OutFolder, screen: Screen) -> int:
    tries, aside = Tries(), []
    with stopped_by_ctrl_c(pool, screen):
        for ended in pool.run(lambda progress: screen.update(pool.at_work, progress)):
            job, outcome = ended.item, _outcome(ended)
            if outcome.ended == "done":
                screen.done(job.name, ended.worker, outcome.seconds)
            elif outcome.ended != "stopped" and tries.given_up(job.name, outcome):
                out.set_aside(job.name, [*tries.failed.get(job.name, []), *tries.lost.get(job.name, [])])
                aside.append(job.name)
                screen.say(f"{job.name}: set aside. {outcome.message}")
            else:
                pool.items.append(job)
                screen.say(f"{job.name}: {outcome.ended} on worker {ended.worker + 1}. {outcome.message}".rstrip(". "))
    if pool.stopping:
        screen.say("Stopped. The same command goes on from here.")
        return STOPPED
    return 1 if aside else 0


def _outcome(ended: Ended[Job]) -> Outcome:
    if isinstance(ended.result, RayActorError):
        return Outcome("lost", "Its worker died.")
    if isinstance(ended.result, RayError):
        return Outcome("failed", str(ended.result).strip().splitlines()[-1])
    return ended.result


@contextmanager
def stopped_by_ctrl_c(pool: Pool[Any], screen: Screen) -> Iterator[None]:
    """The first time states are saved; a second one ends it at once."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        screen.say("Stopping: trainings save their states. Ctrl-C once more ends it at once.")
        pool.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _setup(given: argparse.Namespace, out: OutFolder) -> Setup:
    out.path.mkdir(parents=True, exist_ok=True)
    folders = {}
    for name in ("inputs", "models"):
        folder = getattr(given, name)
        if folder is not None and not folder.is_dir():
            raise PreparationError(f"--{name} {folder}: there is no such folder")
        folders[name] = folder and (send(folder) if given.send else folder.resolve())
    options = tuple(given.comfyui_options.split())
    return Setup(Path(os.environ["COMFYUI_PATH"]).resolve(), out.path, **folders, options=options)


def _started(worker: Any) -> Schema:
    """Of the first worker's ComfyUI. Raises PreparationError where it cannot be started."""
    for tried in range(1, STARTS + 1):
        try:
            ray.get(worker.start.remote())
            return ray.get(worker.schema.remote())
        except RayError as error:
            if tried == STARTS:
                raise PreparationError(f"No worker can be started. {why(error)}") from error
    raise AssertionError


def _read_workflow(file: Path) -> Workflow:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PreparationError(f"--workflow {file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise PreparationError(f"--workflow {file} is no workflow; save it with the editor's File > Save or Export.")
    return found


def _as_api(workflow: Workflow, schema: Schema) -> Workflow:
    """In the form that the server runs, whatever form the editor saved it in."""
    made = convert_ui_to_api(workflow, schema) if "nodes" in workflow else workflow
    unknown = {node["class_type"] for node in made.values()} - schema.keys()
    if unknown:
        raise PreparationError(f"--workflow: the workers' ComfyUI has no node {', '.join(sorted(unknown))}.")
    return made


def files_read(workflow: Workflow, inputs: Path | None) -> dict[str, str]:
    """Digests of the files in ComfyUI's input folder that a workflow names, or that lie in a folder that it names."""
    if inputs is None:
        return {}
    values = {value for node in workflow.values() for value in node["inputs"].values() if isinstance(value, str)}
    return digests(inputs, sorted({file for value in values for file in _files_at(inputs, value)}))


def _files_at(inputs: Path, value: str) -> list[Path]:
    """None for a text that names nothing there."""
    path = inputs / value
    try:
        if path == inputs or not path.resolve().is_relative_to(inputs.resolve()):
            return []
        return [file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    except (OSError, ValueError):  # too long, or with characters that no name has
        return []


def _taken(out: OutFolder, jobs: Sequence[Job]) -> list[Fault]:
    """Jobs whose name has a result, or the beginning of one, that other inputs made."""
    faults = []
    for job in jobs:
        manifest = out.manifest(job.name)
        if manifest and manifest["digest"] != job.digest:
            place, what = out.path / job.name, "is done there, with other inputs"
        elif not manifest and out.is_begun_otherwise(job.name, job.digest):
            place, what = out.unfinished / job.name, "is begun there, with other inputs"
        else:
            continue
        faults.append(Fault(job.row, "job", f"{job.name!r} {what}; give it another name, or remove {place}"))
    return faults


def _refused(worker: Any, jobs: Sequence[Job], places: Mapping[str, Place]) -> list[Fault]:
    """What ComfyUI and the nodes themselves say."""
    columns = {(place.node, place.name): column for column, place in places.items()}
    faults = []
    found = ray.get(worker.refusals.remote(list(jobs)))
    for job in jobs:
        for node, message in found.get(job.name, ()):
            column = columns.get((node, message.split(":")[0]))
            faults.append(Fault(job.row, column, message if column else f"node {node}: {message}"))
    return faults
