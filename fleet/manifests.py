"""What a finished job says of itself."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from driver.client import Execution
from safetensors import safe_open

from . import ROOT
from .jobs import Job
from .out_folder import digests


def manifest_of(job: Job, folder: Path, execution: Execution, stats: Mapping[str, Any]) -> dict[str, Any]:
    """files: SHA-256 of each; learned: of what lies in files of tensors, whatever their cards say of the run.

    folder: what the job wrote. stats: ComfyUI's /system_stats.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {
        "job": job.name,
        "inputs": dict(job.inputs),
        "digest": job.digest,
        "workflow": job.workflow,
        "read": dict(job.read),
        "files": digests(folder, files),
        "learned": dict(_learned(folder, files)),
        "scores": scores(folder),
        "said": {title: text for title, text in _said(job.workflow, execution) if text},
        "versions": versions(stats),
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _learned(folder: Path, files: list[Path]) -> Iterator[tuple[str, str]]:
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="numpy") as tensors:
                if found := (tensors.metadata() or {}).get("modelspec.hash_sha256"):
                    yield file.relative_to(folder).as_posix(), found


def scores(folder: Path) -> dict[str, float]:
    """Of all scorecards in a job's folder: the means, by scorecard and score."""
    found = {}
    for file in sorted((folder / "output" / "scorecards").glob("*.json")):
        for card in json.loads(file.read_text(encoding="utf-8"))["scorecards"]:
            for name, summary in card["scores"].items():
                found[f"{card['name']}.{name}"] = summary["overall"]["mean"]
    return found


def _said(workflow: Mapping[str, Any], execution: Execution) -> Iterator[tuple[str, str]]:
    for number, shown in execution.outputs.items():
        node = workflow.get(number, {})
        title = node.get("_meta", {}).get("title") or node.get("class_type", number)
        yield title, "\n".join(text for text in shown.get("text", ()) if isinstance(text, str))


def versions(stats: Mapping[str, Any]) -> dict[str, str]:
    """Of what a job was made with. stats: ComfyUI's /system_stats."""
    system, devices = stats["system"], stats["devices"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)
    return {
        "core-personalization": version[1] if version else "",
        "comfyui": system["comfyui_version"],
        "torch": system["pytorch_version"],
        "ray": ray.__version__,
        "python": platform.python_version(),
        "machine": socket.gethostname(),
        "device": ", ".join(device["name"] for device in devices),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }
