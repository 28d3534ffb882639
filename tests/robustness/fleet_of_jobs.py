"""Small jobs for a fleet: trained and drawn one after another in one ComfyUI, and by workers that are killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from api_workflow import with_defaults
from core_personalization.nodes.files import safe_files
from driver import quick_start
from driver.base_folder import BaseFolder
from driver.client import ComfyUIClient
from driver.server import ComfyUIServer
from PIL import Image
from preparation.by_place import ROOT
from ray.cluster_utils import Cluster

STEPS = 8
LONGEST_RUN = 900
"""Seconds."""
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
Bits = Mapping[str, Mapping[str, str]]
"""Hashes of tensors and pictures, by job and file."""


def node(kind: str, title: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


def graph() -> dict[str, Any]:
    """A training that saves each step, and a picture of what was learned."""
    sockets: dict[str, Any] = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "images": ["2", 0]}
    small = {"steps": STEPS, "batch_size": 1, "resolution": 32, "preview_every": 0, "save_every": 1}
    named = {"concept_name": "concept", "super_category": "dog", "method": "Textual Inversion", "clear_steps": True}
    sampling = {"seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    cables: dict[str, Any] = {"model": ["1", 0], "positive": ["4", 0], "negative": ["4", 0], "latent_image": ["5", 0]}
    return {
        "1": node("CheckpointLoaderSimple", "Load Checkpoint", ckpt_name=quick_start.CHECKPOINT),
        "2": node("LoadImageDataSetFromFolder", "Photos", folder="patchwork-dog"),
        "3": node("CoReTrainEmbedding", "Train", **{**sockets, **small, **named}),
        "4": node("CLIPTextEncode", "Prompt", clip=["1", 1], text=["3", 1]),
        "5": node("EmptyLatentImage", "Size", width=32, height=32, batch_size=1),
        "6": node("KSampler", "Draw", **{**cables, **sampling}),
        "7": node("VAEDecode", "Decode", samples=["6", 0], vae=["1", 2]),
        "8": node("SaveImage", "Save", images=["7", 0], filename_prefix="picture"),
    }


@dataclass
class Studio:
    """A base folder with a model and photos, a list of jobs, and what they come to one after another."""

    base: BaseFolder
    jobs: list[dict[str, Any]]
    bits: Bits = field(default_factory=dict)

    @classmethod
    def opened(cls, folder: Path, comfyui: Path, count: int) -> Studio:
        base = BaseFolder.make(folder / "base")
        quick_start.fill_base_folder(base)
        jobs = [
            {"job": f"job-{n}", "Train.concept_name": f"dog-{n}", "Train.seed": n, "8.filename_prefix": f"of-{n}"}
            for n in range(count)
        ]
        studio = cls(base, jobs)
        (folder / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)), "utf-8")
        with ComfyUIServer(comfyui, base, options=["--cpu"]) as server:
            studio._run_all(ComfyUIClient(server.address))
        return studio

    def _run_all(self, client: ComfyUIClient) -> None:
        workflow = with_defaults(graph(), client.get("/object_info"))
        (self.base.path.parent / "workflow.json").write_text(json.dumps(workflow), "utf-8")
        for job in self.jobs:
            workflow["3"]["inputs"] |= {"concept_name": job["Train.concept_name"], "seed": job["Train.seed"]}
            workflow["8"]["inputs"]["filename_prefix"] = job["8.filename_prefix"]
            client.submit(workflow)
        written = [self.base.output, self.base.embeddings]
        self.bits = {job["job"]: bits(written, job["job"].removeprefix("job-")) for job in self.jobs}
        for file in self.base.embeddings.iterdir():
            file.unlink()  # or a fleet that is given these models would find it

    def command(self, out: Path, address: str, *more: str) -> list[str]:
        folder = self.base.path.parent
        words = ["run", str(folder / "jobs.jsonl"), "--workflow", str(folder / "workflow.json"), "--out", str(out)]
        words += ["--inputs", str(self.base.input), "--models", str(self.base.path / "models"), "--address", address]
        return [sys.executable, "-m", "fleet", *words, "--cpus", "1", "--comfyui-options=--cpu", *more]


def bits(folders: list[Path], number: str) -> dict[str, str]:
    """Of one job's files; what a file says of the run itself, its metadata, is other each time."""
    found = {}
    for file in (file for folder in folders for file in sorted(folder.rglob("*"))):
        if file.name == f"dog-{number}.safetensors":
            found[file.name] = safe_files.tensor_hash(safe_files.read(file)[0])
        elif file.name.startswith(f"of-{number}_"):
            found[file.name] = hashlib.sha256(Image.open(file).tobytes()).hexdigest()
    return found


def bits_of(out: Path) -> Bits:
    """Of a fleet's finished jobs."""
    done = sorted(file.parent for file in out.glob("*/manifest.json"))
    return {folder.name: bits([folder], folder.name.removeprefix("job-")) for folder in done}


@dataclass
class KilledFleet:
    """A fleet on two nodes of one machine. kills: of what, so far."""

    studio: Studio
    cluster: Any
    out: Path
    chance: random.Random
    kills: list[str] = field(default_factory=list)
    driver: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.out.with_suffix(".log")

    def is_over(self) -> bool:
        return self.driver is not None and self.driver.poll() is not None

    def start(self) -> None:
        command = self.studio.command(self.out, self.cluster.address, "--workers", "2")
        with self.log.open("ab") as log:
            self.driver = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def kill(self, what: str) -> None:
        """Notes it where there was such a thing to kill."""
        assert self.driver
        if what == "driver":
            self.driver.kill()
            self.driver.wait()
            self.start()
        elif what == "node":
            self.cluster.remove_node(self.chance.choice(list(self.cluster.worker_nodes)), allow_graceful=False)
            self.cluster.add_node(**NODE)
        else:
            servers = self.comfyuis()
            if not servers:
                return
            server = self.chance.choice(servers)
            with suppress(psutil.NoSuchProcess):
                (server if what == "ComfyUI" else psutil.Process(server.ppid())).kill()
        self.kills.append(what)

    def stop(self) -> int:
        """As Ctrl-C does; the exit status."""
        assert self.driver
        self.driver.send_signal(signal.SIGINT)
        return self.wait()

    def states(self) -> Iterator[Path]:
        return self.out.glob(".fleet/unfinished/*/*/output/core_states/*.safetensors")

    def wait_for_a_state(self) -> None:
        wait_until(lambda: any(self.states()), LONGEST_RUN)

    def comfyuis(self) -> list[psutil.Process]:
        words = {str(self.studio.base.input), "--cache-none"}
        return [each for each in psutil.process_iter(["cmdline"]) if words <= set(each.info["cmdline"] or ())]

    def wait(self) -> int:
        assert self.driver
        try:
            return self.driver.wait(LONGEST_RUN)
        finally:
            if self.driver.poll() is None:
                self.driver.kill()


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A head without work, and two nodes of one core each."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()


def wait_until(true: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
