"""The node "Personalization Scorecard": its numbers, against transformers, PIL and numpy, and by their properties."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from families.scoring import (
    EACH_PROMPT,
    GENERATED,
    IDENTITY_SCORES,
    MASKS,
    PROMPTS,
    REFERENCES,
    STYLED,
    card_of,
    execute,
    overall,
)
from PIL import Image
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def masked(vision_models) -> dict[str, Any]:
    """The scorecard of all pictures with masks on both sides."""
    return card_of(execute(vision_models, **MASKS))


# The oracle: transformers as anybody would use it, PIL and numpy


def as_pil(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(picture * 255).astype(np.uint8))


def centred(image: Image.Image, mask: np.ndarray) -> Image.Image:
    box = Image.fromarray(np.uint8(mask * 255)).getbbox()
    assert box
    cut = image.crop(box)
    square = Image.new("RGB", (max(cut.size), max(cut.size)))
    square.paste(cut, ((square.width - cut.width) // 2, (square.height - cut.height) // 2))
    return square


class Oracle:
    def __init__(self, vision_models: dict[str, str], dino: str) -> None:
        self.clip = transformers.CLIPModel.from_pretrained(vision_models["clip"]).eval()
        self.clip_processor = transformers.AutoProcessor.from_pretrained(vision_models["clip"])
        self.dino = transformers.AutoModel.from_pretrained(dino).eval()
        self.dino_processor = transformers.AutoImageProcessor.from_pretrained(dino)

    @torch.no_grad()
    def clip_features(self, images: list[Image.Image]) -> np.ndarray:
        """Unit features, picture by picture, through CLIP's whole forward pass with its texts."""
        outputs = [
            self.clip(**self.clip_processor(text=["a"], images=image, return_tensors="pt")).image_embeds
            for image in images
        ]
        return torch.cat(outputs).numpy().astype(np.float64)

    @torch.no_grad()
    def texts(self, texts: list[str]) -> np.ndarray:
        blank = Image.new("RGB", (8, 8))
        outputs = [
            self.clip(**self.clip_processor(text=[text], images=blank, return_tensors="pt")).text_embeds
            for text in texts
        ]
        return torch.cat(outputs).numpy().astype(np.float64)

    @torch.no_grad()
    def dino_features(self, images: list[Image.Image]) -> np.ndarray:
        features = [
            self.dino(**self.dino_processor(images=image, return_tensors="pt")).last_hidden_state[0, 0].numpy()
            for image in images
        ]
        return np.stack([feature / np.linalg.norm(feature) for feature in features]).astype(np.float64)


def expected_scores(oracle: Oracle, masked: bool) -> dict[str, np.ndarray]:
    """Per picture; identity scores of the pictures whose prompt is not a style."""
    references = [
        (image[0].numpy(), mask[0].numpy()) for image, mask in zip(REFERENCES, MASKS["reference_masks"], strict=True)
    ]
    generated = [
        (image[0].numpy(), mask[0].numpy()) for image, mask in zip(GENERATED, MASKS["generated_masks"], strict=True)
    ]
    kept = [pair for pair, prompt in zip(generated, EACH_PROMPT, strict=True) if prompt != STYLED]

    def cut(pairs):
        return [as_pil(image * mask[..., None] if masked else image) for image, mask in pairs]

    whole = oracle.clip_features([as_pil(image) for image, _ in generated])
    whole_kept = oracle.clip_features([as_pil(image) for image, _ in kept])
    read = {
        PROMPTS[0]: "a photo of a cat in Times Square",
        PROMPTS[1]: "a red cat, by the lake",
        STYLED: "a painting of a cat",
    }
    bare = {PROMPTS[0]: "a photo of a in Times Square", PROMPTS[1]: "a red, by the lake", STYLED: "a painting of a"}
    subjects = oracle.clip_features([centred(as_pil(image * mask[..., None]), mask) for image, mask in references])
    surroundings = oracle.clip_features([as_pil(image * (1 - mask[..., None])) for image, mask in references])
    return {
        "clip_t": (whole * oracle.texts([read[prompt] for prompt in EACH_PROMPT])).sum(1),
        "text_alignment": (whole * oracle.texts([bare[prompt] for prompt in EACH_PROMPT])).sum(1),
        "clip_i": (oracle.clip_features(cut(kept)) @ oracle.clip_features(cut(references)).T).mean(1),
        "dino": (oracle.dino_features(cut(kept)) @ oracle.dino_features(cut(references)).T).mean(1),
        "subject_alignment": (whole_kept @ subjects.T).mean(1),
        "non_subject_disentanglement": 1 - (whole_kept @ surroundings.T).mean(1),
    }


@pytest.fixture(scope="module")
def style_model(vision_models, tmp_path_factory) -> Path:
    """A CLIP whose projection is another, as the help page makes CSD's of its style head."""
    folder = tmp_path_factory.mktemp("style")
    shutil.copytree(vision_models["clip"], folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    head = weights["visual_projection.weight"]
    weights["visual_projection.weight"] = torch.randn(head.shape, generator=torch.Generator().manual_seed(3))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@torch.no_grad()
def test_style_compares_whole_pictures_of_every_prompt_by_the_style_head(vision_models, style_model):
    card = card_of(execute(vision_models, style_model=str(style_model), dino_model="", **MASKS))
    clip = transformers.CLIPModel.from_pretrained(vision_models["clip"]).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(vision_models["clip"])
    head = load_file(style_model / "model.safetensors")["visual_projection.weight"]

    def styles(pictures: list[torch.Tensor]) -> torch.Tensor:
        prepared = [processor(as_pil(picture[0].numpy()), return_tensors="pt") for picture in pictures]
        seen = torch.cat([clip.vision_model(**each).pooler_output for each in prepared])  # CSD's backbone
        return torch.nn.functional.normalize(seen @ head.T, dim=-1)

    expected = (styles(GENERATED) @ styles(REFERENCES).T).mean(dim=1)
    np.testing.assert_allclose(card["pictures"]["style"], expected.numpy(), atol=1e-4)
    assert card["scores"]["style"]["overall"]["n"] == len(GENERATED)
    assert card["facts"]["style_model"] == str(style_model)


def test_without_a_style_model_nothing_is_said_of_style(masked):
    assert "style" not in masked["scores"] and not any("Style" in note for note in masked["notes"])


@pytest.mark.parametrize(("dino", "masked"), (("dino", True), ("dinov2", True), ("dino", False)))
def test_every_score_is_what_transformers_and_numpy_give(vision_models, dino, masked):
    masks = MASKS if masked else {"reference_masks": MASKS["reference_masks"]}
    card = card_of(execute(vision_models, dino_model=vision_models[dino], batch_size=3, **masks))
    expected = expected_scores(Oracle(vision_models, vision_models[dino]), masked)
    assert list(card["scores"]) == list(expected)
    for name, values in expected.items():
        found = [value for value in card["pictures"][name] if value is not None]
        np.testing.assert_allclose(found, values, atol=1e-4, err_msg=name)
        assert card["scores"][name]["overall"]["mean"] == pytest.approx(values.mean(), abs=1e-4)
        prompts = [p for p in EACH_PROMPT if len(values) == len(EACH_PROMPT) or p != STYLED]
        for prompt, estimate in card["scores"][name]["per_prompt"].items():
            part = [value for value, other in zip(values, prompts, strict=True) if other == prompt]
            assert (estimate["mean"], estimate["n"]) == (pytest.approx(np.mean(part), abs=1e-4), len(part))


def test_the_scores_tell_pictures_apart(masked):
    """Or the comparison above would compare constants."""
    for values in masked["pictures"].values():
        assert np.std([value for value in values if value is not None]) > 1e-3


# What the numbers must do


def test_styled_prompts_count_in_the_text_scores_only(vision_models, masked):
    for name, values in masked["pictures"].items():
        left_out = [value is None for value in values]
        assert left_out == [name in IDENTITY_SCORES and prompt == STYLED for prompt in EACH_PROMPT], name
    assert any("1 prompts restyle" in note for note in masked["notes"])
    everything = card_of(execute(vision_models, dino_model="", appearance_words=""))
    assert everything["facts"]["in_identity_scores"] == len(GENERATED)


def test_another_concept_in_a_prompt_is_read_as_what_its_file_says(vision_models, embeddings):
    for name, card in (("my-cat", {}), ("my-dog", {"core_personalization.settings": '{"super_category": "dog"}'})):
        save_file({"emb_params": torch.ones(1, 768)}, embeddings / f"{name}.safetensors", card)
    both, unknown = "a embedding:{} and a embedding:my-dog in town", "a embedding:my-cat with embedding:none in town"
    given = {"dino_model": "", "references": REFERENCES[:1], "generated": GENERATED[:1]}
    found = overall(execute(vision_models, prompts=[both.format("my-cat")], **given))
    same = overall(execute(vision_models, prompts=["a cat and a dog in town"], **given))
    assert found["clip_t"] == pytest.approx(same["clip_t"], abs=1e-5)
    card = card_of(execute(vision_models, prompts=[unknown], **given))
    assert any(note.endswith("whose files say no super-category: none.") for note in card["notes"])
    assert overall(execute(vision_models, prompts=["a cat with in town"], **given))["clip_t"] == pytest.approx(
        card["scores"]["clip_t"]["overall"]["mean"]
    )


def test_a_name_that_is_a_style_counts_as_the_concept_it_is(vision_models):
    given = {"dino_model": "", "references": REFERENCES[:1], "generated": GENERATED[:1]}
    card = card_of(execute(vision_models, prompts=["a embedding:red-boots cat in town"], **given))
    assert card["facts"]["in_identity_scores"] == 1 and not any("restyle" in note for note in card["notes"])


def test_a_set_against_itself_scores_one(vision_models):
    same = [REFERENCES[1]] * 3
    masks = [MASKS["reference_masks"][1]] * 3
    found = overall(execute(vision_models, same, same, ["a cat"], reference_masks=masks, generated_masks=masks))
    assert found["clip_i"] == pytest.approx(1, abs=1e-5)
    assert found["dino"] == pytest.approx(1, abs=1e-5)
    everything = torch.ones(1, 48, 48)
    whole = execute(vision_models, REFERENCES[:1], REFERENCES[:1], ["a cat"], reference_masks=[everything])
    assert overall(whole)["subject_alignment"] == pytest.approx(1, abs=1e-5)
    assert "non_subject_disentanglement" not in overall(whole)


def test_the_order_of_pictures_and_references_does_not_matter(vision_models, masked):
    order, back = [4, 0, 6, 2, 5, 1, 3], [2, 1, 0]
    other = card_of(
        execute(
            vision_models,
            [REFERENCES[i] for i in back],
            [GENERATED[i] for i in order],
            [EACH_PROMPT[i] for i in order],
            reference_masks=[MASKS["reference_masks"][i] for i in back],
            generated_masks=[MASKS["generated_masks"][i] for i in order],
        )
    )
    for name, summary in masked["scores"].items():
        assert other["scores"][name]["overall"] == pytest.approx(summary["overall"], abs=1e-6)
        for prompt, estimate in summary["per_prompt"].items():
            assert other["scores"][name]["per_prompt"][prompt] == pytest.approx(estimate, abs=1e-6, nan_ok=False)


def test_intervals_hold_the_mean_and_come_again_with_the_seed(vision_models, masked):
    first = masked["scores"]
    for summary in first.values():
        for estimate in (summary["overall"], *summary["per_prompt"].values()):
            assert estimate["low"] <= estimate["mean"] <= estimate["high"]
    assert card_of(execute(vision_models, **MASKS))["scores"] == first
    assert card_of(execute(vision_models, **MASKS, seed=1))["scores"] != first


def test_one_picture_has_means_and_no_interval(vision_models):
    outputs = execute(vision_models, REFERENCES[:1], GENERATED[:1], ["a cat"])
    for summary in card_of(outputs)["scores"].values():
        assert summary["overall"]["n"] == 1
        assert math.isfinite(summary["overall"]["mean"])
        assert summary["overall"]["low"] is summary["overall"]["high"] is None
    assert "n = 1" in outputs["table"]
    assert "nan" not in (outputs["table"] + outputs["scores"]).lower()


def test_pictures_per_pass_do_not_change_the_scores(vision_models, masked):
    one = card_of(execute(vision_models, **MASKS, batch_size=1))
    for name, values in one["pictures"].items():
        known = [[value for value in row if value is not None] for row in (values, masked["pictures"][name])]
        np.testing.assert_allclose(*known, atol=1e-5)


def test_prompts_may_come_per_picture_per_batch_or_as_lines(vision_models):
    batches = [torch.cat(GENERATED[:3]), torch.cat(GENERATED[3:])]
    per_picture = [PROMPTS[0]] * 3 + [PROMPTS[1]] * 4
    from core_personalization.nodes.evaluation.evaluation_inputs import prompt_of_each_picture

    for prompts in (per_picture, list(PROMPTS), ["\n".join(PROMPTS)], ["\n".join(per_picture)]):
        assert prompt_of_each_picture(prompts, batches) == per_picture
    assert prompt_of_each_picture(["a cat"], batches) == ["a cat"] * 7
    assert prompt_of_each_picture(["a cat\nin a hat", "a  dog"], batches) == ["a cat in a hat"] * 3 + ["a dog"] * 4
    card = card_of(execute(vision_models, generated=batches, prompts=list(PROMPTS), dino_model=""))
    assert card["prompts"] == per_picture


def test_grey_pictures_and_transparent_ones_are_scored(vision_models):
    grey, transparent = GENERATED[0][..., :1], torch.cat([GENERATED[1], GENERATED[1][..., :1]], dim=-1)
    found = overall(execute(vision_models, generated=[grey, transparent], prompts=["a cat"]))
    assert all(math.isfinite(value) for value in found.values())


def test_the_concept_gives_name_and_super_category(vision_models):
    from core_personalization.nodes.concept import Concept

    concept = Concept("my-cat", "cat", {}, Path("my-cat.safetensors"))
    quick = {"dino_model": "", "generated": GENERATED[:2], "prompts": list(PROMPTS)}
    card = card_of(execute(vision_models, super_category="", concept=[concept], **quick))
    assert card["name"] == "my-cat"
    assert card["scores"] == card_of(execute(vision_models, **quick))["scores"]
    other = card_of(execute(vision_models, super_category="dog", scorecard_name="mine", concept=[concept], **quick))
    assert other["name"] == "mine"
    assert other["scores"] != card["scores"]
