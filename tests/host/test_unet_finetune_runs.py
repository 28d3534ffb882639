"""Runs of "U-Net Identity Finetune" that are repeated, cancelled, resumed, refused or many."""

from __future__ import annotations

import gc
from pathlib import Path

import psutil
import pytest
import torch
from core_personalization.core_ops.training.training_loop import NonFiniteLoss
from families.finetuning import a_concept, execute, finetune_run, pictures
from families.hashing import weights_hash
from families.load import load_family
from families.stopping import cancel_after
from safetensors.torch import load_file

FILE = 5
"""Of the outputs."""
SMALL = {"scope": "keys and values of cross-attention", "learning_rate": 1e-3}
FORMS = [
    SMALL,
    SMALL | {"form": "LoRA", "optimizer": "Adafactor", "train_embedding": True},
    SMALL | {"alignment_mean": 2.0, "caption_template": "a {} teddy bear", "class_images": pictures(2, seed=8)},
    SMALL
    | {"form": "LoRA", "optimizer": "Prodigy", "learning_rate": 1.0, "schedule": "cosine", "warmup": 0.3}
    | {"min_snr_gamma": 5.0, "ema_decay": 0.9, "caption_dropout": 0.4, "weight_decay": 0.1},
    SMALL | {"form": "LoRA", "train_embedding": True, "semantic_weight": 1.0},
    SMALL | {"form": "LoRA", "dropout": 0.3, "gradient_checkpointing": True},
    SMALL | {"form": "DoRA", "dropout": 0.3, "train_text_encoder": True, "class_images": pictures(2, seed=8)},
    SMALL | {"form": "T-LoRA", "least_rank": 0.5, "gradient_checkpointing": True},
    SMALL | {"train_text_encoder": True, "train_embedding": True, "embedding_rate": 1e-2},
]


@pytest.fixture(scope="module")
def sd1():
    import folder_paths

    return load_family("sd1", embedding_directory=folder_paths.get_folder_paths("embeddings")[0])


@pytest.mark.parametrize(
    "given",
    FORMS,
    ids=["full", "lora", "aligned", "controls", "semantic", "dropout", "text-dora", "t-lora", "text-full"],
)
def test_repeated_and_resumed_runs_are_bit_for_bit_the_same(sd1, monkeypatch, given):
    from core_personalization.nodes.host.run_control import Cancelled

    before = weights_hash(sd1)
    first, again = (execute(sd1, name=name, steps=3, **given) for name in ("first", "again"))
    folder = Path(first[FILE]).parent
    (folder / "cancelled.safetensors").unlink(missing_ok=True)  # of another form
    with monkeypatch.context() as patch:
        cancel_after(patch, 2)
        with pytest.raises(Cancelled):
            execute(sd1, name="cancelled", steps=3, start="anew", **given)
    assert weights_hash(sd1) == before
    assert (folder / "cancelled-steps" / "cancelled-step2.safetensors").is_file()
    assert not (folder / "cancelled.safetensors").exists()
    resumed = execute(sd1, name="cancelled", steps=3, **given)
    expected = load_file(first[FILE])
    for path in (again[FILE], resumed[FILE]):
        tensors = load_file(path)
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert resumed[2] == first[2]


@pytest.mark.parametrize("family", ["sd2", "sd2_v", "sdxl"])
def test_the_other_families_go_on_from_a_state_bit_for_bit(family):
    models = load_family(family)
    given = SMALL | {"form": "T-LoRA", "least_rank": 0.5, "train_text_encoder": True, "dropout": 0.3}
    whole, half = (finetune_run(models, **given, steps=2) for _ in range(2))
    next(iter(half.loop))
    rest = finetune_run(models, **given, steps=2)
    rest.loop.load_state_dict(half.loop.state_dict())
    expected, found = [list(run.loop) and run.loop.recipe.parameters for run in (whole, rest)]
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    "given",
    [
        {"alignment_mean": 2.0, "caption_template": "a {} teddy bear", "train_embedding": True},
        {"form": "LoRA", "gradient_checkpointing": True},
    ],
)
def test_fused_backward_learns_the_same_also_once_resumed(sd1, monkeypatch, given):
    from core_personalization.nodes.host.run_control import Cancelled

    given = {"steps": 2, **given}
    plain = execute(sd1, name="plain", **given)
    with monkeypatch.context() as patch:
        cancel_after(patch, 1)
        with pytest.raises(Cancelled):
            execute(sd1, name="half", start="anew", **given)
    fused = execute(sd1, name="half", fused_backward=True, **given)
    mine, other = load_file(fused[FILE]), load_file(plain[FILE])
    assert all(torch.equal(mine[name], other[name]) for name in other)
    assert fused[2]["loss"] == plain[2]["loss"]


def test_another_seed_learns_other_weights(sd1):
    first, other = (load_file(execute(sd1, name="seeded", seed=seed, **SMALL)[FILE]) for seed in (1, 2))
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_an_error_keeps_what_was_learned_and_the_host_as_it_was(sd1, monkeypatch):
    from core_personalization.core_ops.training.training_data import NoisedBatch

    loss, calls = NoisedBatch.diffusion_loss, []

    def becomes_nan(batch, *arguments):
        calls.extend([None] * torch.is_grad_enabled())  # of training, not of the steady loss
        return loss(batch, *arguments) * (float("nan") if len(calls) == 3 else 1)

    before = weights_hash(sd1)
    monkeypatch.setattr(NoisedBatch, "diffusion_loss", becomes_nan)  # the first call measures memory
    with pytest.raises(NonFiniteLoss, match=r"step 2: diffusion .*learning_rate"):
        execute(sd1, name="nan", steps=3, **SMALL)
    assert weights_hash(sd1) == before
    import folder_paths

    unets = Path(folder_paths.get_output_directory()) / "diffusion_models"
    assert (unets / "nan-steps" / "nan-step1.safetensors").is_file() and not (unets / "nan.safetensors").exists()


def test_what_cannot_end_is_not_begun(sd1, monkeypatch):
    """The memory that a step needs is measured before the first one."""
    import comfy.model_management
    from core_personalization.nodes.training.session import Session

    before = weights_hash(sd1)
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_, **__: 50 * 2**20)
    monkeypatch.setattr(Session, "train", lambda run: pytest.fail("training was started"))
    with pytest.raises(ValueError, match=r"memory: .*GiB.*gradient_checkpointing"):
        execute(sd1, name="too-large")
    assert weights_hash(sd1) == before


REFUSED = [
    ({"name": "../evil"}, "name: '../evil' cannot be used"),
    ({"steps": 0}, "steps: 0"),
    ({"rank": 0}, "rank: 0"),
    ({"scope": "text encoder"}, "scope: 'text encoder'"),
    ({"form": "LoRA", "save": "whole U-Net"}, "save: 'whole U-Net' needs form"),
    ({"class_caption": "a {}"}, "class_caption: it holds {}"),
    ({"class_images": [torch.zeros(0, 64, 64, 3)]}, "class_images: got none"),
    ({"caption_template": "a photo"}, "caption_template: .* has {} 0 times"),
    ({"alignment_mean": 2.0}, "alignment_mean: the regularizer needs the super-category 'teddy bear'"),
    ({"optimizer": "AdamW 8-bit"}, "optimizer: .*bitsandbytes.*Adafactor"),
    ({"precision": "fp16"}, "precision: fp16 needs a GPU"),
    ({"fused_backward": True, "optimizer": "Prodigy"}, "fused_backward: Prodigy"),
    ({"train_text_encoder": True, "optimizer": "Prodigy"}, "text_encoder_rate: Prodigy finds one rate .* set it to 0"),
    ({"caption_dropout": 0.1, "alignment_mean": 2.0}, "caption_dropout: AttnDreamBooth"),
    ({"fused_backward": True, "gradient_accumulation": 2}, "fused_backward: .*gradient_accumulation"),
    ({"fused_backward": True, "max_gradient_norm": 1.0}, "fused_backward: .*max_gradient_norm"),
    ({"fused_backward": True, "class_images": pictures(1)}, "fused_backward: class_images"),
    ({"fused_backward": True, "precision": "fp16"}, "fused_backward: fp16 .*choose precision bf16 or fp32"),
    ({"preview_prompts": "a dog"}, "preview_prompts: .* has {} 0 times"),
    ({"start": "before"}, "start: 'before' is not one of"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_bad_input_is_refused_before_training(sd1, monkeypatch, given, message):
    from core_personalization.nodes.finetune import unet_identity_finetune

    monkeypatch.setattr(unet_identity_finetune, "finetune_unet", lambda *_: pytest.fail("training was started"))
    with pytest.raises(ValueError, match=message):
        execute(sd1, **given)


def test_a_concept_of_another_base_model_is_refused(sd1):
    message = "is an embedding for clip_h of width 1024, this model needs clip_l of width 768"
    with pytest.raises(ValueError, match=message):
        execute(sd1, a_concept(load_family("sd2")))


def test_a_taken_name_is_refused_unless_overwrite_is_on(sd1):
    execute(sd1, name="taken", steps=1, **SMALL)
    with pytest.raises(ValueError, match=r"name: a finetune 'taken' exists already"):
        execute(sd1, name="taken", steps=2, overwrite=False, **SMALL)


def test_ten_trainings_leave_memory_where_it_was(sd1):
    process = psutil.Process()

    def resident(runs: int) -> int:
        for _ in range(runs):
            execute(sd1, name="repeated", steps=1, **SMALL)
        gc.collect()
        return process.memory_info().rss

    settled = resident(2)
    assert resident(10) < 1.05 * settled
