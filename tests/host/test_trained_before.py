"""What was trained before is used again: what is finished is loaded, what stopped goes on, the rest is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import embedding, finetuning
from families.concepts import make_concept
from families.finetuning import prediction
from families.hashing import weights_hash
from families.stopping import cancel_after
from safetensors.torch import load_file

GIVEN = {"method": "Textual Inversion", "batch_size": 1, "steps": 3, "overwrite": False, "rescale_to": 0.0}
KEYS_VALUES = "keys and values of cross-attention"
FINETUNE = {"scope": KEYS_VALUES, "learning_rate": 1e-3, "batch_size": 1, "overwrite": False}


def train(models: Any, name: str, **given: Any) -> tuple[Any, ...]:
    return embedding.execute(models, concept_name=name, **{**GIVEN, **given})


def finetune(models: Any, name: str, **given: Any) -> tuple[Any, ...]:
    return finetuning.execute(models, name=name, **{**FINETUNE, **given})


def written(name: str) -> Path:
    from core_personalization.nodes.files.concept_files import embedding_path

    return embedding_path(name)


def state_of(name: str) -> Path:
    from core_personalization.nodes.files.concept_files import state_path

    return state_path(name)


def stopped(models: Any, name: str, after: int = 2, run: Any = train, **given: Any) -> None:
    from core_personalization.nodes.host.run_control import Cancelled

    with pytest.MonkeyPatch.context() as patch:
        cancel_after(patch, after)
        with pytest.raises(Cancelled):
            run(models, name, **given)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the nodes say, line by line."""
    from core_personalization.nodes.embedding import train_embedding
    from core_personalization.nodes.training import session

    lines: list[str] = []

    class Noted(train_embedding.ui.PreviewText):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            lines.extend(text.split("\n"))

    monkeypatch.setattr(train_embedding.ui, "PreviewText", Noted)
    monkeypatch.setattr(session, "show_text", lambda text, node_id: lines.append(text))
    return lines


def a_lora(name: str) -> Path:
    from core_personalization.nodes.files.unet_files import new_file_path

    return new_file_path("loras", name)


@pytest.mark.parametrize(
    ("run", "node", "file"),
    [
        (train, "embedding.train_embedding.TrainEmbedding", written),
        (partial(finetune, form="LoRA"), "finetune.unet_identity_finetune.UNetIdentityFinetune", a_lora),
    ],
)
def test_what_a_training_left_and_is_gone_is_not_taken_from_the_hosts_cache(sd1, steps, run, node, file):
    module, _, kind = node.rpartition(".")
    node = getattr(import_module(f"core_personalization.nodes.{module}"), kind)

    def key() -> int:
        return node.fingerprint_inputs(name=["gone"], concept_name=["gone"], steps=[3])

    before = key()
    run(sd1, "gone")
    assert key() == before, "its own work is no change"
    file("gone").unlink()
    after = key()
    assert after == key() != before
    made = len(steps)
    run(sd1, "gone")
    assert key() == after
    assert file("gone").is_file() and len(steps) == 2 * made


def test_a_finished_embedding_is_loaded(sd1, steps, said, monkeypatch):
    first = train(sd1, "once", preview_every=2)
    assert steps == [1, 2, 3]
    from core_personalization.nodes.embedding import embedding_training

    monkeypatch.setattr(embedding_training, "ready_to_train", lambda *_: pytest.fail("something heavy was begun"))
    before = weights_hash(sd1)
    # What decides nothing may differ: what is looked at on the way, memory, and what only other methods read.
    again = train(sd1, "once", preview_every=1, gradient_checkpointing=True, save_every=7, alignment_mean=3.0)
    assert weights_hash(sd1) == before
    assert torch.equal(again[0].vectors["clip_l"], first[0].vectors["clip_l"])
    assert again[0].path == first[0].path and again[1] == first[1] == "embedding:once"
    assert again[2].keys() == first[2].keys()
    assert again[2]["loss"] == pytest.approx(first[2]["loss"], rel=1e-4)
    assert (again[3] - first[3]).abs().mean() < 0.06, "the preview is that of the training, as a JPEG"
    assert torch.equal(again[4], first[4]), "so is the chart"
    assert "once: trained before with the same pictures and settings; loaded." in said


DIFFERENT = [
    ({"steps": 4}, r"trained with steps 3 \(now 4\); choose another name, or switch overwrite on to train anew"),
    ({"learning_rate": 1e-3, "seed": 5}, r"trained with learning_rate 0.005 \(now 0.001\) and seed 0 \(now 5\);"),
    ({"images": embedding.pictures(2, seed=9)}, r"trained with other pictures;"),
    ({"masks": [torch.ones(1, 64, 64).tril()] * 2}, r"trained with other pictures;"),
    ({"captions": ["a {}", "one {}"]}, r"trained with other captions;"),
    ({"method": "AttnDreamBooth stage 1"}, r"trained with method 'Textual Inversion' \(now 'AttnDreamBooth stage 1'\)"),
    ({"resolution": 32}, r"trained with resolution 64 \(now 32\);"),
    ({"initial_words": "a very long text about " * 3}, r"trained with another initial_words;"),
]


@pytest.mark.parametrize(("given", "message"), DIFFERENT)
def test_what_differs_is_named(sd1, steps, given, message):
    if not written("differing").exists():
        train(sd1, "differing")
    steps.clear()
    with pytest.raises(ValueError, match=f"^concept_name: an embedding 'differing' exists already at .*{message}"):
        train(sd1, "differing", **given)
    assert steps == []


@contextmanager
def merged(model: Any, key: str) -> Iterator[None]:
    """As if a LoRA had been merged into the file: only a matrix is another."""
    weight = model.model.state_dict()[key]
    before = weight.clone()
    with torch.inference_mode():
        weight += 0.01
    yield
    with torch.inference_mode():
        weight.copy_(before)


def test_another_model_and_a_lora_on_it_are_named(sd1):
    from comfy_extras.nodes_freelunch import FreeU
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    train(sd1, "on-a-model")
    model, clip, vae = sd1
    patched = model.clone()
    key = next(name for name in model.model.state_dict() if name.endswith("attn2.to_k.weight"))
    with torch.inference_mode():
        patched.add_patches({key: (torch.ones_like(model.model.state_dict()[key]),)}, 1.0)
    with pytest.raises(ValueError, match="trained with another model;"):
        train((patched, clip, vae), "on-a-model")
    with merged(model, key), pytest.raises(ValueError, match="trained with another model;"):
        train(sd1, "on-a-model")
    sampled = ModelSamplingDiscrete().patch(model, "eps", zsnr=True)[0]
    freed = FreeU.execute(model, b1=1.1, b2=1.2, s1=0.9, s2=0.2).args[0]
    for changed in (sampled, freed):
        with pytest.raises(ValueError, match="trained with another model;"):
            train((changed, clip, vae), "on-a-model")
    skipping = clip.clone()
    skipping.clip_layer(-2)
    with pytest.raises(ValueError, match="trained with another text encoder;"):
        train((model, skipping, vae), "on-a-model")
    train((model.clone(), clip.clone(), vae), "on-a-model")


def test_a_state_that_memory_has_no_room_for_is_not_called_damaged(sd1, steps, monkeypatch):
    from core_personalization.nodes.files import safe_files

    stopped(sd1, "large", save_every=1)
    with monkeypatch.context() as small:
        small.setattr(safe_files.psutil, "virtual_memory", lambda: SimpleNamespace(available=10))
        with pytest.raises(
            ValueError, match=r"start: what was kept is whole, but .*GiB of memory are free: close other programs"
        ):
            train(sd1, "large", save_every=1)
    train(sd1, "large", save_every=1)
    assert steps == [1, 2, 3]


def test_a_rate_of_its_own_may_come_later(sd1):
    along = {"train_embedding": True, "train_text_encoder": True}
    given = {"concept": make_concept(sd1, "plain"), "form": "LoRA", "scope": "whole U-Net", "steps": 3, **along}
    stopped(sd1, "rated", run=finetune, **given)
    finetune(sd1, "rated", embedding_rate=1e-3, **given)


def test_overwrite_trains_anew(sd1, steps):
    train(sd1, "twice", save_every=1)
    train(sd1, "twice", save_every=1, overwrite=True)
    train(sd1, "twice", save_every=1, overwrite=True, seed=3)
    assert steps == [1, 2, 3] * 3


def test_how_a_training_begins_that_replaces_another_is_said_before_it(sd1, said, steps):
    train(sd1, "replaced", save_every=1)

    def noted(**given: Any) -> str:
        said.clear()
        train(sd1, "replaced", **{"save_every": 1, "overwrite": True, **given})
        (note,) = (line for line in said if line.startswith("Note: replaced is replaced"))
        return note

    assert ": it begins anew (that was made with learning_rate 0.005 (now 0.001))." in noted(learning_rate=1e-3)
    assert ": it goes on after step 3." in noted(learning_rate=1e-3, steps=4)
    assert ": it begins anew." in noted(learning_rate=1e-3, steps=4)


def test_more_steps_go_on_from_the_end(sd1, steps):
    train(sd1, "longer", save_every=2)
    train(sd1, "longer", save_every=2, steps=5, overwrite=True)
    assert steps == [1, 2, 3, 4, 5]


def test_a_file_of_another_make_is_not_taken_for_one_of_ours(sd1, embeddings):
    from core_personalization.nodes.files.concept_files import save_embedding

    save_embedding("foreign", {"clip_l": torch.zeros(1, 768)}, _card(), overwrite=True)
    with pytest.raises(ValueError, match=r"'foreign' exists already .* does not say what it was trained with"):
        train(sd1, "foreign")


def _card() -> dict[str, Any]:
    return {"architecture": "a", "base_model": "b", "resolution": 64, "phrase": "embedding:foreign", "steps_done": 1}


def test_what_stopped_goes_on_and_says_so(sd1, steps, said):
    stopped(sd1, "goes-on")
    whole = train(sd1, "goes-on")
    assert steps == [1, 2, 3]
    assert "Goes on from step 2 of 3." in said
    assert any("3 steps, 2 of them before it stopped" in line for line in said)
    train(sd1, "never-stopped")
    assert torch.equal(load_file(whole[0].path)["emb_params"], train(sd1, "never-stopped")[0].vectors["clip_l"])
    assert not state_of("goes-on").exists(), "the end needs it no more"


def test_anew_starts_over(sd1, steps):
    stopped(sd1, "over")
    train(sd1, "over", start="anew", seed=4)
    assert steps == [1, 2, 1, 2, 3]


def test_what_stopped_and_does_not_match_is_not_replaced(sd1, steps):
    stopped(sd1, "kept", after=2)
    state = state_of("kept").read_bytes()
    message = (
        r"^start: a training under 'kept' stopped after step 2 and was kept; it was made with seed 0 \(now 5\) and "
        r"other pictures\. Set that back to go on from there, or choose 'anew' to replace it\."
    )
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=message):
            train(sd1, "kept", seed=5, images=embedding.pictures(2, seed=9), overwrite=overwrite)
    with pytest.raises(ValueError, match=r"^start: .* stopped after step 2 .*; set steps to that or more, or choose"):
        train(sd1, "kept", steps=1)
    assert steps == [1, 2]
    assert state_of("kept").read_bytes() == state


@pytest.mark.parametrize("form", ["full weights", "LoRA"])
def test_a_finished_finetune_is_loaded(sd1, steps, said, form):
    given = {"form": form, "train_embedding": True, "save": "whole U-Net and LoRA" if form != "LoRA" else "as trained"}
    first = finetune(sd1, f"tuned-{form[:4]}", **given)
    before = weights_hash(sd1)
    steps.clear()
    again = finetune(sd1, f"tuned-{form[:4]}", **given)
    assert steps == [] and weights_hash(sd1) == before
    assert torch.equal(prediction(again[0]), prediction(first[0]))
    assert not torch.equal(prediction(again[0]), prediction(sd1[0]))
    assert again[1].keys() == first[1].keys() and all(torch.equal(again[1][key], first[1][key]) for key in first[1])
    assert again[1].card["base_model_fingerprint"] == first[1].card["base_model_fingerprint"]
    assert again[5] == first[5]
    assert again[6] == first[6].__class__(**{**vars(first[6]), "vectors": again[6].vectors})
    assert all(torch.equal(again[6].vectors[name], first[6].vectors[name]) for name in first[6].vectors)
    assert any("trained before with the same pictures and settings; loaded." in line for line in said)


def test_a_loaded_model_is_the_same_one_to_what_is_trained_on_it(sd1, steps):
    """Also where the training left some weights as they were."""
    from core_personalization.nodes.host.models.host_models import HostModels

    given = {"form": "full weights", "scope": "whole U-Net", "save": "whole U-Net", "learning_rate": 1e-9}
    first, again = (finetune(sd1, "unmoved", **given) for _ in range(2))
    assert steps == [1, 2]
    digests = [HostModels(each[0], *sd1[1:]).digests() for each in (first, again)]
    assert digests[0] == digests[1]


def test_the_model_of_an_extracted_lora_is_the_same_when_loaded(sd1, steps):
    first, again = (finetune(sd1, "extracted", save="LoRA", scope="cross-attention layers") for _ in range(2))
    assert steps == [1, 2]
    assert torch.equal(prediction(again[0]), prediction(first[0]))


def test_a_finetune_without_all_its_files_is_not_loaded(sd1):
    finetune(sd1, "half", train_embedding=True)
    written("half").unlink()
    with pytest.raises(
        ValueError, match=r"^name: a finetune 'half' exists already at .*, but .*half\.safetensors is not"
    ):
        finetune(sd1, "half", train_embedding=True)


def test_what_a_finetune_differs_in_is_named(sd1):
    finetune(sd1, "other")
    concept = finetuning.a_concept(sd1)
    for name, given in {"another concept": {"concept": concept}, "other class images": {}}.items():
        concept.vectors["clip_l"].add_(1)
        class_images = finetuning.pictures(1) if name == "other class images" else None
        with pytest.raises(ValueError, match=f"'other' exists already .*trained with (other captions and )?.*{name}"):
            finetune(sd1, "other", class_images=class_images, **given)


def test_a_finetune_that_stopped_goes_on_or_is_refused(sd1, steps):
    stopped(sd1, "tuned-on", after=1, run=finetune, form="LoRA")
    with pytest.raises(ValueError, match=r"^start: .*it was made with rank 4 \(now 2\)\."):
        finetune(sd1, "tuned-on", form="LoRA", rank=2)
    finetune(sd1, "tuned-on", form="LoRA")
    assert steps == [1, 2]


def test_cleared_steps_leave_the_result_alone(sd1, embeddings):
    given = {"save_every": 1, "preview_every": 2}
    train(sd1, "untidy", **given)
    names = {file.name for file in (embeddings / "untidy-steps").iterdir()}
    assert names == {"untidy-step2.jpg", *(f"untidy-step{step}.safetensors" for step in (1, 2, 3))}
    assert state_of("untidy").exists()
    (embeddings / "tidy-steps").mkdir()
    (embeddings / "tidy-steps" / "notes.txt").write_text("mine")
    train(sd1, "tidy", clear_steps=True, **given)
    assert [file.name for file in (embeddings / "tidy-steps").iterdir()] == ["notes.txt"]
    assert not state_of("tidy").exists()
    assert written("tidy").exists() and (embeddings / "tidy.preview.jpg").exists()
    (embeddings / "tidy-steps" / "notes.txt").unlink()
    finetune(sd1, "tidy-unet", clear_steps=True, train_embedding=True, save_every=1)
    for folder in (embeddings, Path(finetune(sd1, "tidy-unet", train_embedding=True)[5]).parent):
        assert not (folder / "tidy-unet-steps").exists()


def test_prompts_and_load_concept_know_saved_steps(sd1):
    from core_personalization.nodes.files.concept_bundles import concept_file_names
    from families.embedding import host_conditioning

    train(sd1, "stepwise", save_every=1, learning_rate=0.1)
    one, three = (host_conditioning(sd1[1], f"a embedding:stepwise-steps/stepwise-step{step}") for step in (1, 3))
    assert not torch.equal(one, three) and not torch.equal(one, host_conditioning(sd1[1], "a"))
    assert torch.equal(three, host_conditioning(sd1[1], "a embedding:stepwise"))
    assert "embeddings/stepwise-steps/stepwise-step1.safetensors" in concept_file_names()


@pytest.mark.parametrize("run", [train, finetune])
def test_another_embedding_that_captions_name_is_another_training(sd1, run, steps):
    """As where they name a second concept: what is learned beside it depends on its vectors."""
    from core_personalization.nodes.files.concept_files import save_embedding

    given = {"images": embedding.pictures(2), "captions": ["a {} and embedding:beside"] * 2, "steps": 1}
    beside = make_concept(sd1, "beside")
    for _ in range(2):
        run(sd1, "with-beside", **given)
        assert len(steps) == 1
    others = {name: 2 * vectors for name, vectors in beside.vectors.items()}
    save_embedding("beside", others, _card(), overwrite=True)
    with pytest.raises(ValueError, match="trained with other named embeddings;"):
        run(sd1, "with-beside", **given)


def test_one_that_practice_prompts_name_stands_in_their_references_too(sd1):
    make_concept(sd1, "beside")
    given = {"prompt_set": "own", "own_prompts": "a {} and embedding:beside in the snow"}
    run = embedding.embedding_run(sd1, method="CoRe", **given)
    (pair,) = run.checked.prompts
    concept, reference = (sum(isinstance(token, torch.Tensor) for token in row.tokens["clip_l"]) for row in
                          (pair.concept, pair.reference))  # fmt: skip
    assert concept == reference == 2
    assert "named embeddings" in run.checked.made_of.parts
    assert {"context_embedding", "context_attention"} <= set(next(iter(run.loop)).terms)
