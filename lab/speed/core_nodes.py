"""ComfyUI's own nodes: what our trainings and samplings are compared with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .child import Step
from .host import host_models, import_host, pictures
from .task import Task

STEPS, GUIDANCE = 20, 7.0
PROMPT = "a photo of a dog wearing a hat, on the beach"


def import_libraries(task: Task) -> None:
    import_host(task)
    import comfy_extras.nodes_train  # noqa: F401


def generation(task: Task) -> Step:
    """One picture of 20 steps with guidance, without its decoding."""
    host = host_models(task)
    return lambda: sample(task, host.model, host.clip, PROMPT)


def sample(task: Task, model: Any, clip: Any, prompt: str) -> None:
    from nodes import common_ksampler  # type: ignore[attr-defined] - ComfyUI's

    with torch.inference_mode():
        positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, ""))
        latent = {"samples": torch.zeros(task.batch, 4, task.side // 8, task.side // 8)}
        common_ksampler(model, 0, STEPS, GUIDANCE, "euler", "normal", positive, negative, latent)


def lora(task: Task) -> Step:
    """Core's Train LoRA node, which is held after each of its steps."""
    import comfy.sd

    host = host_models(task)
    model = comfy.sd.load_diffusion_model(str(task.weights))  # the node loads the file again for its copy
    with torch.inference_mode():
        latents = host.vae.encode(torch.cat(pictures(task)))
        conditioning = host.clip.encode_from_tokens_scheduled(host.clip.tokenize(PROMPT))
    return HeldNode(lambda: train_lora(task, model, latents, conditioning)).step


def train_lora(task: Task, model: Any, latents: Tensor, conditioning: Any) -> None:
    from comfy_extras.nodes_train import TrainLoraNode

    settings = {
        "batch_size": task.batch,
        "steps": 100_000,
        "grad_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "rank": 8,
        "optimizer": "AdamW",
        "loss_function": "MSE",
        "seed": 0,
        "training_dtype": task.precision,
        "lora_dtype": "fp32",
        "quantized_backward": False,
        "algorithm": "LoRA",
        "gradient_checkpointing": False,
        "checkpoint_depth": 1,
        "offloading": False,
        "existing_lora": "[None]",
        "bucket_mode": False,
        "bypass_mode": False,
    }
    with torch.inference_mode():
        TrainLoraNode.execute(
            [model], [{"samples": latents}], [conditioning], **{name: [value] for name, value in settings.items()}
        )


class HeldNode:
    """Runs a node in a thread, and lets it go from one report of its progress to the next."""

    def __init__(self, run: Callable[[], None]) -> None:
        import comfy_extras.nodes_train

        self._go, self._arrived = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        # The node's own progress bar: the host's hook for all bars passes on only some of the steps.
        comfy_extras.nodes_train.ProgressBar = lambda _total: self
        threading.Thread(target=self._guarded, args=(run,), daemon=True).start()
        self._wait()

    def step(self) -> None:
        self._go.release()
        self._wait()

    def update(self, _steps: int) -> None:
        """As the node's progress bar: called after each step."""
        self._arrived.release()
        self._go.acquire()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            self._error = error
            self._arrived.release()

    def _wait(self) -> None:
        self._arrived.acquire()
        if self._error is not None:
            raise self._error


SUBJECTS: dict[str, Callable[[Task], Step]] = {"lora": lora, "generation": generation}
