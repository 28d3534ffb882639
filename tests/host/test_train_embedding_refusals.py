"""What "CoRe Train Embedding" refuses before any work, and what it takes."""

from __future__ import annotations

import shutil

import pytest
import torch
from core_personalization.core_ops.prompts.prompt_templates import validate_template
from families.embedding import execute
from families.load import load_family
from safetensors.torch import save_file

REFUSED = [
    ({"images": [torch.zeros(0, 64, 64, 3)]}, "images: got none"),
    ({"images": [torch.rand(1, 4, 64, 3)]}, "at least 8×8"),
    ({"masks": [torch.rand(1, 64, 64)]}, "masks: got 1 for 2"),
    ({"caption_template": "a photo of a dog"}, "caption_template: .* has {} 0 times"),
    ({"captions": ["a {} and a {}", "a {}"]}, "captions: .* has {} 2 times"),
    ({"captions": ["a {}"]}, "captions: got 1 for 2"),
    ({"captions": ["a {} " + "very " * 90 + "far", "a {}"]}, "rows of 77 tokens"),
    ({"caption_template": "a {} with embedding:nothing-there"}, "does not exist"),
    ({"super_category": "  "}, "super_category"),
    ({"initial_words": "a embedding:other"}, "initial_words: .* names an embedding"),
    ({"concept_name": "../evil"}, "concept_name"),
    ({"concept_name": "two words"}, "concept_name"),
    ({"concept_name": "con"}, "concept_name"),
    ({"concept_name": "2024"}, "concept_name: '2024' is a number, .* for example 'my-2024'"),
    ({"concept_name": "my-dog.safetensors"}, "concept_name: 'my-dog.safetensors' ends in .safetensors"),
    ({"super_category": "{}"}, "super_category: '{}' has a brace"),
    ({"super_category": "girl (anime)"}, r"super_category: 'girl \(anime\)' has brackets"),
    ({"super_category": "dog " * 26}, "super_category: .* more than 100 characters"),
    ({"concept_name": "1e5"}, "concept_name: '1e5' is a number"),
    ({"steps": 0}, "steps: 0"),
    ({"batch_size": 0}, "batch_size: 0"),
    ({"learning_rate": float("nan")}, "learning_rate"),
    ({"rescale_from": 0.9, "rescale_to": 0.8}, "rescale_from: 0.9"),
    ({"method": "DreamBooth"}, "method: 'DreamBooth'"),
    ({"prompt_set": "own", "own_prompts": "a dog"}, "own_prompts"),
    ({"weighting": "balanced", "embedding_share": 0.6, "attention_share": 0.4}, "embedding_share"),
    ({"precision": "fp16"}, "precision: fp16 needs a GPU"),
    ({"preview_prompts": "a {} here\nand a dog"}, "preview_prompts: 'and a dog' has {} 0 times"),
    ({"preview_negative": "embedding:nothing-there"}, "preview_negative: .*does not exist"),
    ({"start": "before"}, "start: 'before' is not one of"),
    ({"resolution": 60}, "resolution: 60"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_bad_input_is_refused_before_training(sd1, embeddings, monkeypatch, given, message):
    from core_personalization.nodes.embedding import train_embedding

    monkeypatch.setattr(train_embedding, "train_embedding", lambda *_: pytest.fail("training was started"))
    files = sorted(embeddings.iterdir())
    with pytest.raises(ValueError, match=message):
        execute(sd1, **{"concept_name": "refused", **given})
    assert sorted(embeddings.iterdir()) == files


def test_an_existing_name_is_refused_unless_overwrite_is_on(sd1):
    execute(sd1, concept_name="taken", steps=1)
    with pytest.raises(ValueError, match="exists already"):
        execute(sd1, concept_name="taken", steps=2, overwrite=False)


def test_spaces_around_a_super_category_are_dropped_and_initial_words_may_be_many(sd1):
    words = "a dog (of wool)\nwith spots, " * 3
    concept, *_ = execute(sd1, concept_name="spaced", super_category=" dog ", initial_words=words, vectors=4, steps=1)
    assert concept.super_category == "dog"


@pytest.mark.parametrize("place", ["old", "older/still"])
def test_a_name_is_refused_that_prompts_would_find_in_another_folder_too(sd1, embeddings, place):
    execute(sd1, concept_name="doubled", steps=1)
    other = embeddings / place / "doubled.safetensors"
    other.parent.mkdir(parents=True)
    shutil.copyfile(embeddings / "doubled.safetensors", other)
    execute(sd1, concept_name="doubled", steps=1, overwrite=False)  # a copy gives the same pictures
    save_file({"emb_params": torch.ones(1, 768)}, other)
    with pytest.raises(ValueError, match=r"concept_name: another embedding 'doubled' is at .*doubled.safetensors, and"):
        execute(sd1, concept_name="doubled", steps=2)
    shutil.rmtree(embeddings / place.split("/")[0])
    execute(sd1, concept_name="doubled", steps=2)


def test_models_of_other_kinds_are_refused_by_name(sd1):
    from core_personalization.nodes.host.models.denoiser import validate_model

    class Flux(torch.nn.Module):
        diffusion_model = torch.nn.Linear(2, 2)

    other = sd1[0].clone()
    other.model = Flux()
    with pytest.raises(ValueError, match="Flux has no U-Net"):
        validate_model(other)


def test_an_embedding_of_another_base_model_is_refused(sd1, embeddings):
    save_file({"emb_params": torch.zeros(1, 1024)}, embeddings / "for-sd2.safetensors")
    with pytest.raises(ValueError, match="another base model"):
        execute(sd1, concept_name="refused", caption_template="a {} with embedding:for-sd2")


def test_a_text_encoder_of_another_family_is_refused(sd1, embeddings):
    _, other_clip, _ = load_family("sd2", embedding_directory=str(embeddings))
    with pytest.raises(ValueError, match="clip: its text is 1024 wide, this BaseModel reads 768"):
        execute((sd1[0], other_clip, sd1[2]), concept_name="refused")


@pytest.mark.parametrize("template", ["a {}, in the snow", "a (red {}:1.2) in the snow", "{}", "a ({}) in snow"])
def test_every_template_that_is_allowed_is_found_by_the_host(sd1, template):
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    validate_template("template", template)
    assert len(PromptRows(sd1[1], "dog", vectors=3).concept(template).span) == 3
