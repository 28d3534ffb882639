"""U-Net Identity Finetune with Also Train: several concepts in one training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families.build import FAMILIES
from families.concepts import load, make_concept, sample, save
from families.finetuning import also_trained, execute, finetune_run, pictures
from families.hashing import weights_hash
from families.load import load_family
from families.stopping import cancel_after
from safetensors.torch import load_file

SMALL = {"scope": "keys and values of cross-attention", "form": "LoRA", "learning_rate": 1e-3}
FILE, CONCEPT, CONCEPT_2, CONCEPT_3 = 5, 6, 9, 10
"""Of the outputs."""


def dog_and_cat(models: Any, **changes: Any) -> tuple[Any, Any]:
    """Two words of other lengths and kinds."""
    dog, cat = (make_concept(models, name) for name in ("my-dog", "my-cats"))
    shorter = {name: vectors[:1] for name, vectors in cat.vectors.items()}
    return dog, replace(cat, vectors=shorter, super_category="lemon", with_category=False, **changes)


def of_both(models: Any, run: Any, images: Any = None, **settings: Any) -> Any:
    """A run of the two."""
    dog, cat = dog_and_cat(models)
    also = also_trained(cat, images or pictures(3, seed=7), captions=["a {} one", "a {} two", "a {} three"])
    return run(models, dog, also=also, **{**SMALL, **settings})


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_loss_is_the_mean_of_each_pictures_with_its_own_concept_alone(family):
    """A plain loop over the batch, each prompt encoded by itself with vectors of one concept."""
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    models = load_family(family)
    run, (dog, cat) = of_both(models, finetune_run, batch_size=6), dog_and_cat(models)
    recipe, written = run.loop.recipe, run.checked.pictures
    alone = {
        text: (PromptRows(models[1], one.super_category, one.length).concept(one.caption(text)), one.vectors)
        for one, texts in ((dog, ["a photo of a {}"]), (cat, ["a {} one", "a {} two", "a {} three"]))
        for text in texts
    }
    assert len(alone) == len(written.captions) == 4
    by_row = {id(written.captions[place]): text for place, text in zip(
        written.caption_of_picture, written.templates, strict=True)}  # fmt: skip
    encoder = HostTextEncoder(models[1])  # the training's own has gone when all is encoded
    batch = recipe.problem.draw(6, run.loop.random)
    losses = []
    with torch.no_grad():
        (part,) = batch.parts
        for place, caption in enumerate(part.captions):
            row, vectors = alone[by_row[id(caption)]]
            own = encoder.encode([row], vectors)
            prediction = run.denoiser(part.z_t[place : place + 1], part.t[place : place + 1], own)
            losses.append((prediction - part.target[place : place + 1]).square().mean())
        found = recipe.diffusion_loss(batch)
    assert len({by_row[id(caption)] for caption in part.captions}) > 1
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-4, atol=1e-6)


def test_pictures_of_one_leave_the_others_word_alone(sd1):
    run = of_both(sd1, finetune_run, train_embedding=True)
    data, (dog, cat) = run.latents, dog_and_cat(sd1)
    of_cat = replace(data, latents=data.latents[2:], caption_of_latent=data.caption_of_latent[2:], repeats=())
    problem = replace(run.loop.recipe.problem, latents=of_cat)
    batch = problem.draw(4, run.loop.random)
    loss = run.loop.recipe.diffusion_loss(batch)
    (gradient,) = torch.autograd.grad(loss, run.embedding.parameters)
    assert dog.length == 2 and cat.length == 1
    assert not gradient[:2].any() and gradient[2:].any()


def test_each_is_drawn_as_often_and_the_node_says_what_came(sd1):
    run = of_both(sd1, finetune_run, hold_out=True)
    assert run.latents.repeats == [3, 3, 2, 2, 2]
    assert run.checked.told == "my-dog: 2 pictures; my-cats: 3 pictures"
    notes = run.checked.notes
    assert notes[0] == run.checked.told
    assert "Note: 2 concepts share 2 steps, and 500 are published for one; set steps to 1000." in notes
    assert sum("hold_out needs 5 pictures" in note for note in notes) == 2


def test_one_picture_of_each_that_has_enough_is_held_out(sd1):
    dog, cat = dog_and_cat(sd1)
    run = finetune_run(sd1, dog, also=also_trained(cat, pictures(6)), hold_out=True, **SMALL)
    assert len(run.checked.held_out.templates) == 1 and len(run.checked.pictures.templates) == 2 + 5
    assert any(note.startswith("my-cats: Picture 6 is held out") for note in run.checked.notes)
    run.session.train()
    assert run.losses["steady_loss"]


def both_words(outputs: Any) -> list[Any]:
    return [outputs[place] for place in (CONCEPT, CONCEPT_2)]


def test_every_word_is_trained_along_and_saved_under_a_name_of_its_own(sd1):
    from core_personalization.nodes.files.file_metadata import read_card

    before = dog_and_cat(sd1)
    outputs = of_both(sd1, execute, train_embedding=True, name="pets")
    refined = both_words(outputs)
    assert [each.name for each in refined] == ["pets", "pets-my-cats"]
    for old, new in zip(before, refined, strict=True):
        assert new.vectors["clip_l"].shape == old.vectors["clip_l"].shape
        assert not torch.equal(new.vectors["clip_l"], old.vectors["clip_l"])
        assert torch.equal(load_file(new.path)["emb_params"], new.vectors["clip_l"])
        card = read_card(new.path)
        assert (card["phrase"], card["super_category"]) == (new.phrase, old.super_category)
    lora = read_card(Path(outputs[FILE]))
    assert lora["phrase"] == f"{before[0].phrase}, {before[1].phrase}"
    assert [other["super_category"] for other in lora["also"]] == ["lemon"]


def test_without_that_the_words_go_on_as_they_came_and_a_third_is_none(sd1):
    from comfy_execution.graph_utils import ExecutionBlocker

    outputs = of_both(sd1, execute, name="pets-looks")
    assert [each.name for each in both_words(outputs)] == ["my-dog", "my-cats"]
    assert isinstance(outputs[CONCEPT_3], ExecutionBlocker)


@pytest.mark.parametrize(
    "given", [{"caption_dropout": 0.4}, {"train_embedding": True, "semantic_weight": 1.0}], ids=["looks", "words"]
)
def test_it_goes_on_bit_for_bit_and_clears_what_it_kept(sd1, monkeypatch, embeddings, given):
    from core_personalization.nodes.host.run_control import Cancelled

    given = {"steps": 3, "clear_steps": True, **given}
    before = weights_hash(sd1)
    first = of_both(sd1, execute, name="both-first", **given)
    with monkeypatch.context() as patch:
        cancel_after(patch, 2)
        with pytest.raises(Cancelled):
            of_both(sd1, execute, name="both-stopped", start="anew", **given)
    assert weights_hash(sd1) == before
    loras, words = (folder / "both-stopped-steps" for folder in (Path(first[FILE]).parent, embeddings))
    assert [path.name for path in loras.iterdir()] == ["both-stopped-step2.safetensors"]
    if "train_embedding" in given:
        kept = {"both-stopped-step2.safetensors", "both-stopped-step2-my-cats.safetensors"}
        assert {path.name for path in words.iterdir()} == kept
        (words / "both-stopped-step2-mine.safetensors").write_bytes(b"of the user")
    resumed = of_both(sd1, execute, name="both-stopped", **given)
    expected, found = load_file(first[FILE]), load_file(resumed[FILE])
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    assert resumed[2] == first[2]
    for one, other in zip(both_words(first), both_words(resumed), strict=True):
        assert all(torch.equal(one.vectors[name], other.vectors[name]) for name in one.vectors)
    left = [path.name for folder in (loras, words) if folder.exists() for path in folder.iterdir()]
    assert left == (["both-stopped-step2-mine.safetensors"] if "train_embedding" in given else [])


@pytest.mark.parametrize("family", ["sd2", "sd2_v", "sdxl"])
def test_the_other_families_go_on_from_a_state_bit_for_bit(family):
    models = load_family(family)
    whole, half = (of_both(models, finetune_run, train_embedding=True, steps=2) for _ in range(2))
    next(iter(half.loop))
    rest = of_both(models, finetune_run, train_embedding=True, steps=2)
    rest.loop.load_state_dict(half.loop.state_dict())
    expected, found = [list(run.loop) and run.loop.recipe.parameters for run in (whole, rest)]
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


def test_a_finished_training_is_used_again_and_not_with_other_pictures_of_the_second(sd1):
    given = {"name": "both-done", "overwrite": False, "train_embedding": True, "steps": 1}
    first = of_both(sd1, execute, **given)
    again = of_both(sd1, execute, **given)
    assert again[FILE] == first[FILE] and again[2]["loss"] == pytest.approx(first[2]["loss"])
    for one, other in zip(both_words(first), both_words(again), strict=True):
        assert one.name == other.name and torch.equal(one.vectors["clip_l"], other.vectors["clip_l"])
    with pytest.raises(ValueError, match=r"^name: .* trained with other pictures"):
        of_both(sd1, execute, images=pictures(3, seed=8), **given)
    dog, cat = dog_and_cat(sd1)
    with pytest.raises(ValueError, match="another concept"):
        execute(sd1, dog, **SMALL, **{**given, "name": "both-done", "train_embedding": False})
    with pytest.raises(ValueError, match="trained with other captions"):
        execute(sd1, dog, also=also_trained(cat, pictures(3, seed=7)), **SMALL, **given)


def test_class_images_of_both_kinds(sd1):
    dog, cat = dog_and_cat(sd1)
    also = also_trained(cat, class_images=pictures(2, seed=9))
    run = finetune_run(sd1, dog, class_images=pictures(4, seed=8), also=also, **SMALL, class_caption="any zebra")
    classes = run.checked.class_pictures
    assert classes.templates == ["any zebra"] * 4 + ["a photo of a lemon"] * 2 and classes.repeats == [1] * 4 + [2] * 2
    next(iter(run.loop))
    only_first = finetune_run(sd1, dog, class_images=pictures(4, seed=8), also=also_trained(cat), **SMALL)
    assert any("none of 'lemon'" in note for note in only_first.checked.notes)


def test_a_mask_of_one_leaves_the_others_pictures_whole(sd1):
    dog, cat = dog_and_cat(sd1)
    half = torch.cat([torch.ones(1, 64, 32), torch.zeros(1, 64, 32)], dim=2)
    run = finetune_run(sd1, dog, also=also_trained(cat, masks=[half, half]), **SMALL)
    assert [float(mask.mean()) for mask in run.checked.pictures.pictures.masks] == [1, 1, 0.5, 0.5]


def test_aligned_and_semantic_terms_are_of_each_ones_own_kind(sd1):
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    dog, cat = dog_and_cat(sd1)
    given = {"alignment_mean": 2.0, "train_embedding": True, "semantic_weight": 1.0}
    also = also_trained(replace(cat, with_category=True))
    run = finetune_run(sd1, dog, also=also, **SMALL, **given)
    report = next(iter(run.loop))
    assert set(report.terms) == {"diffusion", "attention_alignment", "semantic_preservation"}
    kinds = [row for _, row in run.checked.class_prompts]
    for row, kind in zip(kinds, ("zebra", "lemon"), strict=True):
        assert row.tokens["clip_l"] == PromptRows(sd1[1], kind).text(f"a photo of a {kind}").tokens["clip_l"]


def test_each_is_aligned_with_all_of_its_own_kind(sd1):
    """A kind of one word, and one of two."""
    from core_personalization.core_ops.terms import concept_and_category_spans
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    dog, cat = dog_and_cat(sd1)
    also = also_trained(replace(cat, with_category=True, super_category="teddy bear"))
    run = finetune_run(sd1, dog, also=also, **SMALL, alignment_mean=2.0, train_embedding=True)
    captions = run.checked.pictures.captions
    spans = concept_and_category_spans(captions, run.checked.alignment.category_tokens)
    for row, (concept, category) in zip(captions, spans, strict=True):
        kind = {0: "zebra", dog.length: "teddy bear"}[row.first_vector]
        places = category.nonzero().flatten().tolist()
        assert concept.nonzero().flatten().tolist() == list(row.span) and places[0] == row.span.stop
        told = PromptRows(sd1[1], kind).words(kind)[0]
        assert [row.tokens["clip_l"][place] for place in places] == told and category.sum() == 1
    assert next(iter(run.loop)).terms["attention_alignment"] > 0


def test_previews_show_each_alone_and_all_together(sd1):
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    dog, cat = dog_and_cat(sd1)
    third = make_concept(sd1, "my-parrot")
    run = finetune_run(sd1, dog, also=also_trained(cat, also=also_trained(third)), **SMALL)
    plan = run.checked.preview
    assert len(plan.prompts) == 3 * 4 + 1 and len(plan.references) == 3
    spans = [plan.prompts[-1].span, *plan.prompts[-1].other_spans]
    tokens = [plan.prompts[-1].tokens["clip_l"][place] for span in spans for place in span]
    slots = [token if isinstance(token, int) else token.index for token in tokens]
    (zebra,) = PromptRows(sd1[1], "zebra").words("zebra")[0]
    assert slots == [0, 1, zebra, 2, 3, 4, zebra]
    outputs = of_both(sd1, execute, name="shown", preview_every=1, preview_steps=1, steps=1)
    assert outputs[3].shape == (1, 3 * 64, 4 * 64, 3), "two references, and nine prompts"


def test_words_too_long_for_one_prompt_are_trained_without_it(sd1):
    def long(name: str) -> Any:
        concept = make_concept(sd1, name)
        return replace(concept, vectors={key: v.repeat(20, 1) for key, v in concept.vectors.items()})

    run = finetune_run(sd1, long("my-dog"), also=also_trained(long("my-cats")), **SMALL)
    assert len(run.checked.preview.prompts) == 8


def test_each_can_be_shared_with_the_lora(sd1):
    outputs = of_both(sd1, execute, train_embedding=True, name="shared-pets", learning_rate=1e-2)
    model, lora = outputs[:2]
    for concept in both_words(outputs):
        prompt = f"a photo of a {concept.phrase}"
        drawn = sample(model, sd1[1], prompt)
        path = save(concept, lora, name=f"{concept.name}-file")
        concept.path.unlink()
        loaded = load(sd1, f"loras/{path.name}")
        assert torch.equal(sample(loaded[0], loaded[1], prompt), drawn)
        assert loaded[2].super_category == concept.super_category


def test_a_prompt_takes_several(sd1):
    from core_personalization.nodes.sharing.concept_prompt import ConceptPrompt

    dog, cat = dog_and_cat(sd1)
    (prompt,) = ConceptPrompt.execute(dog, "a {},and a {2}", cat).args
    assert prompt == "a embedding:my-dog zebra ,and a embedding:my-cats"
    with pytest.raises(ValueError, match=r"^concept_2: the prompt has \{2\}, but no concept is connected"):
        ConceptPrompt.execute(dog, "a {} and a {2}")
    with pytest.raises(ValueError, match=r"^template: .* has \{2\} 0 times"):
        ConceptPrompt.execute(dog, "a {}", cat)


@pytest.mark.parametrize(
    ("also", "message"),
    [
        (lambda cat, models: also_trained(cat, captions=["a {}"] * 3), r"also: 'my-cats': captions: got 3 for 2"),
        (lambda cat, models: also_trained(cat, [torch.zeros(0, 64, 64, 3)]), r"also: 'my-cats': images: got none"),
        (lambda cat, models: also_trained(replace(cat, name="My-Dog")), r"also: 'My-Dog' is connected twice"),
        (
            lambda cat, models: also_trained(replace(cat, vectors={"clip_l": torch.zeros(1, 8)})),
            r"also: 'my-cats': concept: .* is an embedding for clip_l of width 8",
        ),
        (
            lambda cat, models: also_trained(
                cat, also=also_trained(replace(cat, name="c"), also=also_trained(replace(cat, name="d")))
            ),
            r"also: got 4 concepts, and one training takes 3",
        ),
    ],
    ids=["captions", "images", "twice", "width", "four"],
)
def test_what_is_wrong_with_another_is_refused_by_its_name(sd1, also, message):
    dog, cat = dog_and_cat(sd1)
    with pytest.raises(ValueError, match=f"^{message}"):
        finetune_run(sd1, dog, also=also(cat, sd1), **SMALL)


def test_a_taken_name_of_a_word_is_refused(sd1):
    make_concept(sd1, "both-taken-my-cats")
    with pytest.raises(ValueError, match=r"^name: a finetune 'both-taken-my-cats' exists already"):
        of_both(sd1, execute, name="both-taken", train_embedding=True, overwrite=False)
