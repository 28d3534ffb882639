"""The node "U-Net Identity Finetune" on the small families, executed as the host does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .prepared import Prepared

SETTINGS: dict[str, Any] = {"name": "finetuned", "steps": 2, "batch_size": 2, "learning_rate": 1e-4}
SETTINGS |= {"resolution": 64, "rank": 4, "precision": "fp32", "preview_every": 0, "overwrite": True}


def pictures(count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return [torch.rand(1, 64, 64, 3, generator=generator) for _ in range(count)]


def a_concept(models, with_category: bool = False, vectors: int = 1):
    from core_personalization.nodes.concept import Concept
    from core_personalization.nodes.host.models.text_encoder import encoder_widths

    generator = torch.Generator().manual_seed(4)
    values = {
        name: 0.02 * torch.randn(vectors, width, generator=generator)
        for name, width in encoder_widths(models[1]).items()
    }
    return Concept("learned", "teddy bear", values, Path("learned.safetensors"), with_category)


def execute(models, concept=None, images=None, masks=None, captions=None, class_images=None, also=None, **settings):
    """The node as the host runs it: under inference mode, every input a list."""
    from core_personalization.nodes.finetune.unet_identity_finetune import UNetIdentityFinetune

    values = {name: [value] for name, value in {**SETTINGS, **settings}.items()}
    model, clip, vae = models
    with torch.inference_mode():
        sockets = [model], [clip], [vae], [concept or a_concept(models)], images or pictures()
        more = {"class_images": class_images, "also": also and [also]}
        return UNetIdentityFinetune.execute(*sockets, masks, captions, **more, **values).args


def prediction(model) -> torch.Tensor:
    """Of the host's own U-Net with the MODEL's patches applied."""
    import comfy.model_management

    with torch.inference_mode():
        comfy.model_management.load_models_gpu([model], force_patch_weights=True, force_full_load=True)
        output = prediction_of_unet(model, model.model.diffusion_model)
        comfy.model_management.unload_all_models()
    return output.clone()


def prediction_of_unet(model, unet, t: float = 500.0, options: Any = None) -> torch.Tensor:
    """Of a U-Net of the MODEL's kind, on `prediction`'s inputs. options: `transformer_options`."""
    family = model.model.model_config.unet_config
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(1, 4, 8, 8, generator=generator)
    context = torch.randn(1, 77, family["context_dim"], generator=generator)
    y = torch.randn(1, family["adm_in_channels"], generator=generator) if family.get("adm_in_channels") else None
    return unet(z, torch.tensor([t]), context=context, y=y, transformer_options=options or {})


def from_core(kind: str, models, path: str):
    """The MODEL that core's own loader makes of the file."""
    import comfy.sd
    import comfy.utils

    with torch.inference_mode():
        if kind == "unet":
            return comfy.sd.load_diffusion_model(path)
        lora = comfy.utils.load_torch_file(path, safe_load=True)
        return comfy.sd.load_lora_for_models(models[0], None, lora, 1.0, 0.0)[0]


def also_trained(concept, images=None, masks=None, captions=None, photos=None, class_images=None, also=None):
    """What "Also Train" makes of one more concept."""
    from core_personalization.nodes.finetune.also_train import AlsoTrain

    more = masks, captions, photos and [photos], class_images, also and [also]
    with torch.inference_mode():
        return AlsoTrain.execute([concept], images or pictures(seed=7), *more).args[0]


def finetune_run(models, concept=None, images=None, masks=None, captions=None, class_images=None, **settings):
    from core_personalization.nodes.finetune.finetuning import ready_to_finetune
    from core_personalization.nodes.host.models.host_models import HostModels

    checked = checked_finetune(models, concept, images, masks, captions, class_images, **settings)
    with torch.inference_mode():
        return Prepared(ready_to_finetune(HostModels(*models), checked), checked)


def checked_finetune(
    models, concept=None, images=None, masks=None, captions=None, class_images=None, also=None, **settings
):
    from core_personalization.nodes.finetune.finetune_inputs import GivenPictures, check_finetune
    from core_personalization.nodes.finetune.finetune_settings import FinetuneSettings
    from core_personalization.nodes.host.models.host_models import HostModels
    from core_personalization.nodes.settings import validated

    given = GivenPictures(images or pictures(), masks, captions, class_images)
    chosen = validated(FinetuneSettings, {**SETTINGS, **settings})
    with torch.inference_mode():
        return check_finetune(HostModels(*models), concept or a_concept(models), given, chosen, also or [])
