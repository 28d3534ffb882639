"""One server, many prompts: nothing grows, nobody is mixed up with another, and what is known is not computed again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from statistics import mean
from typing import Any

import psutil
import pytest
from driver import quick_start
from driver.client import ComfyUIClient, WorkflowInterrupted

pytestmark = pytest.mark.long
Workflow = dict[str, Any]
PROMPTS = 200
KINDS = ("train", "finetune", "optimize", "probe", "sample", "cancel")


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def workflow(kind: str, seed: int, steps: int = 2, name: str = "long-running") -> Workflow:
    """One of each node that works for long, on the embedded checkpoint; every seed is another computation."""
    loaded = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
    training = {"steps": steps, "batch_size": 1, "resolution": 64, "preview_every": 0, "overwrite": True, "seed": seed}
    training |= {"start": "anew"}  # in place of what a cancelled one kept
    nodes = {
        "1": node("CheckpointLoaderSimple", ckpt_name=quick_start.CHECKPOINT),
        "2": node("EmptyImage", width=64, height=64, batch_size=1, color=8_388_608),
        "3": node("CLIPTextEncode", clip=["1", 1], text="a photo of a dog"),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    }
    trained = node(
        "CoReTrainEmbedding",
        **(loaded | training | {"images": ["2", 0], "concept_name": name, "super_category": "dog"}),
        **{"method": "Textual Inversion", "rescale_from": 1, "rescale_to": 1},
    )
    if kind in ("train", "cancel"):
        return nodes | {"5": trained}
    if kind in ("finetune", "optimize"):
        trained["inputs"]["seed"] = 0  # from the cache: these are about what comes after it
        trained["inputs"]["concept_name"] = "long-running-concept"
        nodes["5"] = trained
    if kind == "finetune":
        inputs = loaded | training | {"images": ["2", 0], "concept": ["5", 0], "name": name, "form": "LoRA", "rank": 2}
        return nodes | {"6": node("CoReUNetIdentityFinetune", **inputs)}
    model, positive = ["1", 0], ["3", 0]
    if kind == "optimize":
        inputs = {"model": model, "clip": ["1", 1], "concept": ["5", 0], "prompt": "a {} on the beach", "seed": seed}
        nodes["6"] = node("CoReTestTimeOptimize", **inputs, steps=steps, batch_size=1, width=64, height=64)
        positive = ["6", 0]
    if kind == "probe":
        nodes["6"] = node("CoReContextAttentionProbe", model=model, clip=["1", 1], prompt="a photo of a dog")
        model = ["6", 0]
    sampled = {"model": model, "positive": positive, "negative": ["3", 0], "latent_image": ["4", 0], "seed": seed}
    nodes["7"] = node("KSampler", **sampled, steps=2, cfg=2.0, sampler_name="euler", scheduler="normal", denoise=1.0)
    nodes["8"] = node("VAEDecode", samples=["7", 0], vae=["1", 2])
    if kind == "probe":
        return nodes | {"9": node("CoReAttentionMaps", probe=["6", 1], latent=["7", 0], images=["8", 0])}
    return nodes | {"9": node("PreviewImage", images=["8", 0])}


@pytest.fixture(scope="module")
def ready(server):
    quick_start.fill_base_folder(server.process.base)
    return server


def with_defaults(client: ComfyUIClient, flow: Workflow) -> Workflow:
    """As the editor sends it: every widget has its value."""
    known = client.get("/object_info")
    for each in flow.values():
        declared = known[each["class_type"]]["input"]
        for name, (kind, *options) in declared.get("required", {}).items():
            default = options[0].get("default") if options else None
            if isinstance(kind, list):
                default = default or kind[0]
            elif kind == "COMBO":
                default = default or options[0]["options"][0]
            if default is not None:
                each["inputs"].setdefault(name, default)
    return flow


def cancel_at_first_step(client: ComfyUIClient) -> Callable[[dict[str, Any]], None]:
    def on_message(message: dict[str, Any]) -> None:
        if message["type"] == "progress":
            client.interrupt()

    return on_message


def run(client: ComfyUIClient, kind: str, seed: int) -> None:
    if kind != "cancel":
        client.submit(with_defaults(client, workflow(kind, seed)))
        return
    with pytest.raises(WorkflowInterrupted):
        client.submit(with_defaults(client, workflow(kind, seed, steps=500)), cancel_at_first_step(client))


def held(process: psutil.Process) -> tuple[int, int]:
    """Bytes of memory, and open files and sockets."""
    count = getattr(process, "num_handles", None) or process.num_fds  # the first on Windows
    return process.memory_info().rss, count()


def test_many_prompts_leave_memory_and_handles_where_they_were(ready):
    process, seen = psutil.Process(ready.process.pid), []
    for number in range(PROMPTS):
        kind = KINDS[number % len(KINDS)]
        run(ready.client, kind, number)
        seen.append(held(process))
        print(number + 1, kind, f"{seen[-1][0] / 2**20:.0f} MiB, {seen[-1][1]} handles", flush=True)
    for values in zip(*seen, strict=True):
        assert mean(values[-10:]) < 1.05 * mean(values[10:20])


def executed(execution: Any) -> set[str]:
    """The nodes that ran, and were not served from the cache."""
    return {m["data"]["node"] for m in execution.messages if m["type"] == "executing"} - {None}


def test_the_cache_serves_the_same_graph_and_no_edited_one(ready):
    def submit(**changes: Any) -> set[str]:
        flow = with_defaults(ready.client, workflow("train", 1, name="cached"))
        flow["5"]["inputs"] |= changes
        return executed(ready.client.submit(flow))

    assert "5" in submit()
    assert "5" not in submit()
    assert "5" in submit(learning_rate=0.002)


def test_two_clients_queue_at_once_and_each_gets_its_own(ready):
    """Same concept name, other seeds: whoever runs later has its embedding under the name."""
    finished: dict[int, Any] = {}

    def queue(seed: int) -> None:
        client = ComfyUIClient(ready.process.address)
        flow = with_defaults(client, workflow("train", seed, name=f"client-{seed}"))
        finished[seed] = client.submit(flow)

    threads = [threading.Thread(target=queue, args=[seed]) for seed in (101, 102)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished.keys() == {101, 102}
    for seed, execution in finished.items():
        assert "5" in executed(execution)
        assert f"client-{seed}.safetensors" in str(execution.outputs["5"])
        assert (ready.process.base.embeddings / f"client-{seed}.safetensors").is_file()
