"""Save Concept and Load Concept on real ComfyUI objects, and files that mean harm."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from driver import quick_start
from families import embedding
from families.concepts import WORD, load, load_shown, make_concept, make_lora, sample, save
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def test_what_is_loaded_draws_what_was_saved(family, caplog):
    """On another machine, where the embedding is not there yet."""
    from comfy_extras.nodes_train import LoraModelLoader

    model, clip, _ = family
    concept, lora = make_concept(family, "round"), make_lora(model)
    path = save(concept, lora, description="Works well with snow.")
    with_lora = LoraModelLoader.execute(model, lora, 1.0).args[0]
    prompt = f"a photo of a {concept.phrase} in the snow"
    expected, base = sample(with_lora, clip, prompt), sample(model, clip, prompt)
    concept.path.unlink()
    without_embedding = sample(with_lora, clip, prompt)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        loaded_model, loaded_clip, loaded, phrase, card, *_ = load(family, f"loras/{path.name}")
    assert caplog.messages == []
    assert phrase == concept.phrase == f"embedding:round {WORD}"
    assert torch.equal(sample(loaded_model, loaded_clip, prompt), expected)
    assert not torch.allclose(expected, base, atol=1e-3)
    assert not torch.allclose(expected, without_embedding, atol=1e-3)
    assert loaded.vectors.keys() == concept.vectors.keys()
    assert all(torch.equal(loaded.vectors[key], concept.vectors[key]) for key in concept.vectors)
    assert "Works well with snow." in card
    loaded.path.unlink()


@pytest.mark.parametrize("folder", ["embeddings", "loras"])
def test_a_folder_in_a_files_name_is_written_as_any_system_writes_it(comfyui, monkeypatch, folder):
    import folder_paths
    from core_personalization.nodes.files.concept_bundles import concept_file_path

    file = Path(folder_paths.get_folder_paths(folder)[0]) / "my-dog-steps" / "my-dog-step100.safetensors"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    try:
        spellings = [f"{folder}/my-dog-steps{separator}{file.name}" for separator in "/\\"]
        assert [concept_file_path(spelling) for spelling in spellings] == [file, file]
        with pytest.raises(ValueError, match="there is no"):
            concept_file_path(f"{folder}/my-dog-steps:{file.name}")
    finally:
        shutil.rmtree(file.parent)


def test_core_loads_the_lora_and_leaves_only_the_embedding(sd1, caplog):
    from nodes import LoraLoader

    path = save(make_concept(sd1, "in-core"), make_lora(sd1[0]))
    with caplog.at_level(logging.INFO):
        model, _ = LoraLoader().load_lora(sd1[0], sd1[1], path.name, 1.0, 1.0)
    assert caplog.messages == ["lora key not loaded: bundle_emb.in-core.string_to_param.*"]
    prompt = "a photo of a dog"
    assert not torch.allclose(sample(model, sd1[1], prompt), sample(sd1[0], sd1[1], prompt), atol=1e-3)


def test_core_reads_a_bundle_among_embeddings_as_an_embedding(family, embeddings):
    concept = make_concept(family, "among-them")
    path = save(concept, make_lora(family[0]))
    (embeddings / "renamed.safetensors").write_bytes(path.read_bytes())
    tokens = family[1].tokenize("a embedding:renamed")
    for encoder, vectors in concept.vectors.items():
        row = tokens[encoder.removeprefix("clip_")][0]
        found = [entry[0] for entry in row if isinstance(entry[0], torch.Tensor)]
        assert torch.equal(torch.stack(found), vectors)
    (embeddings / "renamed.safetensors").unlink()


def test_the_embeddings_keys_are_those_of_the_bundle_form(sd1):
    keys = set(load_file(save(make_concept(sd1, "keys"))))
    assert keys == {"bundle_emb.keys.string_to_param.*"}


def test_the_card_is_complete_and_the_preview_comes_back(sd1):
    from core_personalization.nodes.concept import LoraModel
    from core_personalization.nodes.host.models.host_models import base_model_fingerprint

    picture = torch.rand(1, 8, 8, 3).repeat_interleave(100, 1).repeat_interleave(100, 2)  # 800 pixels a side
    training = {"base_model_fingerprint": base_model_fingerprint(sd1[0]), "steps": 9}
    lora = LoraModel(make_lora(sd1[0]), training)
    path = save(make_concept(sd1, "card"), lora, picture, description="mine", name="file-of-card")
    assert path.name == "file-of-card.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    ours = [key for key in metadata if key.startswith("core_personalization.")]
    own = {key.removeprefix("core_personalization."): json.loads(metadata[key]) for key in ours}
    assert own["phrase"] == f"embedding:card {WORD}"
    assert own["super_category"] == WORD and own["with_category"] is True
    assert own["base_model"] == "base.safetensors"
    assert own["base_model_fingerprint"] == training["base_model_fingerprint"]
    assert own["settings"]["steps"] == 3 and own["lora"]["steps"] == 9 and own["description"] == "mine"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert metadata["modelspec.description"] == "mine"
    assert metadata["modelspec.trigger_phrase"] == own["phrase"]
    preview = load(sd1, f"loras/{path.name}")[5]
    assert preview.shape == (1, 512, 512, 3)
    smaller = torch.nn.functional.interpolate(picture.movedim(-1, 1), 512, mode="area").movedim(1, -1)
    assert float((preview - smaller).abs().mean()) < 0.03


def test_a_loaded_concept_can_be_saved_again(sd1):
    first = save(make_concept(sd1, "again"), make_lora(sd1[0]))
    _, _, concept, *_ = load(sd1, f"loras/{first.name}", embedding_name="again-two")
    second = save(concept, {key: tensor for key, tensor in load_file(first).items() if "bundle" not in key})
    assert second.name == "again-two.safetensors"
    assert load(sd1, f"loras/{second.name}")[3] == f"embedding:again-two {WORD}"


def test_what_training_learned_is_shared_with_its_settings(sd1):
    from core_personalization.nodes.embedding.train_embedding import TrainEmbedding

    settings = {"concept_name": "trained", "super_category": WORD, "steps": 1, "batch_size": 1, "resolution": 64}
    settings |= {"rescale_from": 1, "rescale_to": 1, "preview_every": 0, "save_every": 0, "overwrite": True}
    with torch.inference_mode():
        images = [torch.rand(1, 64, 64, 3)]
        models = ([model] for model in sd1)
        concept = TrainEmbedding.execute(*models, images, **{key: [value] for key, value in settings.items()}).args[0]
    path = save(concept)
    concept.path.unlink()
    _, _, loaded, phrase, card, *_ = load(sd1, f"loras/{path.name}")
    assert (phrase, loaded.super_category) == ("embedding:trained", WORD)
    assert all(torch.equal(loaded.vectors[key], concept.vectors[key]) for key in concept.vectors)
    assert "steps_done: 1\n" in card and '"rescale_to": 1' in card


def test_an_embedding_of_the_training_node_is_loaded_as_it_is(sd1):
    concept = make_concept(sd1, "plain")
    model, clip, loaded, phrase, *_ = load(sd1, f"embeddings/{concept.path.name}")
    assert (model, clip) == (sd1[0], sd1[1])
    assert (loaded.path, loaded.super_category, phrase) == (concept.path, WORD, concept.phrase)


@pytest.mark.parametrize("says_so", [True, False], ids=["today's card", "a card of before"])
def test_an_own_file_keeps_the_category_after_the_concept(sd1, says_so):
    """A file of before says it in its phrase alone."""
    settings = {"concept_name": "aligned", "super_category": WORD, "steps": 1}
    trained = embedding.execute(sd1, method="AttnDreamBooth stage 1", **settings)[0]
    if not says_so:
        with safe_open(trained.path, "pt") as file:
            card = {key: text for key, text in file.metadata().items() if "category" not in key}
        save_file(load_file(trained.path), trained.path, card)
    _, _, loaded, phrase, *_ = load(sd1, f"embeddings/{trained.path.name}")
    assert loaded.with_category and phrase == trained.phrase == f"embedding:aligned {WORD}"


def test_an_embedding_of_that_name_is_never_replaced(sd1, embeddings):
    path = save(make_concept(sd1, "taken"), make_lora(sd1[0]))
    other = embeddings / "taken.safetensors"
    save_file({"emb_params": torch.ones(1, 768)}, other)
    before = other.read_bytes()
    with pytest.raises(ValueError, match=r"embedding_name: another embedding 'taken' is at"):
        load(sd1, f"loras/{path.name}")
    assert other.read_bytes() == before
    assert load(sd1, f"loras/{path.name}", embedding_name="free")[3].startswith("embedding:free")


def test_an_embedding_of_that_name_in_a_folder_below_is_seen_too(sd1, embeddings):
    """Core looks into all of them, in no certain order."""
    path = save(concept := make_concept(sd1, "below"))
    concept.path.unlink()
    (embeddings / "mine").mkdir()
    (embeddings / "mine" / "below.pt").touch()
    with pytest.raises(ValueError, match=r"embedding_name: another embedding 'below' is at .*below\.pt"):
        load(sd1, f"loras/{path.name}")


def test_a_concept_of_another_fine_tune_is_taken_with_a_note_and_of_another_family_refused(sd1):
    path = save(make_concept(sd1, "strict", base_model_fingerprint="0" * 64))
    shown = load_shown(sd1, f"loras/{path.name}")
    assert shown.args[3] == f"embedding:strict {WORD}"
    (text,) = shown.ui["text"]
    assert text.startswith(f"Write embedding:strict {WORD} in any prompt.\nNote: it was made for base.safetensors")
    path = save(make_concept(sd1, "home"))
    assert "Note" not in load_shown(sd1, f"loras/{path.name}").ui["text"][0]
    path = save(make_concept(sd1, "stranger", architecture="stable-diffusion-xl-v1-base"))
    with pytest.raises(ValueError, match=r"'base\.safetensors' \('stable-diffusion-xl-v1-base'\), another family"):
        load(sd1, f"loras/{path.name}")


@pytest.mark.parametrize("key", ["emb_params", "<cat>"])
@pytest.mark.parametrize("shape", [(768,), (2, 768)])
def test_an_embedding_of_another_program_is_taken_with_a_typed_kind(sd1, embeddings, key, shape):
    vectors = torch.rand(shape)
    save_file({key: vectors}, embeddings / "foreign.safetensors")
    with pytest.raises(ValueError, match="super_category: the file does not say what kind of thing it is"):
        load(sd1, "embeddings/foreign.safetensors")
    _, clip, concept, phrase, *_ = load(sd1, "embeddings/foreign.safetensors", super_category="cat")
    assert torch.equal(concept.vectors["clip_l"], vectors.reshape(-1, 768))
    assert (phrase, concept.super_category) == ("embedding:foreign", "cat")
    (row,) = clip.tokenize("a embedding:foreign")["l"]
    in_core = [entry[0] for entry in row if isinstance(entry[0], torch.Tensor)]
    assert torch.equal(torch.stack(in_core), concept.vectors["clip_l"])
    (embeddings / "foreign.safetensors").unlink()


@pytest.mark.parametrize("key", ["emb_params", "<cat>"])
@pytest.mark.parametrize(("shape", "dtype"), [((768,), torch.float32), ((2, 768), torch.float16)])
def test_a_concept_of_another_program_is_saved_with_a_lora_of_ours(sd1, embeddings, key, shape, dtype):
    """Whatever number format, key and shape its file has, and though that does not say what it was made for."""
    from core_personalization.nodes.concept import LoraModel
    from core_personalization.nodes.host.models.host_models import architecture, base_model_fingerprint

    save_file({key: torch.rand(shape).to(dtype)}, embeddings / "foreign.safetensors")
    concept = load(sd1, "embeddings/foreign.safetensors", super_category="cat")[2]
    alone = save(concept)
    trained_on = {
        "architecture": architecture(sd1[0], sd1[1]),
        "base_model": "v1-5.safetensors",
        "base_model_fingerprint": base_model_fingerprint(sd1[0]),
    }
    path = save(concept, LoraModel(make_lora(sd1[0]), trained_on), name="with-lora")
    with safe_open(path, "pt") as file, safe_open(alone, "pt") as without:
        about, unknown = file.metadata(), without.metadata()
    assert about["modelspec.architecture"] == f"{trained_on['architecture']}/lora"
    assert {name: json.loads(about[f"core_personalization.{name}"]) for name in trained_on} == trained_on
    assert "modelspec.architecture" not in unknown, "nobody knows it"
    (embeddings / "foreign.safetensors").unlink()
    assert "Note" not in load_shown(sd1, f"loras/{path.name}").ui["text"][0]
    (embeddings / "foreign.safetensors").unlink()


def test_a_bundle_that_lies_among_the_embeddings_too_is_one_concept(family, embeddings):
    """As the help says one may copy it; core reads it there as an embedding."""
    concept, lora = make_concept(family, "both-places"), make_lora(family[0])
    path = save(concept, lora)
    concept.path.unlink()
    copied = embeddings / path.name
    copied.write_bytes(path.read_bytes())
    for file in (f"loras/{path.name}", f"embeddings/{path.name}"):
        loaded = load(family, file)[2]
        assert loaded.path == copied and loaded.phrase == concept.phrase
    assert copied.read_bytes() == path.read_bytes()
    save(loaded, lora, name="saved-again")
    other = {key: weight + 1 if key.startswith("bundle_emb") else weight for key, weight in load_file(path).items()}
    save_file(other, copied)
    with pytest.raises(ValueError, match=r"embedding_name: another embedding 'both-places' is at"):
        load(family, f"loras/{path.name}")
    copied.unlink()


def test_of_a_foreign_bundle_with_two_embeddings_one_is_chosen(sd1, output_folder):
    bundle = {f"bundle_emb.{name}.emb_params": torch.full((1, 768), value) for name, value in (("a", 1.0), ("b", 2.0))}
    save_file({**make_lora(sd1[0]), **bundle}, output_folder / "loras" / "foreign-bundle.safetensors")
    with pytest.raises(ValueError, match=r"embedding_name: .* has 2 embeddings, 'a', 'b'; write the one"):
        load(sd1, "loras/foreign-bundle.safetensors", super_category="cat")
    _, _, concept, *_ = load(sd1, "loras/foreign-bundle.safetensors", super_category="cat", embedding_name="b")
    assert concept.name == "b" and bool((concept.vectors["clip_l"] == 2).all())
    concept.path.unlink()


def test_a_bundled_name_that_no_prompt_could_have_becomes_one(sd1, output_folder):
    names = ("<s1>", "my old cat")
    bundle = {f"bundle_emb.{name}.emb_params": torch.full((1, 768), float(i)) for i, name in enumerate(names)}
    save_file({**make_lora(sd1[0]), **bundle}, output_folder / "loras" / "odd-names.safetensors")
    for number, (name, ours) in enumerate(zip(names, ("s1", "my-old-cat"), strict=True)):
        _, _, concept, phrase, *_ = load(sd1, "loras/odd-names.safetensors", super_category="cat", embedding_name=name)
        assert phrase == f"embedding:{ours}" and bool((concept.vectors["clip_l"] == number).all())
        concept.path.unlink()


@pytest.mark.parametrize("kind", ["man/woman", "dog & cat", "child’s toy", "Hündchen", "🐶"])
def test_what_training_takes_as_a_super_category_is_read_again(sd1, kind):
    from core_personalization.nodes.host.prompts.prompt_rows import validate_words
    from core_personalization.nodes.sharing.concept_card import ConceptCard

    validate_words("super_category", kind)
    assert ConceptCard(super_category="cat").with_kind(kind).super_category == kind


def test_a_file_tells_trigger_base_and_picture_before_it_is_loaded(sd1):
    from core_personalization.nodes.sharing.concept_look import look

    path = save(make_concept(sd1, "looked-at"), make_lora(sd1[0]), torch.rand(1, 64, 64, 3), description="<b>mine</b>")
    told = look({"file": f"loras/{path.name}"})
    assert told["text"].splitlines()[:3] == [
        f"Trigger: embedding:looked-at {WORD}", f"What it is: {WORD}", "Made for: base.safetensors"
    ]  # fmt: skip
    assert "<b>" not in told["text"] and told["picture"].startswith("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match="file: there is no"):
        look({"file": "loras/../secret.safetensors"})


def test_the_trigger_is_told_as_it_will_be(sd1, embeddings):
    from core_personalization.nodes.sharing.concept_look import look

    save_file({"emb_params": torch.rand(1, 768)}, embeddings / "My Cat v2.safetensors")
    file = "embeddings/My Cat v2.safetensors"
    for typed in ("", "mine"):
        concept = load(sd1, file, super_category="cat", embedding_name=typed)[2]
        told = look({"file": file, "embedding_name": typed})["text"]
        assert told.startswith(f"Trigger: {concept.token}"), typed
        concept.path.unlink()
    (embeddings / "My Cat v2.safetensors").unlink()


def test_the_fingerprint_is_the_bases_under_a_finetune_of_biases(sd1):
    import comfy.model_management
    from core_personalization.nodes.host.models.host_models import base_model_fingerprint

    before = base_model_fingerprint(sd1[0])
    patched = sd1[0].clone()
    patched.add_patches({"diffusion_model.out.0.bias": ("diff", (torch.ones(320),))})
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([patched], force_full_load=True)
    assert float(sd1[0].model.diffusion_model.out[0].bias.mean()) > 0.5
    assert base_model_fingerprint(patched) == base_model_fingerprint(sd1[0]) == before


def test_the_node_runs_again_when_the_file_has_changed(sd1):
    from core_personalization.nodes.sharing.load_concept import LoadConcept

    path = save(make_concept(sd1, "changing"))
    before = LoadConcept.fingerprint_inputs(f"loras/{path.name}", strength=1.0)
    os.utime(path, (1, 1))
    assert LoadConcept.fingerprint_inputs(f"loras/{path.name}", strength=1.0) != before


def test_the_node_runs_again_when_the_embedding_that_it_placed_has_gone_or_is_another(sd1):
    from core_personalization.nodes.sharing.load_concept import LoadConcept

    path = save(concept := make_concept(sd1, "placed"))
    concept.path.unlink()
    file = f"loras/{path.name}"
    before = LoadConcept.fingerprint_inputs(file, embedding_name="")
    (placed := load(sd1, file)[2].path).touch()
    load(sd1, file)
    assert LoadConcept.fingerprint_inputs(file, embedding_name="") == before, "its own work is no change"
    placed.unlink()
    without = LoadConcept.fingerprint_inputs(file, embedding_name="")
    load(sd1, file)
    assert placed.is_file()
    assert without == LoadConcept.fingerprint_inputs(file, embedding_name="") != before, "one run for one change"


def test_what_does_not_belong_together_is_not_saved(sd1, output_folder):
    from core_personalization.nodes.concept import LoraModel

    concept = make_concept(sd1, "apart")
    with pytest.raises(ValueError, match=r"lora: it was trained on 'other'"):
        save(concept, LoraModel(make_lora(sd1[0]), {"base_model": "other", "base_model_fingerprint": "1"}))
    with pytest.raises(ValueError, match=r"lora: 'x' holds NaN"):
        save(concept, {"x": torch.tensor([float("nan")])})
    with pytest.raises(ValueError, match=r"name: '\.\./apart' cannot be used"):
        save(concept, name="../apart")
    make_concept(sd1, "apart", steps_done=4)
    save_file({"emb_params": torch.ones(1, 768)}, concept.path)
    with pytest.raises(ValueError, match=r"concept: .* holds another embedding by now"):
        save(concept)
    concept.path.unlink()
    with pytest.raises(ValueError, match=r"concept: its embedding file .* is gone"):
        save(concept)
    assert not list((output_folder / "loras").glob("apart*"))


def test_markup_in_a_card_is_shown_as_text(sd1):
    description = "<script>alert(1)</script>\n<img src=x onerror=y>"
    card = load(sd1, f"loras/{save(make_concept(sd1, 'markup'), description=description).name}")[4]
    assert "<" not in card and "&lt;script&gt;" in card


@pytest.mark.parametrize("file", ["loras/../../secret.safetensors", "checkpoints/secret.safetensors", "secret", ""])
def test_only_listed_files_are_opened(sd1, output_folder, file):
    (output_folder / "secret.safetensors").touch()
    with pytest.raises(ValueError, match=r"file: there is no"):
        load(sd1, file)


@pytest.fixture(scope="module")
def shared(server) -> str:
    """A concept of the embedded checkpoint, loaded and saved in one graph of a real server; the file's name."""
    from comfy.sd import load_checkpoint_guess_config

    base = server.process.base
    quick_start.fill_base_folder(base)
    with torch.inference_mode():
        models = load_checkpoint_guess_config(str(base.checkpoints / quick_start.CHECKPOINT))[:3]
    concept = make_concept(models, "from-a-friend")
    (base.embeddings / concept.path.name).write_bytes(concept.path.read_bytes())
    concept.path.unlink()
    loaded = {"model": ["1", 0], "clip": ["1", 1], "file": "embeddings/from-a-friend.safetensors", "strength": 1.0}
    loaded |= {"super_category": "", "embedding_name": ""}
    saved = {"concept": ["2", 2], "preview": ["2", 5], "name": "shared", "description": "hello", "overwrite": True}
    server.client.submit(
        {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": quick_start.CHECKPOINT}},
            "2": {"class_type": "CoReLoadConcept", "inputs": loaded},
            "3": {"class_type": "CoReSaveConcept", "inputs": saved},
        }
    )
    (base.embeddings / concept.path.name).unlink()
    return "shared.safetensors"


def test_the_template_draws_a_concept_that_someone_shared(server, shared):
    prompt = quick_start.template(server.client, "Use a shared concept")
    for node in prompt.values():
        if node["class_type"] == "CoReLoadConcept":
            node["inputs"]["file"] = f"loras/{shared}"
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 2
    execution = server.client.submit(prompt)
    shown = {prompt[node_id]["class_type"]: ui for node_id, ui in execution.outputs.items()}
    assert len(shown["SaveImage"]["images"]) == 2
    (card,) = shown["PreviewAny"]["text"]
    assert card.startswith(f"trigger: embedding:from-a-friend {WORD}\n") and "description: hello" in card
    assert (server.process.base.embeddings / "from-a-friend.safetensors").is_file()
