"""Trains the mini world and exports the embedded checkpoint: `python -m mini_world.train --help`.

From nothing, or with `--continue` from the checkpoint that is embedded now. Stages read what the earlier ones left in
the work folder, so that each can be run, and repeated, alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPTokenizer

from . import dataset
from .embedded import CORE, FOLDER, provenance
from .export import export_core, export_fp16
from .judge import FILE as JUDGE
from .judge_training import judged_pictures, train_judge
from .schedule import Budget
from .text_encoder import TextEncoder
from .text_training import encode_captions, load_tokenizer, train_text_encoder
from .unet import UNet
from .unet_training import LatentPictures, UNetTraining
from .unpacking import unpack
from .vae import TinyVAE, level
from .vae_training import encode_pictures, psnr, refine_decoder, train_vae

HELD_OUT_CAPTIONS = 100
"""The last ones of the data set: only the measurements of the VAE and of the judge see them."""
LEVELLED_BY = 64
"""Pictures by which a trained encoder is levelled."""
NO_STEP_LIMIT = 10**9
JUDGE_SEED = 1_000
"""Added to the seed: the judge's pictures are none of the other stages'."""
BEFORE = "before.json"
"""Where the checkpoint came from that a continued training began with."""


@dataclass(frozen=True)
class Settings:
    work: Path
    assets: Path
    device: torch.device
    captions: int
    seed: int
    minutes: dict[str, float]

    def budget(self, stage: str) -> Budget:
        return Budget(NO_STEP_LIMIT, self.minutes[stage])


def draw_data(settings: Settings) -> None:
    drawn = dataset.draw(settings.captions, settings.seed, processes=os.cpu_count() or 1)
    dataset.save(drawn, settings.work / "data")


def train_vae_stage(settings: Settings) -> None:
    """The VAE, and every picture's latent. Continues from an earlier VAE, if there is one."""
    data = dataset.load(settings.work / "data")
    vae = _vae(settings) if (settings.work / "vae.pt").exists() else None
    if settings.minutes["vae"] or vae is None:
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
    _save_text(settings, text, tokenizer, captions)


def _save_text(settings: Settings, text: TextEncoder, tokenizer: CLIPTokenizer, captions: list[str]) -> None:
    torch.save(text.state_dict(), settings.work / "text.pt")
    torch.save(encode_captions(text, tokenizer, [*captions, ""]), settings.work / "context.pt")


def unpack_stage(settings: Settings) -> None:
    """The embedded checkpoint in place of what the stages would leave. Their optimizers begin anew."""
    vae, text, unet = unpack()
    torch.save(vae.state_dict(), settings.work / "vae.pt")
    captions = dataset.load(settings.work / "data").captions
    _save_text(settings, text.to(settings.device), load_tokenizer(), captions)
    (settings.work / BEFORE).write_text(json.dumps(provenance()), encoding="utf-8")
    torch.save(unet.state_dict(), settings.work / "unpacked_unet.pt")
    (settings.work / "unet.pt").unlink(missing_ok=True)


def train_unet_stage(settings: Settings) -> None:
    """Continues from the newest saved state, if there is one, or else from the unpacked weights."""
    latents, context = (_load(settings, name) for name in ("latents", "context"))
    kept = len(latents) - HELD_OUT_CAPTIONS
    pictures = LatentPictures(latents[:kept], torch.cat([context[:kept], context[-1:]]))
    training = UNetTraining(pictures, settings.budget("unet"), settings.device, settings.seed)
    state = settings.work / "unet.pt"
    if state.exists():
        training.resume(state)
    elif (settings.work / "unpacked_unet.pt").exists():
        training.start_from(_load(settings, "unpacked_unet"))
    training.run(state)


def train_judge_stage(settings: Settings) -> None:
    """On pictures of its own. `--continue` leaves the judge as it is, so that its figures can be compared."""
    data = judged_pictures(settings.captions, JUDGE_SEED + settings.seed, _vae(settings), settings.device)
    seen, unseen = data.parted(HELD_OUT_CAPTIONS)
    judge = train_judge(seen, settings.budget("judge"), settings.device, settings.seed).cpu()
    judge.save(settings.assets / JUDGE.name)
    pictures = torch.from_numpy(np.array(unseen.pictures)).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(np.repeat(unseen.labels, unseen.images.shape[1], axis=0))
    for name, (hits, count) in judge.hits(pictures, labels).items():
        print(f"judge: {name} right in {hits} of {count} pictures never seen")


def export_stage(settings: Settings) -> None:
    """Works at any time after a first saved state of the U-Net."""
    made = _provenance(settings, _load(settings, "unet"))
    export_core(*_trained(settings), made, settings.assets / CORE.name)


def fp16_stage(settings: Settings) -> None:
    """What `export` packs into 8 bits, whole: for `python -m mini_world.evaluate --checkpoint`."""
    export_fp16(*_trained(settings), settings.work / "fp16.safetensors")


def _trained(settings: Settings) -> tuple[TinyVAE, TextEncoder, UNet]:
    state = _load(settings, "text")
    text, unet = TextEncoder(state["known"].tolist()), UNet()
    text.load_state_dict(state)
    unet.load_state_dict(_load(settings, "unet")["average"])
    return _vae(settings), text, unet


def _vae(settings: Settings) -> TinyVAE:
    vae = TinyVAE()
    vae.load_state_dict(_load(settings, "vae"))
    return vae.to(settings.device, memory_format=torch.channels_last).eval()


def _provenance(settings: Settings, unet_state: dict[str, Any]) -> dict[str, str]:
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    file = settings.work / BEFORE
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    run = [stage for stage in (CONTINUED if before else FROM_NOTHING) if stage in settings.minutes]
    minutes = " ".join(f"--{stage}-minutes {settings.minutes[stage]:g}" for stage in run)
    options = f"--captions {settings.captions} --seed {settings.seed} --device {settings.device} {minutes}"
    return {
        "training.command": f"python -m mini_world.train {'--continue ' if before else ''}{options}",
        "training.commit": revision.stdout.strip() or "unknown",
        "training.unet_steps": str(unet_state["step"]),
        "training.unet_minutes": f"{unet_state['seconds'] / 60:.1f}",
        "training.date": time.strftime("%Y-%m-%d", time.gmtime()),
        **{f"before.{name}": value for name, value in before.items() if "training." in name},
    }


def _load(settings: Settings, name: str) -> Any:
    return torch.load(settings.work / f"{name}.pt", weights_only=True)


STAGES: dict[str, Callable[[Settings], None]] = {
    "data": draw_data,
    "vae": train_vae_stage,
    "text": train_text_stage,
    "unpack": unpack_stage,
    "unet": train_unet_stage,
    "decoder": refine_decoder_stage,
    "judge": train_judge_stage,
    "export": export_stage,
    "fp16": fp16_stage,
}
FROM_NOTHING = ("data", "vae", "text", "unet", "decoder", "judge", "export")
CONTINUED = ("data", "unpack", "vae", "unet", "decoder", "export")
MINUTES = {"vae": 20.0, "text": 1.5, "unet": 60.0, "decoder": 10.0, "judge": 8.0}
CONTINUED_MINUTES = MINUTES | {"vae": 0.0}
"""The U-Net knows the latents as they are; with minutes for the VAE it learns others."""


def parse(arguments: list[str] | None = None) -> tuple[list[str], Settings]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", default="all", choices=["all", *STAGES])
    parser.add_argument(
        "--continue", dest="continued", action="store_true", help="train the embedded checkpoint further"
    )
    parser.add_argument("--work", type=Path, default=Path("mini_world_work"), help="folder for what the stages leave")
    parser.add_argument("--assets", type=Path, default=FOLDER, help="folder for the checkpoint's core and the judge")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--captions", type=int, default=4000, help="captions to draw, four pictures of each")
    parser.add_argument("--seed", type=int, default=0)
    for stage, minutes in MINUTES.items():
        default = f"default {minutes:g}, with --continue {CONTINUED_MINUTES[stage]:g}"
        parser.add_argument(f"--{stage}-minutes", type=float, help=default)
    given = parser.parse_args(arguments)
    asked = {stage: getattr(given, f"{stage}_minutes") for stage in MINUTES}
    defaults = CONTINUED_MINUTES if given.continued or (given.work / BEFORE).exists() else MINUTES
    minutes = {stage: defaults[stage] if wish is None else wish for stage, wish in asked.items()}
    for stage, wish in minutes.items():
        if wish <= 0 and wish != defaults[stage]:
            parser.error(f"--{stage}-minutes: got {wish:g}; give more than 0")
    if given.stage == "all" and not given.continued and (given.work / BEFORE).exists():
        parser.error(f"--work: {given.work} holds a continued training; add --continue, or name another folder")
    settings = Settings(given.work, given.assets, given.device, given.captions, given.seed, minutes)
    every = CONTINUED if given.continued else FROM_NOTHING
    return list(every) if given.stage == "all" else [given.stage], settings


def main(arguments: list[str] | None = None) -> None:
    stages, settings = parse(arguments)
    settings.work.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        began = time.monotonic()
        STAGES[stage](settings)
        print(f"{stage}: finished after {(time.monotonic() - began) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
