"""A worker: an actor of Ray's with a ComfyUI of its own, that runs one job after another."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from driver.base_folder import BaseFolder
from driver.client import ComfyUIClient, ServerGone, WorkflowError, WorkflowInterrupted
from driver.server import ComfyUIServer
from ray.util import metrics

from .jobs import Job
from .manifests import manifest_of
from .out_folder import OutFolder
from .sent_folder import Folder, here
from .validation import refusals

_PREFIX = "core-fleet-"
LINKS = {"output": "output", "models/embeddings": "embeddings"}
"""By place in ComfyUI's base folder: where in the job's folder it leads. Whatever the job writes is there at once."""


@dataclass(frozen=True)
class Setup:
    """What all workers share. inputs, models: ComfyUI's folders; None for its own, empty ones.

    options: words for ComfyUI's command line.
    """

    comfyui: Path
    out: Path
    inputs: Folder | None = None
    models: Folder | None = None
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """ended: "done", "failed" by its own fault, "lost" with its worker, or "stopped" by the user."""

    ended: str
    message: str = ""
    seconds: float = 0.0


@dataclass
class Progress:
    """What a worker is at. share: of the node that runs. text: what that says of itself, such as step and terms."""

    title: str = ""
    share: float = 0.0
    text: str = ""


class Worker:
    """To be made by Ray; see `pool.py`. Nothing is started before `start`, whose failure can be reported."""

    def __init__(self, setup: Setup, name: str) -> None:
        self._setup, self._name = setup, name
        self._out = OutFolder(setup.out)
        self._progress = Progress()
        self._running = ExitStack()
        self._server: ComfyUIServer | None = None
        self._base: BaseFolder
        self._stopping = False
        self._share = metrics.Gauge("fleet_share", "Of the node that runs, from 0 to 1.", ("worker",))
        self._jobs = metrics.Counter("fleet_jobs", "That ended, by how they did.", ("worker", "ended"))
        self._seconds = metrics.Histogram("fleet_job_seconds", "Of a job.", [1, 10, 60, 600, 3600], ("worker",))

    @ray.method(max_task_retries=-1)
    def start(self) -> dict[str, Any]:
        """Starts ComfyUI where it does not run, and says what it and its machine are."""
        if self._server is None or not self._server.is_alive():
            self._running.close()
            self._server = self._running.enter_context(self._new_server())
        return self._client().get("/system_stats")

    def schema(self) -> dict[str, Any]:
        return self._client().get("/object_info")

    def refusals(self, jobs: Sequence[Job]) -> dict[str, list[tuple[str, str]]]:
        """By job, what the nodes themselves say is wrong with it: a node's id and its message. Nothing is run."""
        assert self._server
        schema, address = self.schema(), self._server.address
        found = {job.name: refusals(address, job.workflow, schema) for job in jobs}
        return {name: faults for name, faults in found.items() if faults}

    def run(self, job: Job) -> Outcome:
        """A job to its end, whatever that is."""
        began = time.monotonic()
        self._progress = Progress("begins")
        try:
            outcome = self._run(job, began)
        except WorkflowInterrupted:
            outcome = Outcome("stopped")
        except (ServerGone, http.client.HTTPException, OSError, psutil.NoSuchProcess) as error:
            self._running.close()  # should it run after all: nobody else is to get what it writes
            outcome = Outcome("lost", str(error))
        except WorkflowError as error:
            outcome = Outcome("failed", str(error))
        self._progress = Progress()
        self._jobs.inc(tags={"worker": self._name, "ended": outcome.ended})
        self._seconds.observe(time.monotonic() - began, tags={"worker": self._name})
        return outcome

    @ray.method(concurrency_group="control")
    def progress(self) -> Progress:
        self._share.set(self._progress.share, {"worker": self._name})
        return self._progress

    @ray.method(concurrency_group="control")
    def stop(self) -> None:
        """The job that runs saves its training's state and ends."""
        self._stopping = True
        self._client().interrupt()

    def _run(self, job: Job, began: float) -> Outcome:
        assert self._server
        used = self._processor()
        attempt = self._out.claim(job.name, job.digest)
        self._lead_to(attempt)
        client, queued = self._client(), time.monotonic()
        execution = client.submit(job.workflow, lambda message: self._follow(job.workflow, message))
        in_comfyui = time.monotonic() - queued
        made = manifest_of(job, attempt, execution, client.get("/system_stats"))
        spent = {"comfyui": in_comfyui, "all": time.monotonic() - began, "processor": self._processor() - used}
        made["seconds"] = {name: round(seconds, 3) for name, seconds in spent.items()}
        self._out.finish(job.name, attempt, made)
        return Outcome("done", seconds=time.monotonic() - began)

    def _follow(self, workflow: Mapping[str, Any], message: Mapping[str, Any]) -> None:
        data, progress = message.get("data", {}), self._progress
        if self._stopping and message["type"] == "executing":
            self._client().interrupt()  # it was asked for before there was anything to interrupt
        if message["type"] == "executing" and data["node"]:
            node = workflow.get(data["node"], {})
            title = node.get("_meta", {}).get("title") or node.get("class_type", "")
            self._progress = Progress(title)
        elif message["type"] == "progress" and data["max"]:
            progress.share = data["value"] / data["max"]
        elif message["type"] == "progress_text":
            progress.text = " · ".join(data["text"].split("\n"))

    def _processor(self) -> float:
        """Seconds of processor time that this worker and its ComfyUI have taken."""
        assert self._server
        times = [psutil.Process(pid).cpu_times() for pid in (os.getpid(), self._server.pid)]
        return sum(each.user + each.system for each in times)

    def _client(self) -> ComfyUIClient:
        if self._server is None:
            raise ServerGone("ComfyUI was not started.")
        return ComfyUIClient(self._server.address)

    def _new_server(self) -> ComfyUIServer:
        """With a base folder of its own, which goes when it ends; what its jobs write is in theirs."""
        _sweep()
        temporary = tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True)
        self._base = BaseFolder.make(Path(self._running.enter_context(temporary)))
        for place in LINKS:
            shutil.rmtree(self._base.path / place)
        self._lead_to(self._base.path / "idle")
        # Each job as in a ComfyUI just started: what is kept of an earlier one would not be written for the next.
        options = ["--cache-none", *self._setup.options]
        if self._setup.inputs:
            options += ["--input-directory", str(here(self._setup.inputs))]
        if self._setup.models:
            options += ["--extra-model-paths-config", str(_model_paths(self._base, here(self._setup.models)))]
        return ComfyUIServer(self._setup.comfyui, self._base, options=options)

    def _lead_to(self, folder: Path) -> None:
        """From now on ComfyUI writes there."""
        for place, part in LINKS.items():
            (folder / part).mkdir(parents=True, exist_ok=True)
            link = self._base.path / place
            made = link.with_name(f"{link.name}.new")
            made.symlink_to(folder / part, target_is_directory=True)
            os.replace(made, link)


def _model_paths(base: BaseFolder, models: Path) -> Path:
    """ComfyUI's file that names further folders of models, by kind."""
    kinds = {folder.name: folder.name for folder in sorted(models.iterdir()) if folder.is_dir()}
    file = base.path / "models.yaml"
    file.write_text(json.dumps({"fleet": {"base_path": str(models), **kinds}}), encoding="utf-8")  # which is YAML
    return file


def _sweep() -> None:
    """Removes the folders of workers that were killed on this machine."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
