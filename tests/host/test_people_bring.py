"""What people bring, by the public reports of docs/reports.md: each test is named after what is right."""

from __future__ import annotations

import pytest
import torch
from families.embedding import SETTINGS, embedding_run, pictures
from families.finetuning import finetune_run
from families.load import load_family
from safetensors.torch import save_file

FOUR = ["a {} one", "a {} two", "a {} three", "a {} four"]


def checked_inputs(models, images, masks=None, captions=None, **settings):
    from core_personalization.nodes.embedding.embedding_inputs import check_inputs
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
    from core_personalization.nodes.host.models.host_models import HostModels
    from core_personalization.nodes.settings import validated

    with torch.inference_mode():
        return check_inputs(
            HostModels(*models), images, masks, captions, validated(EmbeddingSettings, {**SETTINGS, **settings})
        )


def trained_captions(models, captions, count: int = 4) -> list[str]:
    return list(checked_inputs(models, pictures(count), captions=captions).pictures.templates)


@pytest.mark.parametrize(
    ("captions", "trained"),
    [
        (FOUR, FOUR),
        (["\n".join(FOUR)], FOUR),
        (["\n\n".join(FOUR) + "\r\n"], FOUR),
        ([*FOUR[:3], ""], [*FOUR[:3], "a photo of a {}"]),
        ([f"{caption}\nat night" for caption in FOUR], [f"{caption} at night" for caption in FOUR]),
        (["a {} one\nat night", *FOUR[1:3], ""], ["a {} one at night", *FOUR[1:3], "a photo of a {}"]),
        (["\ufeffa {} one", *FOUR[1:]], FOUR),
        (["", "", "", ""], ["a photo of a {}"] * 4),
    ],
)
def test_a_list_of_captions_is_one_for_each_picture(sd1, captions, trained):
    assert trained_captions(sd1, captions) == trained


def test_a_caption_of_two_lines_for_one_picture_is_one_caption(sd1):
    assert trained_captions(sd1, ["a {} one\nat night"], count=1) == ["a {} one at night"]


@pytest.mark.parametrize("captions", [FOUR[:3], ["\n".join(FOUR[:3])], ["a {}\nand", "a {}\nor"]])
def test_another_number_of_captions_is_refused(sd1, captions):
    with pytest.raises(ValueError, match=r"captions: got \d for 4 pictures; give one per picture"):
        trained_captions(sd1, captions)


def test_a_caption_without_a_place_takes_that_of_the_super_category_and_says_so(sd1):
    captions = ["a Dog in the snow", "photo of sks dog, dogs behind", "a {} and a dog", "x {}"]
    checked = checked_inputs(sd1, pictures(4), captions=captions)
    assert list(checked.pictures.templates) == ["a {} in the snow", "photo of sks {}, dogs behind", *captions[2:]]
    (note,) = (note for note in checked.notes if "captions" in note)
    assert note.startswith("Note: 2 of 4 captions have no {}, which was put where 'dog' stands: 'a {} in the snow'.")


@pytest.mark.parametrize("caption", ["in the snow", "a dog and another dog"])
def test_a_caption_without_any_place_says_where_the_way_out_is(sd1, caption):
    with pytest.raises(ValueError, match=r"captions: '.*' has no {} .* put Selectively Informative Captions between"):
        trained_captions(sd1, [caption, *FOUR[1:]])


def opaque(count: int = 2) -> list[torch.Tensor]:
    """Core's Load Image gives these for a picture without transparency, whatever its size."""
    return [torch.zeros(1, 64, 64)] * count


def larger(count: int = 2) -> list[torch.Tensor]:
    return [torch.rand(1, 96, 80, 3, generator=torch.Generator().manual_seed(number)) for number in range(count)]


def test_a_picture_without_transparency_has_no_mask_and_the_node_says_so(sd1):
    checked = checked_inputs(sd1, larger(), masks=opaque())
    assert checked.pictures.pictures.masks is None
    assert any("2 of 2 masks are empty" in note and "learned whole" in note for note in checked.notes)


def test_of_several_pictures_those_without_transparency_count_whole(sd1):
    cut_out = torch.zeros(1, 96, 80)
    cut_out[:, 30:60, 20:60] = 1
    masks = checked_inputs(sd1, larger(), masks=[cut_out, opaque()[0]]).pictures.pictures.masks
    assert masks[0].min() == 0
    assert masks[1].min() > 0.999


def inverted() -> torch.Tensor:
    """Of a cut-out by core's Load Image: white is what is transparent."""
    mask = torch.ones(1, 96, 80)
    mask[:, 20:, 20:60] = 0
    return mask


def test_masks_that_are_likely_inverted_are_named_with_the_node_that_turns_them(sd1):
    notes = checked_inputs(sd1, larger(), masks=[inverted(), 1 - inverted()]).notes
    assert any("1 of 2 masks are white around" in note and "Invert Mask" in note for note in notes)


def test_what_is_trained_is_shown_with_its_masks(sd1, monkeypatch):
    from core_personalization.nodes.host import run_control

    shown: list[torch.Tensor] = []
    monkeypatch.setattr(run_control.RunProgress, "show", lambda self, step, preview=None: shown.append(preview))
    checked = embedding_run(sd1, larger(1), masks=[inverted()]).checked
    picture = checked.pictures.pictures.pixels[0].movedim(0, -1)
    torch.testing.assert_close(shown[0][:8], picture[:8])
    torch.testing.assert_close(shown[0][24:, 24:40], 0.2 * picture[24:, 24:40])


class NaNs:
    """A VAE that makes NaN of one picture, or of what it decodes."""

    def __init__(self, vae, picture: int | None = None) -> None:
        self._vae, self._picture = vae, picture

    def __getattr__(self, name: str):
        return getattr(self._vae, name)

    def encode(self, pixels):
        latents = self._vae.encode(pixels).clone()
        if self._picture is not None:
            latents[self._picture, 0, 0, 0] = torch.nan
        return latents

    def decode(self, latents):
        return self._vae.decode(latents) * torch.nan


@pytest.fixture
def nothing_is_copied(monkeypatch):
    from core_personalization.nodes.host.models.host_models import HostModels

    copied = HostModels.copied

    def shapes_only(self, plan, *more):
        assert plan.device is not None, "the models were copied"
        assert plan.device.type == "meta", "the models were copied"
        return copied(self, plan, *more)

    monkeypatch.setattr(HostModels, "copied", shapes_only)


@pytest.mark.usefixtures("nothing_is_copied")
@pytest.mark.parametrize("run", [embedding_run, finetune_run])
def test_a_vae_that_gives_nan_is_found_before_anything_is_copied(sd1, run):
    model, clip, vae = sd1
    for copies, picture in ((0, 1), (2, 3)):
        with pytest.raises(ValueError, match=r"vae: it makes NaN of picture 2; use another VAE \(for SDXL"):
            run((model, clip, NaNs(vae, picture)), images=pictures(3), augmentation=copies)
    with pytest.raises(ValueError, match=r"vae: its pictures are NaN, so previews would be black; use another VAE"):
        run((model, clip, NaNs(vae)), images=pictures(3), preview_every=1)


def test_latents_that_are_nan_are_refused(sd1):
    from families.refining import concept
    from families.refining import execute as refine

    with pytest.raises(ValueError, match="latent: it holds NaN; use another VAE"):
        refine(sd1, concept=concept(sd1, "nan"), latent={"samples": torch.full((1, 4, 8, 8), torch.nan)})


def test_a_pickled_embedding_is_refused_with_how_to_convert_it(sd1, embeddings):
    import folder_paths
    from families.concepts import load

    (embeddings / "old.pt").write_bytes(b"never opened")
    folder_paths.filename_list_cache.clear()
    try:
        with pytest.raises(
            ValueError, match=r"file: old\.pt may run code when it is opened, .* convert it to safetens"
        ):
            load(sd1, "embeddings/old.pt", super_category="cat")
    finally:
        (embeddings / "old.pt").unlink()


def test_an_sdxl_embedding_and_bundle_of_another_program_are_taken(embeddings, output_folder):
    import folder_paths
    from families.concepts import load, make_lora

    models = load_family("sdxl", embedding_directory=str(embeddings))
    own = {"clip_l": torch.rand(2, 768), "clip_g": torch.rand(2, 1280)}
    save_file(own, embeddings / "foreign-xl.safetensors")
    bundled = {
        f"bundle_emb.{name}.{key}": value + place for place, name in enumerate("ab") for key, value in own.items()
    }
    save_file({**make_lora(models[0]), **bundled}, output_folder / "loras" / "foreign-xl-bundle.safetensors")
    folder_paths.filename_list_cache.clear()
    concept = load(models, "embeddings/foreign-xl.safetensors", super_category="cat")[2]
    assert all(torch.equal(concept.vectors[key], value) for key, value in own.items())
    concept = load(models, "loras/foreign-xl-bundle.safetensors", super_category="cat", embedding_name="b")[2]
    assert all(torch.equal(concept.vectors[key], value + 1) for key, value in own.items())


def test_what_replaces_a_file_says_who_still_has_the_old_one(sd1, embeddings):
    (embeddings / "again.safetensors").write_bytes(b"older")
    notes = checked_inputs(sd1, pictures(), concept_name="again").notes
    (embeddings / "again.safetensors").unlink()
    assert any("again is replaced" in note and "go on with the old until" in note for note in notes)
    assert not any("is replaced" in note for note in checked_inputs(sd1, pictures(), concept_name="never-there").notes)


class OnDevice(torch.Tensor):
    """Of a device whose pooling takes only divisors of the length."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        assert func is not torch.nn.functional.adaptive_avg_pool1d, "pooled on the device"
        result = super().__torch_function__(func, types, args, kwargs or {})
        return result.as_subclass(torch.Tensor) if func is torch.Tensor.cpu else result


def test_words_are_pooled_into_vectors_on_the_cpu():
    from core_personalization.core_ops.training.embedding_problem import spread_over_vectors

    words = torch.rand(2, 8)
    torch.testing.assert_close(
        spread_over_vectors(words.as_subclass(OnDevice), 3).as_subclass(torch.Tensor), spread_over_vectors(words, 3)
    )


def test_the_resolution_is_the_models_own_and_one_far_from_it_is_said(sd1):
    far = checked_inputs(sd1, pictures(), resolution=1024).notes
    assert any("1024 is far from the 512 pixels that this model was made for" in note for note in far)
    own = checked_inputs(sd1, pictures(), resolution=0)
    assert own.settings.resolution == 512
    assert not any("is far from" in note for note in own.notes)


def test_previews_have_prompts_negative_steps_guidance_and_size_of_ones_own(sd1):
    drawing = {"preview_prompts": "1girl, {}, solo\na {} drawing", "preview_negative": "photo", "preview_steps": 4}
    plan = checked_inputs(sd1, pictures(), **drawing, preview_guidance=1.0, preview_size=128).preview
    assert (len(plan.prompts), plan.side) == (2, 128)
    assert plan.negative.tokens["clip_l"][1] != plan.negative.tokens["clip_l"][2]
