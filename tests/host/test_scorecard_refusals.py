"""What "Personalization Scorecard" refuses, and what it does not do: use the network, keep models, change the host."""

from __future__ import annotations

import gc
import json
import math
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from families.scoring import GENERATED, MASKS, REFERENCES, execute, overall
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.usefixtures("undrawn")


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    (
        ({"references": []}, "references: got none"),
        ({"generated": []}, "generated: got none"),
        ({"generated": [torch.full((1, 16, 16, 3), math.nan)], "prompts": ["a cat"]}, "generated: picture 0 .*finite"),
        ({"references": [torch.full((1, 16, 16, 3), math.inf)]}, "references: picture 0 .*finite"),
        ({"references": [torch.ones(1, 16, 16, 5)]}, "references: picture 0 has 5 channels"),
        ({"reference_masks": MASKS["reference_masks"][:2]}, "reference_masks: got 2 for 3 pictures"),
        ({"reference_masks": [torch.ones(1, 9, 9)] * 3}, "reference_masks: mask 0 is"),
        ({"reference_masks": [torch.zeros(1, *p.shape[1:3]) for p in REFERENCES]}, "reference_masks: mask 0 is empty"),
        ({"reference_masks": [m * math.nan for m in MASKS["reference_masks"]]}, "reference_masks: mask 0 .*finite"),
        ({**MASKS, "generated_masks": [torch.ones(1, 9, 9)] * 7}, "generated_masks: mask 0 is"),
        ({"generated_masks": MASKS["generated_masks"]}, "generated_masks: connected without reference_masks"),
        ({"prompts": []}, "prompts: got none"),
        ({"prompts": [" "]}, "prompts: got none"),
        ({"prompts": ["a cat", " "]}, "prompts: prompt 1 is empty"),
        ({"prompts": ["a", "b"]}, "prompts: got 2 for 7 pictures in 7 batches"),
        ({"prompts": ["embedding:my-cat"], "super_category": ""}, "prompts: .*super_category"),
        ({"clip_model": " "}, "clip_model: it is empty"),
        ({"clip_model": "x" * 5000}, "clip_model: 'x{199}… is not on this machine; switch allow_downloads on"),
        (
            {"clip_model": "no-such/model"},
            "clip_model: 'no-such/model' is not on this machine; switch allow_downloads on",
        ),
        ({"dino_model": "no-such-model"}, "dino_model: .*allow_downloads"),
        ({"scorecard_name": "../mine"}, "scorecard_name"),
        ({"batch_size": 0}, "batch_size: 0 is out of range"),
        ({"compare_with": ["{}"]}, "compare_with: the text is no scorecard"),
        ({"compare_with": ["a table"]}, "compare_with: the text is no scorecard"),
    ),
)
def test_bad_input_is_refused_with_its_name(vision_models, scorecards, change, message):
    with pytest.raises(ValueError, match=message):
        execute(vision_models, **change)
    assert not list(scorecards.glob("*"))


def test_a_model_of_another_kind_or_without_weights_is_refused(vision_models, tmp_path):
    with pytest.raises(ValueError, match=r"clip_model: .* is of type 'vit'"):
        execute(vision_models, clip_model=vision_models["dino"])
    with pytest.raises(ValueError, match=r"dino_model: .* is of type 'clip'"):
        execute(vision_models, dino_model=vision_models["clip"])
    source = Path(vision_models["dino"])
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    with pytest.raises(ValueError, match=r"dino_model: .* model.safetensors"):
        execute(vision_models, dino_model=str(tmp_path))
    weights = load_file(source / "model.safetensors")
    lost = next(name for name in weights if "layernorm" in name)
    save_file(
        {name: weight for name, weight in weights.items() if name != lost},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ValueError, match=r"dino_model: .* lack 1 tensors"):
        execute(vision_models, dino_model=str(tmp_path))


def test_a_cached_model_in_another_format_is_not_called_missing(vision_models, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--somebody--dino"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc", encoding="ascii")
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json"):
        (snapshot / name).write_bytes((Path(vision_models["dino"]) / name).read_bytes())
    (snapshot / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ValueError, match=r"'somebody/dino' cannot be loaded: .*model.safetensors \(no other format\)"):
        execute(vision_models, dino_model="somebody/dino")
    (snapshot / "model.safetensors").write_bytes((Path(vision_models["dino"]) / "model.safetensors").read_bytes())
    assert overall(execute(vision_models, dino_model="somebody/dino")) == overall(execute(vision_models))


def test_code_that_lies_beside_a_model_is_not_run(vision_models, tmp_path):
    marker = tmp_path / "it-ran"
    (tmp_path / "theirs.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(marker)!r}).touch()\n"
        "from transformers import PretrainedConfig\n"
        "class Config(PretrainedConfig):\n"
        "    model_type = 'theirs'\n",
        encoding="utf-8",
    )
    config = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="dino_model"):
        execute(vision_models, dino_model=str(tmp_path))
    assert not marker.exists()


def test_a_model_that_gives_nan_is_refused(vision_models, tmp_path):
    for file in Path(vision_models["dino"]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: weight * math.nan for name, weight in weights.items()}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ValueError, match=r"dino_model: .* not finite"):
        execute(vision_models, dino_model=str(tmp_path))


# The network, the host, and what is written


@pytest.fixture
def connections(monkeypatch) -> list[Any]:
    """Sockets are closed; every attempt is kept."""
    tried: list[Any] = []

    def refuse(*where: Any, **_: Any) -> Any:
        tried.append(where)
        raise OSError("no network in this test")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


def test_nothing_uses_the_network_unless_allowed(vision_models, connections):
    execute(vision_models, **MASKS)
    execute(vision_models, dino_model=vision_models["dinov2"])
    with pytest.raises(ValueError, match="allow_downloads"):
        execute(vision_models, clip_model="openai/clip-vit-base-patch32")
    assert connections == []


def test_folders_need_no_network_even_when_allowed(vision_models, connections):
    execute(vision_models, allow_downloads=True)
    assert connections == []


def test_allowed_downloads_are_tried(vision_models, connections, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between attempts
    with pytest.raises(ValueError, match=r"clip_model: .*check the id and the network"):
        execute(vision_models, clip_model="openai/clip-vit-base-patch32", allow_downloads=True)
    assert connections


def test_a_folder_inside_comfyuis_models_is_found_by_its_name(vision_models):
    import folder_paths

    place = Path(folder_paths.models_dir) / "clip_vision" / "small-clip"
    place.mkdir(parents=True, exist_ok=True)
    for file in Path(vision_models["clip"]).iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    assert overall(execute(vision_models, clip_model="clip_vision/small-clip")) == overall(execute(vision_models))


def test_the_host_holds_the_models_only_while_they_are_used(vision_models):
    import comfy.model_management as management
    from core_personalization.nodes.host.models.vision_models import DinoEncoder, VisionSource

    with torch.inference_mode():
        encoder = DinoEncoder(VisionSource("dino_model", vision_models["dino"]))
        encoder.pictures([torch.zeros(3, 16, 16)])
    assert any(type(patcher.model).__name__ == "_Network" for patcher in management.loaded_models())
    management.unload_all_models()
    encoder.pictures([torch.zeros(3, 16, 16)])  # the host took it away; it is loaded again
    del encoder
    gc.collect()
    management.cleanup_models()
    assert not any(type(patcher.model).__name__ == "_Network" for patcher in management.loaded_models())


def test_the_global_generator_and_the_pictures_are_left_alone(vision_models):
    before, copies = torch.random.get_rng_state(), [picture.clone() for picture in (*REFERENCES, *GENERATED)]
    execute(vision_models, **MASKS)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(copies, (*REFERENCES, *GENERATED), strict=True))


def test_cancel_stops_between_passes_and_writes_nothing(vision_models, scorecards, monkeypatch):
    import comfy.model_management as management
    from core_personalization.nodes.host.models.vision_models import VisionEncoder

    passes = []
    encode = VisionEncoder.pictures

    def cancel_after_two(self, batch):
        passes.append(len(batch))
        if len(passes) == 2:
            management.interrupt_current_processing(True)
        return encode(self, batch)

    monkeypatch.setattr(VisionEncoder, "pictures", cancel_after_two)
    with pytest.raises(management.InterruptProcessingException):
        execute(vision_models, batch_size=2)
    assert passes == [2, 2]
    assert not list(scorecards.glob("*"))


def test_progress_reaches_the_end(vision_models, monkeypatch):
    from core_personalization.nodes.evaluation import scoring as scorecard_run

    steps = []
    monkeypatch.setattr(scorecard_run.RunProgress, "update", lambda self, step, text: steps.append((step, text)))
    execute(vision_models, **MASKS, batch_size=4)
    assert [step for step, _ in steps] == sorted({step for step, _ in steps})
    # 7 generated + 5 of their foregrounds, twice; 3 references, twice, and in two segments
    assert steps[-1][0] == 7 + 5 + 5 + 3 * 4
    assert {text for _, text in steps} >= {"CLIP, generated pictures", "DINO, generated foregrounds"}


def test_hundreds_of_pictures_are_cut_and_encoded_pass_by_pass(vision_models, monkeypatch):
    """No more than a pass of them is prepared at a time, and the progress follows."""
    from core_personalization.nodes.evaluation import scoring as scorecard_run
    from core_personalization.nodes.host.models.vision_models import VisionEncoder

    count, size = 300, 64
    made, passes, steps = [], [], []
    picture, encode = scorecard_run._picture, VisionEncoder.pictures
    monkeypatch.setattr(scorecard_run, "_picture", lambda *given: made.append(1) or picture(*given))
    monkeypatch.setattr(
        VisionEncoder, "pictures", lambda self, batch: passes.append((len(made), len(batch))) or encode(self, batch)
    )
    monkeypatch.setattr(scorecard_run.RunProgress, "update", lambda self, step, text: steps.append(step))
    generated = [torch.rand(count, 16, 16, 3, generator=torch.Generator().manual_seed(0))]
    outputs = execute(vision_models, REFERENCES[:1], generated, ["a cat"], dino_model="", batch_size=size)
    assert [batch for _, batch in passes] == [64, 64, 64, 64, 44, 1]
    assert [before for before, _ in passes] == steps == [64, 128, 192, 256, 300, 301]
    assert len(json.loads(outputs["scores"])["scorecards"][0]["pictures"]["clip_t"]) == count
