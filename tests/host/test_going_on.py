"""A stopped training goes on with another rate or batch, and with its pictures in another order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import finetuning
from families.concepts import load, make_lora
from families.embedding import execute, pictures
from families.stopping import cancel_after
from safetensors.torch import save_file

GIVEN = {"method": "Textual Inversion", "batch_size": 1, "steps": 3, "overwrite": False}
CAPTIONS = ["a {} one", "a {} two", "a {} three"]


def stopped(models: Any, name: str, **given: Any) -> None:
    from core_personalization.nodes.host.run_control import Cancelled

    with pytest.MonkeyPatch.context() as patch:
        cancel_after(patch, 1)
        with pytest.raises(Cancelled):
            execute(models, concept_name=name, **{**GIVEN, **given})


def card_of(name: str) -> dict[str, Any]:
    from core_personalization.nodes.files.concept_files import embedding_path
    from core_personalization.nodes.files.file_metadata import read_card

    return dict(read_card(embedding_path(name)))


def test_a_training_goes_on_with_another_rate_batch_and_preview_and_its_card_says_so(sd1):
    stopped(sd1, "other-rate")
    given = GIVEN | {"learning_rate": 1e-4, "batch_size": 2, "preview_every": 2, "preview_prompts": "a red {}"}
    execute(sd1, concept_name="other-rate", **given)
    (said,) = card_of("other-rate")["went_on"]
    assert said == "after step 1, made with batch_size 1 (now 2) and learning_rate 0.005 (now 0.0001)"
    assert card_of("other-rate")["steps_done"] == 3


def test_the_steady_loss_goes_on_with_the_same_noised_pictures(sd1):
    """At a rate at which nothing is learned; of 4000 steps they are more than of 3."""
    given = {"learning_rate": 1e-7, "rescale_to": 0.0}
    stopped(sd1, "same-samples", **given, steps=4000)
    losses = execute(sd1, concept_name="same-samples", **{**GIVEN, **given, "batch_size": 2})[2]["steady_loss"]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-4) and len(losses) > 1


def test_another_seed_is_another_training(sd1):
    stopped(sd1, "other-seed")
    with pytest.raises(
        ValueError, match=r"start: .* stopped after step 1 .* made with seed 0 \(now 1\)\. Set that back"
    ):
        execute(sd1, concept_name="other-seed", **GIVEN, seed=1)


def test_pictures_are_known_by_what_they_show_and_not_by_their_order(sd1):
    images, masks = pictures(3), [torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    stopped(sd1, "order", images=images, masks=masks, captions=CAPTIONS)
    turned = {"images": images[::-1], "masks": masks[::-1], "captions": CAPTIONS[::-1]}
    for wrong, said in (("masks", "other pictures"), ("captions", "other captions")):
        with pytest.raises(ValueError, match=f"made with {said}"):
            execute(sd1, concept_name="order", **GIVEN, **{**turned, wrong: turned[wrong][::-1]})
    execute(sd1, concept_name="order", **GIVEN, **turned)
    assert card_of("order")["steps_done"] == 3


def test_what_an_earlier_version_kept_is_known():
    from core_personalization.nodes.training.kept_trainings import MadeOf

    now = MadeOf({}, {"pictures": "ordered set", "captions": "c s", "model": "sha also bfloat16 AAA="})
    assert MadeOf({}, {"pictures": "ordered", "captions": "c", "model": "sha"}).differences(now, set()) == []
    assert MadeOf({}, {"pictures": "set", "captions": "c", "model": "sha"}).differences(now, set()) == [
        "other pictures"
    ]


def vectors(width: int = 768) -> torch.Tensor:
    return 0.02 * torch.randn(2, width, generator=torch.Generator().manual_seed(8))


BARELY = {"learning_rate": 1e-7, "steps": 1, "method": "Textual Inversion", "rescale_to": 0.0}


@pytest.mark.parametrize("key", ["emb_params", "<cat>", "bundle_emb.further.string_to_param.*"])
def test_an_embedding_is_trained_further_whoever_made_it(sd1, embeddings, key):
    save_file({key: vectors().half()}, embeddings / "further.safetensors")
    try:
        loaded = load(sd1, "embeddings/further.safetensors", super_category="cat")[2]
        concept = execute(sd1, concept_name="went-further", **BARELY, start_from=loaded, vectors=2)[0]
        torch.testing.assert_close(concept.vectors["clip_l"], vectors().half().float(), atol=1e-6, rtol=0)
        assert "concept to start from" in card_of("went-further")["made_of"]
    finally:
        (embeddings / "further.safetensors").unlink()


def test_an_embedding_of_another_model_is_not_trained_further(sd1):
    from core_personalization.nodes.concept import Concept

    wide = Concept("wide", "cat", {"clip_h": vectors(1024)}, Path("wide.safetensors"))
    with pytest.raises(ValueError, match=r"start_from: 'wide' is an embedding for clip_h of width 1024"):
        execute(sd1, concept_name="wider", **BARELY, start_from=wide)


@pytest.fixture
def a_lora(sd1):
    """In output/loras, which core lists."""
    import folder_paths

    first = finetuning.execute(sd1, name="lora-once", form="LoRA", steps=2, learning_rate=1e-2)
    folder_paths.filename_list_cache.clear()
    return first


def test_a_lora_is_trained_further(sd1, a_lora, monkeypatch):
    given = {"form": "LoRA", "steps": 1, "learning_rate": 1e-9, "start_from": "lora-once.safetensors"}
    further = finetuning.execute(sd1, name="lora-further", alpha=3.0, **given)[1]
    assert a_lora[1].keys() == further.keys()
    for key, value in a_lora[1].items():
        torch.testing.assert_close(further[key], value, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="rank: the LoRA in start_from has 4; set rank to that"):
        finetuning.execute(sd1, name="lora-further-2", rank=8, **given)
    with pytest.raises(ValueError, match=r"scope: the LoRA in start_from also changes .*; choose a larger part"):
        finetuning.execute(sd1, name="lora-further-2", scope="keys and values of cross-attention", **given)
    with pytest.raises(ValueError, match="start_from: a LoRA is trained further as one; set form to 'LoRA'"):
        finetuning.execute(sd1, name="lora-further-2", **{**given, "form": "LoHa"})


FURTHER = {"form": "LoRA", "steps": 1}


def refused(sd1, lora: dict[str, torch.Tensor], message: str, metadata: dict[str, str] | None = None) -> None:
    """As a file to start from, in the folder that core lists."""
    import folder_paths
    from core_personalization.nodes.files.unet_files import new_file_path

    path = new_file_path("loras", "to-start-from")
    path.parent.mkdir(exist_ok=True)
    save_file(lora, path, metadata)
    folder_paths.filename_list_cache.clear()
    with pytest.raises(ValueError, match=message):
        finetuning.execute(sd1, name="not-begun", start_from=path.name, **FURTHER)


@pytest.mark.parametrize("bundled", [False, True], ids=["file", "bundle of Save Concept"])
def test_a_t_lora_is_not_trained_further_as_a_plain_one(sd1, bundled):
    schedule = {"timestep_rank": {"most": 2, "least": 1, "power": 1.0}}
    entries = {"lora": schedule} if bundled else schedule
    metadata = {f"core_personalization.{name}": json.dumps(entry) for name, entry in entries.items()}
    refused(sd1, make_lora(sd1[0]), "^start_from: it is a T-LoRA, whose ranks go with the noise; ", metadata)


def test_a_lora_of_several_ranks_is_refused_with_what_can_be_done(sd1):
    lora = make_lora(sd1[0])
    name = next(key for key in lora if key.endswith(".lora_down.weight")).removesuffix(".lora_down.weight")
    for part, dim in (("down", 0), ("up", 1)):
        matrix = lora[f"{name}.lora_{part}.weight"]
        lora[f"{name}.lora_{part}.weight"] = torch.cat([matrix, matrix], dim)
    refused(sd1, lora, r"^start_from: its layers have ranks \d+, \d+, and a training has one; choose another file")


@pytest.mark.parametrize("difference", ["diff_b", "diff"])
def test_a_lora_with_biases_and_norms_is_said_to_have_them(sd1, difference):
    layer = {"diff_b": "attn2_to_out_0", "diff": "norm2"}[difference]
    name = f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_{layer}"
    lora = {**make_lora(sd1[0]), f"{name}.{difference}": torch.full((320,), 0.1)}
    refused(sd1, lora, "^start_from: it also changes biases and norms")


def test_a_file_to_start_from_that_was_replaced_is_read_again(sd1, a_lora):
    from core_personalization.nodes.files.unet_files import new_file_path
    from core_personalization.nodes.finetune.unet_identity_finetune import UNetIdentityFinetune

    def mark(name: str = "lora-twice", start_from: str | None = "lora-once.safetensors"):
        """A link's value is not there yet."""
        return UNetIdentityFinetune.fingerprint_inputs(name=[name], start_from=(start_from,), steps=[1])

    path, before, none = new_file_path("loras", "lora-once"), mark(), mark(start_from="none")
    finetuning.execute(sd1, name="lora-twice", start_from=path.name, **FURTHER)
    assert mark() == before, "its own work is no change"
    own = mark(name="lora-once")
    save_file(make_lora(sd1[0]), path)
    assert mark() != before
    assert mark(name="lora-once") == own, "nor is it where it replaces what it starts from"
    assert mark(start_from="none") == mark(start_from=None) == none


def test_a_state_is_not_kept_twice_while_its_training_goes_on():
    from core_personalization.nodes.training.kept_trainings import Beginning

    seen = []

    class Taking:
        def resume(self, state):
            seen.append(None if state is None else dict(state))

    stopped = Beginning(state={"loop": {"step": 3}})
    for beginning in (stopped, Beginning()):
        beginning.resume(Taking())
    assert seen == [{"loop": {"step": 3}}, None] and not stopped.state
