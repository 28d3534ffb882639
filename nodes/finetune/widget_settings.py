"""The inputs of "U-Net Identity Finetune", one field each; CoRe stage 2 by default, other methods as presets."""

from __future__ import annotations

from dataclasses import dataclass

from ...core_ops.pictures import Fit
from ..files import unet_files
from ..host.models.trainable_unet import ADAPTERS, DORA, FORMS, LORA, OFT, SCOPES, T_LORA
from ..settings import choice, file, integer, like, number, switch, text
from ..training.optimizers import OPTIMIZERS
from ..training.shared_settings import SharedSettings
from .presets import CORE, DREAMBOOTH_LORA, PRESETS, TEXT_ENCODER_RATE

PAPER = PRESETS[CORE]
SAVE_TRAINED, SAVE_UNET, SAVE_LORA, SAVE_BOTH = "as trained", "whole U-Net", "LoRA", "whole U-Net and LoRA"


@dataclass(frozen=True)
class FinetuneWidgets:
    name: str = text("my-concept", help="Name of the file to write. Letters, digits, '-', '_' and '.'.")
    preset: str = choice(
        tuple(PRESETS),
        help=(
            "Fills in the other inputs with a method's published values; change them afterwards as you like. Only the "
            "inputs count when the graph runs."
        ),
        fills=PRESETS,
    )
    form: str = choice(
        FORMS,
        help=(
            "full weights: as published, largest file. LoRA, DoRA, LoHa, LoKr, OFT: a small file; LoRA takes the least "
            "memory, DoRA comes nearer to full weights. T-LoRA: a LoRA that learns less by heart from few photos. "
            "singular values: SVDiff, the fewest numbers."
        ),
        shows={
            **{form: ["alpha"] for form in ADAPTERS if form != OFT},
            **{form: ["alpha", "dropout"] for form in (LORA, DORA)},
            T_LORA: ["least_rank", "rank_power"],
        },
    )
    rank: int = integer(
        16,
        low=1,
        high=1024,
        help=(
            "Rank of LoRA, DoRA, T-LoRA and LoHa, factor of LoKr and OFT, and rank of a LoRA that is extracted from "
            "full weights."
        ),
    )
    steps: int = integer(
        PAPER["steps"], low=1, high=1_000_000, help=f"Optimizer steps. CoRe stage 2: {PAPER['steps']}."
    )
    batch_size: int = integer(
        PAPER["batch_size"],
        low=1,
        high=256,
        help=f"Noised pictures per step. CoRe stage 2: {PAPER['batch_size']}. Lower it to save memory.",
    )
    learning_rate: float = number(
        PAPER["learning_rate"],
        low=1e-9,
        high=1.0,
        step=1e-7,
        help=(
            f"The optimizer's rate. CoRe stage 2: {PAPER['learning_rate']:f}; LoRA: about "
            f"{PRESETS[DREAMBOOTH_LORA]['learning_rate']}."
        ),
    )
    resolution: int = like(SharedSettings, "resolution")
    seed: int = like(SharedSettings, "seed")
    save: str = choice(
        (SAVE_TRAINED, SAVE_UNET, SAVE_LORA, SAVE_BOTH),
        help=(
            "as trained: full weights and singular values as a whole U-Net, the rest as a LoRA file. LoRA: extracted "
            "at rank, from full weights or singular values."
        ),
    )
    overwrite: bool = switch(False, help="Replace a file of the same name.")
    scope: str = choice(
        SCOPES,
        help=(
            "Which weights are trained. CoRe and DreamBooth: the whole U-Net. AttnDreamBooth stage 2: cross-attention. "
            "Custom Diffusion: keys and values."
        ),
        advanced=True,
    )
    alpha: float = number(
        16.0,
        low=0.001,
        high=1024.0,
        step=1.0,
        help="LoRA, DoRA and LoHa: the change is scaled by alpha / rank.",
        advanced=True,
    )
    dropout: float = number(
        0.0,
        low=0.0,
        high=0.9,
        step=0.05,
        help=(
            "LoRA and DoRA: the part of the numbers between their two matrices that is left out in a step, against "
            "learning the photos by heart. It is kohya's network_dropout, often 0.1 to 0.5. 0: off."
        ),
        advanced=True,
    )
    train_embedding: bool = switch(
        False,
        help=(
            "Train the concept's embedding along, as TI + DreamBooth and Custom Diffusion do; the refined embedding is "
            "saved under the file's name."
        ),
        advanced=True,
        shows={"true": ["embedding_rate", "semantic_weight"]},
    )
    embedding_rate: float = number(
        0.0,
        low=0.0,
        high=1.0,
        step=1e-5,
        help="Learning rate of the embedding, when trained along; 0: the same rate.",
        advanced=True,
    )
    caption_template: str = like(SharedSettings, "caption_template")
    class_caption: str = text(
        "", help="Caption of the class images, without {}. Empty: 'a photo of a' and the super-category.", advanced=True
    )
    prior_weight: float = number(
        1.0,
        low=0.0,
        high=1e6,
        step=0.1,
        help="Weight of prior preservation, when class images are connected. Paper: 1.",
        advanced=True,
    )
    alignment_mean: float = number(
        0.0,
        low=0.0,
        high=1e6,
        step=0.1,
        help="AttnDreamBooth: weight of the maps' mean. Paper: 2. 0: off.",
        advanced=True,
    )
    alignment_variance: float = number(
        0.0,
        low=0.0,
        high=1e6,
        step=0.1,
        help="AttnDreamBooth: weight of the maps' variance. Paper: 5. 0: off.",
        advanced=True,
    )
    semantic_weight: float = number(
        0.0,
        low=0.0,
        high=1e6,
        step=0.1,
        help=(
            "ClassDiffusion, with the embedding trained too: weight of the term that has it before its super-category "
            "mean to the text encoder what the super-category alone means. Paper: 1. 0: off."
        ),
        advanced=True,
    )
    fit: Fit = like(SharedSettings, "fit")
    augmentation: int = like(SharedSettings, "augmentation")
    use_masks: bool = like(SharedSettings, "use_masks")
    optimizer: str = choice(
        tuple(OPTIMIZERS),
        help=(
            "AdamW: as published, 8 bytes of state per trained number. AdamW 8-bit: 2 bytes, needs the package "
            "bitsandbytes. Adafactor: almost none. Prodigy finds its own rate: set the learning rate to 1; 16 bytes, "
            "needs prodigyopt."
        ),
        advanced=True,
    )
    caption_dropout: float = number(
        0.0,
        low=0.0,
        high=1.0,
        step=0.05,
        help="How often a picture is trained without its caption, so that guidance keeps its effect. Published: 0.",
        advanced=True,
    )
    precision: str = like(SharedSettings, "precision")
    gradient_checkpointing: bool = like(SharedSettings, "gradient_checkpointing")
    checkpointing_levels: int = like(SharedSettings, "checkpointing_levels")
    offload: float = like(SharedSettings, "offload")
    fused_backward: bool = switch(
        False,
        help=(
            "Update weights while the backward pass goes on: their gradients, 4 bytes per trained number, are never in "
            "memory all at once. Same result. Not with class images, gradient_accumulation, max_gradient_norm or fp16."
        ),
        advanced=True,
    )
    schedule: str = like(SharedSettings, "schedule")
    warmup: float = like(SharedSettings, "warmup")
    weight_decay: float = like(SharedSettings, "weight_decay")
    min_snr_gamma: float = like(SharedSettings, "min_snr_gamma")
    ema_decay: float = like(SharedSettings, "ema_decay")
    gradient_accumulation: int = like(SharedSettings, "gradient_accumulation")
    max_gradient_norm: float = like(SharedSettings, "max_gradient_norm")
    preview_every: int = integer(
        250, low=0, high=100_000, help="Steps between live previews of the concept; 0 for none.", advanced=True
    )
    preview_steps: int = like(SharedSettings, "preview_steps")
    preview_guidance: float = like(SharedSettings, "preview_guidance")
    preview_size: int = like(SharedSettings, "preview_size")
    hold_out: bool = like(SharedSettings, "hold_out")
    save_every: int = integer(
        0,
        low=0,
        high=1_000_000,
        help=(
            "Steps between saved states to go on from; 0 for none, cancel saves one in any case. A state has 12 bytes "
            "per trained number: 10 GB for the whole U-Net of SD 1.5."
        ),
        advanced=True,
    )
    clear_steps: bool = like(SharedSettings, "clear_steps")
    start: str = like(SharedSettings, "start")
    preview_negative: str = like(SharedSettings, "preview_negative")
    start_from: str = file(
        unet_files.lora_names,
        help="With form LoRA: train this LoRA further, of this pack or of another program, at its own rank.",
        advanced=True,
    )
    train_text_encoder: bool = switch(
        False,
        help=(
            "Train the text encoder along, as DreamBooth's programs and SID's authors do: as a LoRA of the same rank, "
            "in the LoRA file. Draw with the clip output, or with that file in Load LoRA."
        ),
        advanced=True,
        shows={"true": ["text_encoder_rate"]},
    )
    text_encoder_rate: float = number(
        TEXT_ENCODER_RATE,
        low=0.0,
        high=1.0,
        step=1e-6,
        help=f"Learning rate of the text encoder, when trained along; 0: the same rate. Usual: {TEXT_ENCODER_RATE:f}.",
        advanced=True,
    )
    least_rank: float = number(
        0.5,
        low=0.0,
        high=1.0,
        step=0.05,
        help=(
            "T-LoRA: this part of the ranks learns and draws where all is noise, more with less noise, all where there "
            "is none; at least one rank. Published: 0.5."
        ),
        advanced=True,
    )
    rank_power: float = number(
        1.0,
        low=0.01,
        high=10.0,
        step=0.1,
        help="T-LoRA: how fast ranks are added as the noise goes; below 1 sooner, above 1 later. Paper: 1.",
        advanced=True,
    )
    preview_prompts: str = like(SharedSettings, "preview_prompts")
