"""The node "CoRe Test-Time Optimize" on real ComfyUI objects: small random-weight models of all four families."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from families.build import FAMILIES
from families.load import load_family

SETTINGS: dict[str, Any] = {"prompt": "a {} in the jungle", "batch_size": 2, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def embeddings() -> Path:
    import folder_paths

    return Path(folder_paths.get_folder_paths("embeddings")[0])


@pytest.fixture(scope="module")
def sd1(embeddings):
    return load_family("sd1", embedding_directory=str(embeddings))


def concept(models, name: str, seed: int = 0, vectors: int = 1, with_category: bool = False):
    """A concept as after an overfitted training: its vectors are far from any word's. Written as core reads it."""
    from core_personalization.nodes.concept import Concept
    from core_personalization.nodes.host import concept_files, safe_files
    from core_personalization.nodes.host.text_encoder import encoder_widths

    generator = torch.Generator().manual_seed(seed)
    own = {
        encoder: torch.randn(vectors, width, generator=generator) * 0.6 / width**0.5
        for encoder, width in encoder_widths(models[1]).items()
    }
    path = concept_files.embedding_path(name)
    safe_files.write(path, concept_files.embedding_tensors(own), {}, overwrite=True)
    return Concept(name, "dog", own, path, with_category)


def execute(models, **given):
    """The node as the host runs it, under inference mode."""
    from core_personalization.nodes.test_time_optimize import TestTimeOptimize

    model, clip, _ = models
    with torch.inference_mode():
        return TestTimeOptimize.execute(model=model, clip=clip, **{**SETTINGS, **given}).args


def core_encode(clip, prompt: str):
    from nodes import CLIPTextEncode

    with torch.inference_mode():
        return CLIPTextEncode().encode(clip, prompt)[0]


def weights_hash(models) -> str:
    model, clip, vae = models
    digest = hashlib.sha256()
    for module in (model.model, clip.cond_stage_model, vae.first_stage_model):
        for name, tensor in module.state_dict().items():
            digest.update(name.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_no_step_gives_what_core_encodes_and_ten_change_it(family, embeddings):
    models = load_family(family, embedding_directory=str(embeddings))
    given = concept(models, f"plain-{family}", vectors=2)
    before = weights_hash(models), (embeddings / f"plain-{family}.safetensors").read_bytes()
    prompt = "a (red:1.3) {}, in the ((jungle)) with a \\(real\\) hat"
    conditioning, report, _ = execute(models, concept=given, prompt=prompt, steps=0)
    expected = core_encode(models[1], prompt.replace("{}", f"embedding:plain-{family}"))
    ((tensor, extra),) = conditioning
    assert torch.equal(tensor, expected[0][0])
    assert extra.keys() == expected[0][1].keys()
    assert torch.equal(extra["pooled_output"], expected[0][1]["pooled_output"])
    print(report)
    ((changed, _),), report, _ = execute(models, concept=given, prompt=prompt, steps=3)
    assert not torch.equal(changed, tensor)
    print(report)
    assert before == (weights_hash(models), (embeddings / f"plain-{family}.safetensors").read_bytes())
