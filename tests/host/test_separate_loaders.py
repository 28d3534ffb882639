"""U-Net, text encoders and VAE from core's separate loaders, with longer text encoders, and with clip skip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families.build import FAMILIES, state_dict
from families.embedding import embedding_run, execute
from families.load import load_family, text_encoder_options
from safetensors.torch import save_file

PROMPT = "a (red:1.3) dog in the snow"
SOURCES: dict[str, tuple[str, ...]] = {"sd1": ("cond_stage_model.transformer.",)}
SOURCES["sdxl"] = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")
MARK_OF_CLIP_G = "text_model.encoder.layers.30.mlp.fc1.weight"
"""By this of its 32 layers core knows it."""


def parts_of(family: str, folder: Path, rows: int = 77) -> dict[str, Path]:
    """Files of a checkpoint's parts; rows: that CLIP-L reads, as LongCLIP does more."""
    weights = state_dict(family)

    def taken(prefix: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}

    parts = {"unet": taken("model.diffusion_model."), "vae": taken("first_stage_model.")}
    for number, prefix in enumerate(SOURCES[family]):
        parts[f"clip{number}"] = taken(prefix)
    place = "text_model.embeddings.position_embedding.weight"
    positions = parts["clip0"][place]
    parts["clip0"][place] = positions.repeat(-(-rows // 77), 1)[:rows]
    if "clip1" in parts:
        parts["clip1"] = {
            "transformer.resblocks.30.mlp.c_fc.weight": torch.zeros(1, dtype=torch.float16),
            **parts["clip1"],
        }
    files = {name: folder / f"{name}.safetensors" for name in parts}
    for name, file in files.items():
        save_file({key: value.contiguous() for key, value in parts[name].items()}, file)
    return files


@pytest.fixture
def loaded(tmp_path, monkeypatch, embeddings):
    """By core's own nodes, for text encoders that are smaller than their files would have to be."""
    import comfy.text_encoders.long_clipl as long_clip
    import folder_paths

    original = long_clip.model_options_long_clip

    def small(sd, tokenizer_data, model_options):
        tokenizer_data, options = original(sd, tokenizer_data, model_options)
        for name, config in text_encoder_options(FAMILIES["sdxl"]).items():
            options[name] = {**config, **options.get(name, {})}
        return tokenizer_data, options

    monkeypatch.setattr(long_clip, "model_options_long_clip", small)

    def load(family: str, rows: int = 77) -> tuple[Any, Any, Any]:
        from nodes import CLIPLoader, DualCLIPLoader, UNETLoader, VAELoader

        files = parts_of(family, tmp_path, rows)
        for kind in ("diffusion_models", "text_encoders", "vae"):
            monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path)], {".safetensors"}))
            folder_paths.filename_list_cache.pop(kind, None)
        names = [file.name for name, file in files.items() if name.startswith("clip")]
        with torch.inference_mode():
            if len(names) == 1:
                (clip,) = CLIPLoader().load_clip(*names, "stable_diffusion")
            else:
                (clip,) = DualCLIPLoader().load_clip(*names, "sdxl")
            return (
                UNETLoader().load_unet("unet.safetensors", "default")[0],
                clip,
                VAELoader().load_vae("vae.safetensors")[0],
            )

    return load


def as_core_encodes(clip: Any, prompt: str = PROMPT) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        context, pooled = clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True)
        return context.clone(), pooled.clone()


def as_a_training_encodes(clip: Any, prompt: str = PROMPT) -> Any:
    from core_personalization.nodes.host.models.module_copy import autograd_mode
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    with autograd_mode(), torch.no_grad():
        return HostTextEncoder(clip).encode([PromptRows(clip, "dog").text(prompt)], {})


@pytest.mark.parametrize("family", SOURCES)
def test_parts_from_separate_loaders_are_known_as_their_checkpoint(loaded, family):
    """What was trained with the one is loaded, or goes on, with the other."""
    from core_personalization.nodes.host.models.host_models import HostModels

    assert HostModels(*loaded(family)).digests() == HostModels(*load_family(family)).digests()


def test_parts_from_separate_loaders_train_as_their_checkpoint_does(loaded):
    apart, whole = (execute(models, concept_name="parts", steps=2) for models in (loaded("sd1"), load_family("sd1")))
    assert all(torch.equal(apart[0].vectors[name], whole[0].vectors[name]) for name in whole[0].vectors)


@pytest.mark.parametrize("family", SOURCES)
def test_longer_text_encoders_are_trained_as_core_encodes_with_them(loaded, family):
    models = loaded(family, rows=248)
    context, pooled = as_core_encodes(models[1])
    text = as_a_training_encodes(models[1])
    assert context.shape[1] == (248 if family == "sd1" else 77)
    torch.testing.assert_close(text.context, context, rtol=1e-4, atol=1e-4)
    if text.pooled is not None:
        torch.testing.assert_close(text.pooled, pooled, rtol=1e-4, atol=1e-4)
    run = embedding_run(models, steps=2, rescale_to=0)
    before = run.embedding.snapshot()
    with torch.inference_mode():
        run.train()
    after = run.embedding.snapshot()
    assert all(not torch.equal(before[name], after[name]) and after[name].isfinite().all() for name in before)


def test_a_longer_caption_fits_a_longer_text_encoder(loaded):
    long = "a {} " + "in the snow " * 40
    with pytest.raises(ValueError, match=r"^captions: .* rows of 77 tokens"):
        embedding_run(load_family("sd1"), captions=[long])
    embedding_run(loaded("sd1", rows=248), captions=[long])


@pytest.mark.parametrize(("family", "skip"), [("sd1", -2), ("sdxl", -1), ("sdxl", -24)])
def test_clip_skip_is_trained_as_core_encodes_with_it(family, skip):
    """More than there are layers too: core then takes what it takes without."""
    from nodes import CLIPSetLastLayer

    _, clip, _ = load_family(family)
    (skipping,) = CLIPSetLastLayer().set_last_layer(clip, skip)
    context, pooled = as_core_encodes(skipping)
    text = as_a_training_encodes(skipping)
    torch.testing.assert_close(text.context, context, rtol=1e-4, atol=1e-4)
    if text.pooled is not None:
        torch.testing.assert_close(text.pooled, pooled, rtol=1e-4, atol=1e-4)
    assert torch.equal(context, as_core_encodes(clip)[0]) is (skip == -24)
