"""Our trainings, through the classes that the nodes run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .child import Step
from .comparisons import SIZES_OF_PICTURES
from .core_nodes import PROMPT, sample
from .host import host_models, import_host, oblong_pictures, pictures
from .task import Task

SUPER_CATEGORY = "dog"
CORE = "CoRe (reference code)"


def import_libraries(task: Task) -> None:
    import_host(task)


def _embedding(method: str, sizes: int = 0, **settings: Any) -> Callable[[Task], Step]:
    """sizes: of the pictures, how many different ones; 0 for squares."""

    def build(task: Task) -> Step:
        from core_personalization.nodes.embedding.embedding_inputs import check_inputs
        from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
        from core_personalization.nodes.embedding.embedding_training import ready_to_train
        from core_personalization.nodes.settings import validated

        chosen = {
            **common(task),
            "concept_name": "speed",
            "super_category": SUPER_CATEGORY,
            "method": method,
            "prompt_set": "own",
            "own_prompts": "a photo of a {} wearing a hat",
            **settings,
        }
        host = host_models(task)
        with torch.inference_mode():
            given = oblong_pictures(task, sizes) if sizes else pictures(task)
            checked = check_inputs(host, given, None, None, validated(EmbeddingSettings, chosen))
            training = ready_to_train(host, checked)
        if not sizes:
            prompts = [(pair.concept, pair.reference) for pair in checked.prompts]
            share(task, training, checked.pictures.captions, prompts)
        return stepping(training)

    return build


def _finetune(with_category: bool = False, **settings: Any) -> Callable[[Task], Step]:
    def build(task: Task) -> Step:
        from core_personalization.nodes.finetune.finetune_inputs import GivenPictures, check_finetune
        from core_personalization.nodes.finetune.finetune_settings import FinetuneSettings
        from core_personalization.nodes.finetune.finetuning import ready_to_finetune
        from core_personalization.nodes.settings import validated

        host = host_models(task)
        chosen = validated(FinetuneSettings, {**common(task), "name": "speed", **settings})
        given = GivenPictures(pictures(task), None, None, None)
        with torch.inference_mode():
            checked = check_finetune(host, a_concept(host.clip, task, with_category), given, chosen)
            training = ready_to_finetune(host, checked)
        share(task, training, checked.pictures.captions, [])
        return stepping(training)

    return build


def common(task: Task) -> dict[str, Any]:
    return {
        "steps": 100_000,
        "batch_size": task.batch,
        "resolution": task.side,
        "precision": task.precision,
        "preview_every": 0,
        "save_every": 0,
        "overwrite": True,
    }


def a_concept(clip: Any, task: Task, with_category: bool = False) -> Any:
    from core_personalization.nodes.concept import Concept
    from core_personalization.nodes.files import concept_files
    from core_personalization.nodes.host.models.text_encoder import encoder_widths

    generator = torch.Generator().manual_seed(4)
    vectors = {name: 0.02 * torch.randn(1, width, generator=generator) for name, width in encoder_widths(clip).items()}
    path = concept_files.embedding_path("speed")
    return Concept("speed", SUPER_CATEGORY, vectors, path, with_category)


def stepping(training: Any) -> Step:
    from core_personalization.nodes.host.models.module_copy import autograd_mode

    reports = iter(training.session.loop)

    def step() -> float:
        with autograd_mode():
            return next(reports).total

    return step


def share(task: Task, training: Any, captions: Any, prompts: Any) -> None:
    """Latents, token ids and first vectors, for the other subject. An id of -1 - i stands for vector number i."""
    data = training.session.loop.recipe.problem.latents
    torch.save(
        {
            "latents": torch.stack(list(data.latents)).cpu(),
            "caption_of_latent": data.caption_of_latent,
            "captions": [_ids(row) for row in captions],
            "prompts": [[_ids(row) for row in pair] for pair in prompts],
            "vectors": {name: value.detach().cpu() for name, value in training.learned.embedding.vectors.items()},
        },
        task.shared,
    )


def _ids(row: Any) -> dict[str, Any]:
    tokens = {
        name: [token if isinstance(token, int) else -1 - token.index for token in ids]
        for name, ids in row.tokens.items()
    }
    return {"tokens": tokens, "span": list(row.span), "context": list(row.context)}


def test_time(**chosen: Any) -> Callable[[Task], Step]:
    """The node's whole work for one prompt, ten steps, the copies of the models included."""
    return lambda task: _refining(task, chosen)


def _refining(task: Task, chosen: dict[str, Any]) -> Step:
    from core_personalization.nodes.refinement.refinement_inputs import StartingPoint, check_inputs
    from core_personalization.nodes.refinement.refinement_settings import RefinementSettings
    from core_personalization.nodes.refinement.refining import refine_prompt
    from core_personalization.nodes.settings import validated

    host = host_models(task)
    prompt = {"prompt": "a photo of a {} wearing a hat, on the beach"}
    values = {"batch_size": task.batch, "width": task.side, "height": task.side, "precision": task.precision}
    settings = validated(RefinementSettings, {**prompt, **values, **chosen})
    concept = a_concept(host.clip, task)

    def step() -> None:
        with torch.inference_mode():
            refine_prompt(host, check_inputs(host, [concept, None, None], StartingPoint(None, None), settings), None)

    return step


def probed(task: Task) -> Step:
    """The sampling of `core_nodes.generation`, with every word watched in every layer."""
    from core_personalization.nodes.insight.attention_probe import ContextAttentionProbe

    host = host_models(task)

    def step() -> None:
        with torch.inference_mode():
            model, _ = ContextAttentionProbe.execute(host.model, host.clip, None, prompt=PROMPT).args
        sample(task, model, host.clip, PROMPT)

    return step


ATTENTION = {"alignment_mean": 2.0, "alignment_variance": 5.0}
SUBJECTS: dict[str, Callable[[Task], Step]] = {
    "textual-inversion": _embedding("Textual Inversion"),
    "core": _embedding(CORE),
    "core-fast": _embedding("CoRe fast"),
    "attndreambooth-1": _embedding("AttnDreamBooth stage 1"),
    "attndreambooth-2": _finetune(True, scope="cross-attention layers", learning_rate=2e-5, **ATTENTION),
    "attndreambooth-3": _finetune(True, **ATTENTION),
    "finetune": _finetune(),
    "finetune-fused": _finetune(fused_backward=True),
    **{f"core-{count}-sizes": _embedding(CORE, count, fit="keep") for count in SIZES_OF_PICTURES},
    "lora": _finetune(form="LoRA", rank=8, learning_rate=1e-4),
    "test-time": test_time(),
    "test-time-fast": test_time(shared_queries=True),
    "probed": probed,
}
