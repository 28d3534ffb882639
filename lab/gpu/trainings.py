"""Our trainings as the nodes run them, on random pictures. Imports ComfyUI when called."""

from __future__ import annotations

from typing import Any

Models = tuple[Any, Any, Any]
"""MODEL, CLIP and VAE."""
EMBEDDING: dict[str, Any] = {
    "concept_name": "checked",
    "super_category": "dog",
    "rescale_to": 0,
    "preview_every": 0,
    "save_every": 0,
    "overwrite": True,
}
EMBEDDING_METHODS = (
    *("CoRe", "CoRe fast", "CoRe (reference code)", "CoRe + DTI", "AttnDreamBooth stage 1", "Cross Initialization"),
    *("Directional Textual Inversion", "TI + ViCo's regularizer", "XTI (P+)", "NeTI", "Textual Inversion"),
)
FORMS = ("full weights", "LoRA", "DoRA", "T-LoRA", "LoHa", "LoKr", "OFT", "singular values")


def start_host(folder: str, device: str) -> None:
    """ComfyUI in this process, with its folders in `folder`."""
    from ..speed.host import import_host
    from ..speed.task import Task

    import_host(Task("", "", "tiny", 64, 1, folder, device))


def training_run(training: str, models: Models, pictures: int, **settings: Any) -> Any:
    """A run ready to `train`. training: of EMBEDDING_METHODS, or of FORMS."""
    images = random_pictures(pictures, settings["resolution"])
    if training in EMBEDDING_METHODS:
        from families.embedding import embedding_run

        return embedding_run(models, images, method=training, **{**EMBEDDING, **settings})
    from families.finetuning import finetune_run

    return finetune_run(models, images=images, form=training, **settings)


def random_pictures(count: int, side: int) -> list[Any]:
    """[1, side, side, 3] each, the same in every process."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        return [torch.rand(1, side, side, 3, generator=generator) for _ in range(count)]
