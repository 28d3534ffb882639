"""Trains the mini world stage by stage: python -m lab world train --help

Stages read what the earlier ones left in the work folder, so that each can be run, and repeated, alone. The last one
leaves core.safetensors there, which `python -m lab world expand` takes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...surroundings import commit
from ..drawing import dataset
from ..embedded import CORE
from ..export import export_core
from ..networks.judge import FILE as JUDGE
from ..networks.text_encoder import TextEncoder
from ..networks.unet import UNet
from ..networks.vae import TinyVAE, level
from .judge_training import judged_pictures, train_judge
from .schedule import Budget
from .text_training import encode_captions, load_tokenizer, train_text_encoder
from .unet_training import LatentPictures, UNetTraining
from .vae_training import encode_pictures, psnr, refine_decoder, train_vae

HELD_OUT_CAPTIONS = 100
"""The last ones of the data set: only the measurements of the VAE and of the judge see them."""
LEVELLED_BY = 64
"""Pictures by which a trained encoder is levelled."""
NO_STEP_LIMIT = 10**9
JUDGE_SEED = 1_000
"""Added to the seed: the judge's pictures are none of the other stages'."""


@dataclass(frozen=True)
class Settings:
    work: Path
    device: torch.device
    captions: int
    seed: int
    minutes: Mapping[str, float]

    def budget(self, stage: str) -> Budget:
        return Budget(NO_STEP_LIMIT, self.minutes[stage])


def draw_data(settings: Settings) -> None:
    drawn = dataset.draw(settings.captions, settings.seed, processes=os.cpu_count() or 1)
    dataset.save(drawn, settings.work / "data")


def train_vae_stage(settings: Settings) -> None:
    """The VAE, and every picture's latent. Continues from an earlier VAE, if there is one."""
    data = dataset.load(settings.work / "data")
    vae = _vae(settings) if (settings.work / "vae.pt").exists() else None
    seen, unseen = data.parted(HELD_OUT_CAPTIONS)
    vae = train_vae(seen.pictures, settings.budget("vae"), settings.device, settings.seed, vae)
    level(vae, torch.tensor(seen.pictures[:LEVELLED_BY]).to(settings.device).permute(0, 3, 1, 2) / 255)
    print(f"vae: {psnr(vae, unseen.pictures, settings.device):.2f} dB on pictures never seen")
    torch.save(vae.state_dict(), settings.work / "vae.pt")
    latents = encode_pictures(vae, data.pictures, settings.device)
    torch.save(latents.unflatten(0, data.images.shape[:2]).half(), settings.work / "latents.pt")


def refine_decoder_stage(settings: Settings) -> None:
    """At any time after the VAE: the latents stay as they are."""
    seen, unseen = dataset.load(settings.work / "data").parted(HELD_OUT_CAPTIONS)
    latents = _load(settings, "latents")[: len(seen.images)].flatten(0, 1)
    vae = _vae(settings)
    refine_decoder(vae, seen.pictures, latents, settings.budget("decoder"), settings.device, settings.seed)
    print(f"decoder: {psnr(vae, unseen.pictures, settings.device):.2f} dB on pictures never seen")
    torch.save(vae.state_dict(), settings.work / "vae.pt")


def train_text_stage(settings: Settings) -> None:
    """The text encoder, and what it makes of every caption and of the empty one."""
    captions, tokenizer = dataset.load(settings.work / "data").captions, load_tokenizer()
    text = train_text_encoder(tokenizer, captions, settings.budget("text"), settings.device, settings.seed)
    torch.save(text.state_dict(), settings.work / "text.pt")
    torch.save(encode_captions(text, tokenizer, [*captions, ""]), settings.work / "context.pt")


def train_unet_stage(settings: Settings) -> None:
    """Continues from the newest saved state, if there is one."""
    latents, context = (_load(settings, name) for name in ("latents", "context"))
    kept = len(latents) - HELD_OUT_CAPTIONS
    pictures = LatentPictures(latents[:kept], torch.cat([context[:kept], context[-1:]]))
    training = UNetTraining(pictures, settings.budget("unet"), settings.device, settings.seed)
    state = settings.work / "unet.pt"
    if state.exists():
        training.resume(state)
    training.run(state)


def train_judge_stage(settings: Settings) -> None:
    """On pictures of its own."""
    data = judged_pictures(settings.captions, JUDGE_SEED + settings.seed, _vae(settings), settings.device)
    seen, unseen = data.parted(HELD_OUT_CAPTIONS)
    judge = train_judge(seen, settings.budget("judge"), settings.device, settings.seed).cpu()
    judge.save(settings.work / JUDGE.name)
    pictures = torch.from_numpy(np.array(unseen.pictures)).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(np.repeat(unseen.labels, unseen.images.shape[1], axis=0))
    for name, (hits, count) in judge.hits(pictures, labels).items():
        print(f"judge: {name} right in {hits} of {count} pictures never seen")


def export_stage(settings: Settings) -> None:
    """Works at any time after a first saved state of the U-Net."""
    state, trained = _load(settings, "text"), _load(settings, "unet")
    text, unet = TextEncoder(state["known"].tolist()), UNet()
    text.load_state_dict(state)
    unet.load_state_dict(trained["average"])
    export_core(_vae(settings), text, unet, _provenance(settings, trained), settings.work / CORE.name)


def _vae(settings: Settings) -> TinyVAE:
    vae = TinyVAE()
    vae.load_state_dict(_load(settings, "vae"))
    return vae.to(settings.device, memory_format=torch.channels_last).eval()


def _provenance(settings: Settings, unet_state: dict[str, Any]) -> dict[str, str]:
    minutes = " ".join(f"--{stage}-minutes {minutes:g}" for stage, minutes in settings.minutes.items())
    options = f"--captions {settings.captions} --seed {settings.seed} --device {settings.device} {minutes}"
    return {
        "training.command": f"python -m lab world train {options}",
        "training.commit": commit(),
        "training.unet_steps": str(unet_state["step"]),
        "training.unet_minutes": f"{unet_state['seconds'] / 60:.1f}",
        "training.date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _load(settings: Settings, name: str) -> Any:
    return torch.load(settings.work / f"{name}.pt", weights_only=True)


STAGES: dict[str, Callable[[Settings], None]] = {
    "data": draw_data,
    "vae": train_vae_stage,
    "text": train_text_stage,
    "unet": train_unet_stage,
    "decoder": refine_decoder_stage,
    "judge": train_judge_stage,
    "export": export_stage,
}


def train(given: argparse.Namespace, stages: Sequence[str], minutes: Mapping[str, float]) -> None:
    """given: work, device, captions and seed, as of the command. minutes: of each stage that ends by the clock."""
    device = torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    settings = Settings(given.work, device, given.captions, given.seed, minutes)
    settings.work.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        began = time.monotonic()
        STAGES[stage](settings)
        print(f"{stage}: finished after {(time.monotonic() - began) / 60:.1f} min", flush=True)
