"""The templates for a style, a vote and a rival without training, through a real server with the embedded model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from driver import quick_start
from driver.client import Execution, Workflow
from driver.mini_world import in_mini_world
from families import vision
from families.build import FAMILIES, save_half
from preparation.by_place import ROOT
from safetensors.torch import save_file

STYLE = "Train my style - from paintings"
VOTE = "Score by vote - which do people prefer"
PHOTOMAKER = "Score against PhotoMaker - no training"
KLEIN = "Score against FLUX.2 - no training"
PROMPTS = ("a {} in the snow", "a {} on the beach")


def of_type(workflow: Workflow, class_type: str) -> list[dict[str, Any]]:
    return [node for node in workflow.values() if node["class_type"] == class_type]


@pytest.fixture(scope="module")
def small(server, comfyui_path) -> dict[str, dict[str, Any]]:
    """By node type: two prompts, few steps and small models."""
    quick_start.fill_base_folder(server.process.base)
    vision.save_clip(server.process.base.path / "models" / "small-clip", comfyui_path / "comfy" / "sd1_tokenizer")
    return {
        "CoReEvaluationPrompts": {"prompt_set": "own", "own_prompts": "\n".join(PROMPTS)},
        "KSampler": {"steps": 2},
        "CoReTrainEmbedding": {"steps": 2, "batch_size": 1},
        "CoReScorecard": {"clip_model": "small-clip", "dino_model": "", "allow_downloads": False},
    }


def opened(server, name: str, small: dict[str, dict[str, Any]], switched_on: bool = False) -> Workflow:
    """switched_on: what the template has bypassed runs as well."""
    graph = json.loads((quick_start.TEMPLATES / f"{name}.json").read_text(encoding="utf-8"))
    for node in graph["nodes"]:
        node["mode"] = 0 if switched_on else node["mode"]
    workflow = in_mini_world(server.client.convert(graph))
    for node in workflow.values():
        node["inputs"] |= small.get(node["class_type"], {})
    return workflow


def saved(server, workflow: Workflow, execution: Execution) -> list[list[Path]]:
    """The files of each Save Image."""
    return [
        [server.process.output / image["subfolder"] / image["filename"] for image in shown["images"]]
        for node_id, shown in execution.outputs.items()
        if workflow[node_id]["class_type"] == "SaveImage"
    ]


def write_random(script: str, base: Path, *files: Path) -> None:
    """Runs a script that writes networks with random weights, in a process of its own; its ComfyUI starts in `base`."""
    command = [sys.executable, "-c", script, str(base), *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_comfyui_offers_them_as_templates(server):
    assert {STYLE, VOTE, PHOTOMAKER, KLEIN} <= set(server.client.get("/workflow_templates")["core-personalization"])


def test_a_style_is_learned_drawn_and_scored(server, small):
    assert not of_type(opened(server, STYLE, small), "CoReScorecard")
    workflow = opened(server, STYLE, small, switched_on=True)
    (scored,) = of_type(workflow, "CoReScorecard")
    scored["inputs"]["style_model"] = "small-clip"
    server.client.submit(workflow)
    file = server.process.output / "scorecards" / "my-style.json"
    (card,) = json.loads(file.read_text(encoding="utf-8"))["scorecards"]
    assert card["prompts"] == ["a {} of a castle on a hill"] * 2
    assert card["scores"]["style"]["overall"]["n"] == 2 and card["facts"]["references"] == 4
    (train,) = of_type(workflow, "CoReTrainEmbedding")
    assert (server.process.base.embeddings / f"{train['inputs']['concept_name']}.safetensors").is_file()


def test_a_vote_is_of_the_same_prompts_and_seeds(server, small, my_dog):
    workflow = opened(server, VOTE, small)
    assert not of_type(workflow, "CoReVoteResults")
    for node in of_type(workflow, "CoReLoadConcept"):
        node["inputs"]["file"] = f"embeddings/{my_dog}.safetensors"
    execution = server.client.submit(workflow)
    first, second = saved(server, workflow, execution)
    assert len(first) == len(PROMPTS)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]  # One word, twice
    key = json.loads((server.process.output / "votes" / "my-dog-vote.key.json").read_text(encoding="utf-8"))
    assert key["names"] == ["CoRe", "DTI"]
    assert sorted(pair["prompt"] for pair in key["pairs"]) == ["a dog in the snow", "a dog on the beach"]


def test_photomaker_draws_the_concepts_prompts_and_is_scored_beside_it(server, small, my_dog):
    """With CLIP Text Encode in its place: its model is 900 MB, and draws with SDXL alone."""
    workflow = opened(server, PHOTOMAKER, small)
    told, again = of_type(workflow, "CoReEvaluationPrompts")
    assert {"concept"} == told["inputs"].keys() ^ again["inputs"].keys()
    assert {name for name in again["inputs"] if told["inputs"][name] != again["inputs"][name]} == {"concept_text"}
    assert len(of_type(workflow, "RebatchImages")) == 1
    (encode,) = of_type(workflow, "PhotoMakerEncode")
    encode["class_type"] = "CLIPTextEncode"
    encode["inputs"] = {name: encode["inputs"][name] for name in ("clip", "text")}
    for key in [key for key, node in workflow.items() if node["class_type"] == "PhotoMakerLoader"]:
        del workflow[key]
    (load,) = of_type(workflow, "CoReLoadConcept")
    load["inputs"]["file"] = f"embeddings/{my_dog}.safetensors"
    server.client.submit(workflow)
    file = server.process.output / "scorecards" / "PhotoMaker.json"
    cards = json.loads(file.read_text(encoding="utf-8"))["scorecards"]
    assert [card["name"] for card in cards] == [my_dog, "PhotoMaker"]
    assert cards[1]["prompts"] == [prompt.format("person photomaker") for prompt in PROMPTS]


RANDOM_PHOTOMAKER = """
import sys, torch
from pathlib import Path
from lab.comfyui import start
start(Path(sys.argv[1]))
from comfy_extras.nodes_photomaker import PhotoMakerIDEncoder
torch.manual_seed(0)
weights = {name: 0.02 * torch.randn(value.shape) for name, value in PhotoMakerIDEncoder().state_dict().items()}
weights |= {name: torch.ones_like(value) for name, value in weights.items() if "norm" in name and "weight" in name}
torch.save({"id_encoder": {name: value.half() for name, value in weights.items()}}, sys.argv[2])
"""


@pytest.mark.long
def test_photomakers_own_nodes_draw_beside_a_concept_of_sdxl(server, small, tmp_path):
    """Its whole model with random weights, and a small SDXL: minutes, and 3 GB on disk."""
    base, card = server.process.base, {"core_personalization.super_category": '"person"'}
    save_half(FAMILIES["sdxl"], base.checkpoints / "sdxl.safetensors")
    vectors = {"clip_l": 0.02 * torch.randn(1, 768), "clip_g": 0.02 * torch.randn(1, 1280)}
    save_file(vectors, base.embeddings / "my-face.safetensors", card)
    rival = base.path / "models" / "photomaker" / "photomaker-v1.bin"
    rival.parent.mkdir(parents=True)
    write_random(RANDOM_PHOTOMAKER, tmp_path, rival)
    workflow = opened(server, PHOTOMAKER, small)
    for node in of_type(workflow, "CheckpointLoaderSimple"):
        node["inputs"]["ckpt_name"] = "sdxl.safetensors"
    execution = server.client.submit(workflow)
    concept, photomaker = saved(server, workflow, execution)
    assert len(concept) == len(photomaker) == len(PROMPTS)
    assert not {file.read_bytes() for file in concept} & {file.read_bytes() for file in photomaker}
    file = server.process.output / "scorecards" / "PhotoMaker.json"
    assert {card["name"] for card in json.loads(file.read_text(encoding="utf-8"))["scorecards"]} == {
        "my-face", "PhotoMaker"
    }  # fmt: skip


RANDOM_KLEIN = """
import sys, torch
from pathlib import Path
from lab.comfyui import start
start(Path(sys.argv[1]))
import comfy.ops
from comfy.ldm.flux.model import Flux
from comfy.ldm.models.autoencoder import AutoencoderKL
from safetensors.torch import save_file
torch.manual_seed(0)
flux = Flux(dtype=torch.float32, operations=comfy.ops.disable_weight_init, in_channels=128, out_channels=128,
            vec_in_dim=None, context_in_dim=768, hidden_size=128, mlp_ratio=3.0, num_heads=1, depth=1,
            depth_single_blocks=1, axes_dim=[32] * 4, theta=2000, patch_size=1, qkv_bias=False, guidance_embed=False,
            txt_ids_dims=[3], global_modulation=True, mlp_silu_act=True, ops_bias=False)
encoder = {"double_z": True, "z_channels": 32, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
           "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
           "batch_norm_latent": True}
vae = AutoencoderKL(ddconfig=encoder, embed_dim=32, decoder_ddconfig={**encoder, "ch": 32})
for model, file in ((flux, sys.argv[2]), (vae, sys.argv[3])):
    weights = {name: 0.02 * torch.randn(value.shape) for name, value in model.state_dict().items()}
    for name in weights:
        if "norm" in name and not name.endswith("bias") or "running_var" in name:
            weights[name] = torch.ones_like(weights[name])
    Path(file).parent.mkdir(exist_ok=True)
    save_file(weights, file)
"""


@pytest.mark.long
def test_flux2_edits_a_photo_beside_a_concept(server, small, my_dog, tmp_path):
    """Its networks with random weights and fewer layers; ComfyUI's SD text encoder in place of its own, of 8 GB."""
    models = server.process.base.path / "models"
    files = [
        models / folder / name
        for folder, name in (("diffusion_models", "flux-2-klein-4b-fp8.safetensors"), ("vae", "flux2-vae.safetensors"))
    ]
    write_random(RANDOM_KLEIN, tmp_path, *files)
    workflow = opened(server, KLEIN, small)
    (encoder,) = (key for key, node in workflow.items() if node["class_type"] == "CLIPLoader")
    (checkpoint,) = (key for key, node in workflow.items() if node["class_type"] == "CheckpointLoaderSimple")
    del workflow[encoder]
    for node in workflow.values():
        node["inputs"] |= {name: [checkpoint, 1] for name, value in node["inputs"].items() if value == [encoder, 0]}
        node["inputs"] |= {name: 256 for name in ("width", "height") if node["inputs"].get(name) == 1024}
    (load,) = of_type(workflow, "CoReLoadConcept")
    load["inputs"]["file"] = f"embeddings/{my_dog}.safetensors"
    execution = server.client.submit(workflow)
    concept, edited = saved(server, workflow, execution)
    assert len(concept) == len(edited) == len(PROMPTS)
    assert len({file.read_bytes() for file in edited}) == len(PROMPTS), "each prompt has its own picture"
    cards = json.loads((server.process.output / "scorecards" / "FLUX.2-klein.json").read_text("utf-8"))["scorecards"]
    assert [card["name"] for card in cards] == [my_dog, "FLUX.2-klein"]
    assert cards[1]["prompts"] == [prompt.format("dog from image 1") for prompt in PROMPTS]
