"""The node "Personalization Scorecard" on real ComfyUI objects, with small random CLIP and DINO models."""

from __future__ import annotations

import csv
import gc
import json
import math
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from families import vision
from PIL import Image

PROMPTS = ("a photo of a embedding:my-cat in Times Square", "a (red:1.2) embedding:my-cat, by the lake")
STYLED = "a painting of a embedding:my-cat"
IDENTITY_SCORES = ("clip_i", "dino", "subject_alignment", "non_subject_disentanglement")


@pytest.fixture(scope="module")
def models(comfyui, comfyui_path, tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("vision")
    clip = vision.save_clip(folder / "clip", comfyui_path / "comfy" / "sd1_tokenizer")
    return {
        "clip_model": str(clip),
        "dino_model": str(vision.save_dino(folder / "dino")),
        "dinov2": str(vision.save_dinov2(folder / "dinov2")),
    }


@pytest.fixture
def scorecards(comfyui) -> Path:
    """The folder that the node writes to, emptied."""
    import folder_paths

    folder = Path(folder_paths.get_output_directory()) / "scorecards"
    for file in folder.glob("*"):
        file.unlink()
    return folder


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    """Blurred noise of these heights and widths, as an image node hands it over."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        small = [torch.rand(1, 3, 6, 6, generator=generator) for _ in sizes]
        large = [torch.nn.functional.interpolate(s, size, mode="bicubic") for s, size in zip(small, sizes, strict=True)]
        return [picture.clamp(0, 1).movedim(1, -1) for picture in large]


def boxes(images: list[torch.Tensor], seed: int = 0) -> list[torch.Tensor]:
    """A rectangle off the centre of each picture."""
    chance = np.random.default_rng(seed)
    masks = []
    for _, height, width, _ in (image.shape for image in images):
        mask = torch.zeros(1, height, width)
        top, left = chance.integers(0, height // 3), chance.integers(0, width // 3)
        mask[:, top : top + height // 2, left : left + width // 2 + 3] = 1
        masks.append(mask)
    return masks


REFERENCES = pictures((48, 48), (40, 64), (70, 50), seed=1)
GENERATED = pictures(*[(48, 48)] * 3, *[(56, 40)] * 4, seed=2)
EACH_PROMPT = [PROMPTS[0], PROMPTS[1], PROMPTS[0], STYLED, PROMPTS[1], PROMPTS[0], STYLED]
MASKS = {"reference_masks": boxes(REFERENCES), "generated_masks": boxes(GENERATED, seed=1)}


def execute(models, references=None, generated=None, prompts=None, **inputs) -> dict[str, Any]:
    """The node as the host runs it: under inference mode, every input a list. Its outputs by name."""
    from core_personalization.nodes.scorecard import PersonalizationScorecard

    sockets = ("reference_masks", "generated_masks", "concept", "compare_with")
    given = {"clip_model": models["clip_model"], "dino_model": models["dino_model"], "super_category": "cat"} | inputs
    values = {name: value if name in sockets else [value] for name, value in given.items()}
    with torch.inference_mode():
        found = PersonalizationScorecard.execute(
            REFERENCES if references is None else references,
            GENERATED if generated is None else generated,
            EACH_PROMPT if prompts is None else prompts,
            **values,
        )
    names = [output.id for output in PersonalizationScorecard.GET_SCHEMA().outputs]
    return dict(zip(names, found.args, strict=True)) | {"ui": found.ui}


def card_of(outputs: dict[str, Any]) -> dict[str, Any]:
    return json.loads(outputs["scores"])["scorecards"][-1]


def overall(outputs: dict[str, Any]) -> dict[str, float]:
    return {name: summary["overall"]["mean"] for name, summary in card_of(outputs)["scores"].items()}


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
    def __init__(self, models: dict[str, str], dino: str) -> None:
        self.clip = transformers.CLIPModel.from_pretrained(models["clip_model"]).eval()
        self.clip_processor = transformers.AutoProcessor.from_pretrained(models["clip_model"])
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


@pytest.mark.parametrize(("dino", "masked"), (("dino_model", True), ("dinov2", True), ("dino_model", False)))
def test_every_score_is_what_transformers_and_numpy_give(models, dino, masked):
    masks = MASKS if masked else {"reference_masks": MASKS["reference_masks"]}
    card = card_of(execute(models, dino_model=models[dino], batch_size=3, **masks))
    expected = expected_scores(Oracle(models, models[dino]), masked)
    assert list(card["scores"]) == list(expected)
    for name, values in expected.items():
        found = [value for value in card["pictures"][name] if value is not None]
        np.testing.assert_allclose(found, values, atol=1e-4, err_msg=name)
        assert card["scores"][name]["overall"]["mean"] == pytest.approx(values.mean(), abs=1e-4)
        prompts = [p for p in EACH_PROMPT if len(values) == len(EACH_PROMPT) or p != STYLED]
        for prompt, estimate in card["scores"][name]["per_prompt"].items():
            part = [value for value, other in zip(values, prompts, strict=True) if other == prompt]
            assert (estimate["mean"], estimate["n"]) == (pytest.approx(np.mean(part), abs=1e-4), len(part))


def test_the_scores_tell_pictures_apart(models):
    """Or the comparison above would compare constants."""
    card = card_of(execute(models, **MASKS))
    assert all(np.std([value for value in values if value is not None]) > 1e-3 for values in card["pictures"].values())


# What the numbers must do


def test_styled_prompts_count_in_the_text_scores_only(models):
    card = card_of(execute(models, **MASKS))
    for name, values in card["pictures"].items():
        left_out = [value is None for value in values]
        assert left_out == [name in IDENTITY_SCORES and prompt == STYLED for prompt in EACH_PROMPT], name
    assert any("1 prompts restyle" in note for note in card["notes"])
    everything = card_of(execute(models, **MASKS, appearance_words=""))
    assert everything["facts"]["in_identity_scores"] == len(GENERATED)


def test_a_set_against_itself_scores_one(models):
    same = [REFERENCES[1]] * 3
    masks = [MASKS["reference_masks"][1]] * 3
    found = overall(execute(models, same, same, ["a cat"], reference_masks=masks, generated_masks=masks))
    assert found["clip_i"] == pytest.approx(1, abs=1e-5)
    assert found["dino"] == pytest.approx(1, abs=1e-5)
    everything = torch.ones(1, 48, 48)
    whole = execute(models, REFERENCES[:1], REFERENCES[:1], ["a cat"], reference_masks=[everything])
    assert overall(whole)["subject_alignment"] == pytest.approx(1, abs=1e-5)
    assert "non_subject_disentanglement" not in overall(whole)


def test_the_order_of_pictures_and_references_does_not_matter(models):
    order, back = [4, 0, 6, 2, 5, 1, 3], [2, 1, 0]
    first = card_of(execute(models, **MASKS))
    other = card_of(
        execute(
            models,
            [REFERENCES[i] for i in back],
            [GENERATED[i] for i in order],
            [EACH_PROMPT[i] for i in order],
            reference_masks=[MASKS["reference_masks"][i] for i in back],
            generated_masks=[MASKS["generated_masks"][i] for i in order],
        )
    )
    for name, summary in first["scores"].items():
        assert other["scores"][name]["overall"] == pytest.approx(summary["overall"], abs=1e-6)
        for prompt, estimate in summary["per_prompt"].items():
            assert other["scores"][name]["per_prompt"][prompt] == pytest.approx(estimate, abs=1e-6, nan_ok=False)


def test_intervals_hold_the_mean_and_come_again_with_the_seed(models):
    first = card_of(execute(models, **MASKS))["scores"]
    for summary in first.values():
        for estimate in (summary["overall"], *summary["per_prompt"].values()):
            assert estimate["low"] <= estimate["mean"] <= estimate["high"]
    assert card_of(execute(models, **MASKS))["scores"] == first
    assert card_of(execute(models, **MASKS, seed=1))["scores"] != first


def test_one_picture_has_means_and_no_interval(models):
    outputs = execute(models, REFERENCES[:1], GENERATED[:1], ["a cat"])
    for summary in card_of(outputs)["scores"].values():
        assert summary["overall"]["n"] == 1
        assert math.isfinite(summary["overall"]["mean"])
        assert summary["overall"]["low"] is summary["overall"]["high"] is None
    assert "n = 1" in outputs["table"]
    assert "nan" not in (outputs["table"] + outputs["scores"]).lower()


def test_pictures_per_pass_do_not_change_the_scores(models):
    one, many = (card_of(execute(models, **MASKS, batch_size=size)) for size in (1, 100))
    for name, values in one["pictures"].items():
        known = [[value for value in row if value is not None] for row in (values, many["pictures"][name])]
        np.testing.assert_allclose(*known, atol=1e-5)


def test_prompts_may_come_per_picture_per_batch_or_as_lines(models):
    batches = [torch.cat(GENERATED[:3]), torch.cat(GENERATED[3:])]
    per_picture = [PROMPTS[0]] * 3 + [PROMPTS[1]] * 4
    expected = card_of(execute(models, generated=batches, prompts=per_picture))
    for prompts in (list(PROMPTS), ["\n".join(PROMPTS)], ["\n".join(per_picture)]):
        assert card_of(execute(models, generated=batches, prompts=prompts)) == expected
    assert card_of(execute(models, generated=batches, prompts=["a cat"]))["prompts"] == ["a cat"] * 7


def test_grey_pictures_and_transparent_ones_are_scored(models):
    grey, transparent = GENERATED[0][..., :1], torch.cat([GENERATED[1], GENERATED[1][..., :1]], dim=-1)
    found = overall(execute(models, generated=[grey, transparent], prompts=["a cat"]))
    assert all(math.isfinite(value) for value in found.values())


def test_the_concept_gives_name_and_super_category(models):
    from core_personalization.nodes.concept import Concept

    concept = Concept("my-cat", "cat", {}, Path("my-cat.safetensors"))
    card = card_of(execute(models, super_category="", concept=[concept]))
    assert card["name"] == "my-cat"
    assert card["scores"] == card_of(execute(models))["scores"]
    assert card["scores"] != card_of(execute(models, super_category="dog"))["scores"]
    assert card_of(execute(models, scorecard_name="mine", concept=[concept]))["name"] == "mine"


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    (
        ({"references": []}, "references: none came"),
        ({"generated": []}, "generated: none came"),
        ({"generated": [torch.full((1, 16, 16, 3), math.nan)], "prompts": ["a cat"]}, "generated: picture 0 .*finite"),
        ({"references": [torch.full((1, 16, 16, 3), math.inf)]}, "references: picture 0 .*finite"),
        ({"references": [torch.ones(1, 16, 16, 5)]}, "references: picture 0 has 5 channels"),
        ({"reference_masks": MASKS["reference_masks"][:2]}, "reference_masks: 2 came for 3 images"),
        ({"reference_masks": [torch.ones(1, 9, 9)] * 3}, "reference_masks: mask 0 is"),
        ({"reference_masks": [torch.zeros(1, *p.shape[1:3]) for p in REFERENCES]}, "reference_masks: mask 0 is empty"),
        ({"reference_masks": [m * math.nan for m in MASKS["reference_masks"]]}, "reference_masks: mask 0 .*finite"),
        ({**MASKS, "generated_masks": [torch.ones(1, 9, 9)] * 7}, "generated_masks: mask 0 is"),
        ({"generated_masks": MASKS["generated_masks"]}, "generated_masks: came without reference_masks"),
        ({"prompts": []}, "prompts: none came"),
        ({"prompts": ["a", "b"]}, "prompts: 2 came for 7 pictures in 7 batches"),
        ({"prompts": ["embedding:my-cat"], "super_category": ""}, "prompts: .*super_category"),
        ({"clip_model": " "}, "clip_model: it is empty"),
        ({"clip_model": "no-such/model"}, "clip_model: 'no-such/model' cannot be loaded: there is no such folder"),
        ({"dino_model": "no-such-model"}, "dino_model: .*allow_downloads"),
        ({"scorecard_name": "../mine"}, "scorecard_name"),
        ({"batch_size": 0}, "batch_size: 0 is out of range"),
        ({"compare_with": ["{}"]}, "compare_with: the text is no scorecard"),
        ({"compare_with": ["a table"]}, "compare_with: the text is no scorecard"),
    ),
)
def test_bad_input_is_refused_with_its_name(models, scorecards, change, message):
    with pytest.raises(ValueError, match=message):
        execute(models, **change)
    assert not list(scorecards.glob("*"))


def test_a_model_of_another_kind_or_without_its_weights_is_refused(models, tmp_path):
    with pytest.raises(ValueError, match=r"clip_model: .* is of type 'vit'"):
        execute(models, clip_model=models["dino_model"])
    with pytest.raises(ValueError, match=r"dino_model: .* is of type 'clip'"):
        execute(models, dino_model=models["clip_model"])
    source = Path(models["dino_model"])
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    with pytest.raises(ValueError, match=r"dino_model: .* model.safetensors"):
        execute(models, dino_model=str(tmp_path))
    from safetensors.torch import load_file, save_file

    weights = load_file(source / "model.safetensors")
    lost = next(name for name in weights if "layernorm" in name)
    save_file(
        {name: weight for name, weight in weights.items() if name != lost},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ValueError, match=r"dino_model: .* lack 1 tensors"):
        execute(models, dino_model=str(tmp_path))


def test_a_model_that_gives_nan_is_refused(models, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in Path(models["dino_model"]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: weight * math.nan for name, weight in weights.items()}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ValueError, match=r"dino_model: .* not finite"):
        execute(models, dino_model=str(tmp_path))


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


def test_nothing_uses_the_network_unless_allowed(models, connections):
    execute(models, **MASKS)
    execute(models, dino_model=models["dinov2"])
    with pytest.raises(ValueError, match="allow_downloads"):
        execute(models, clip_model="openai/clip-vit-base-patch32")
    assert connections == []


def test_folders_need_no_network_even_when_allowed(models, connections):
    execute(models, allow_downloads=True)
    assert connections == []


def test_allowed_downloads_are_tried(models, connections, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between attempts
    with pytest.raises(ValueError, match=r"clip_model: .*check the id and the network"):
        execute(models, clip_model="openai/clip-vit-base-patch32", allow_downloads=True)
    assert connections


def test_a_folder_inside_comfyuis_models_is_found_by_its_name(models):
    import folder_paths

    place = Path(folder_paths.models_dir) / "clip_vision" / "small-clip"
    place.mkdir(parents=True, exist_ok=True)
    for file in Path(models["clip_model"]).iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    assert overall(execute(models, clip_model="clip_vision/small-clip")) == overall(execute(models))


def test_the_host_holds_the_models_while_they_are_used_and_not_longer(models):
    import comfy.model_management as management
    from core_personalization.nodes.host.vision_models import DinoEncoder, VisionSource

    with torch.inference_mode():
        encoder = DinoEncoder(VisionSource("dino_model", models["dino_model"]))
        encoder.pictures([torch.zeros(3, 16, 16)])
    assert any(type(patcher.model).__name__ == "_Network" for patcher in management.loaded_models())
    management.unload_all_models()
    encoder.pictures([torch.zeros(3, 16, 16)])  # the host took it away; it is loaded again
    del encoder
    gc.collect()
    management.cleanup_models()
    assert not any(type(patcher.model).__name__ == "_Network" for patcher in management.loaded_models())


def test_the_global_generator_and_the_pictures_are_left_alone(models):
    before, copies = torch.random.get_rng_state(), [picture.clone() for picture in (*REFERENCES, *GENERATED)]
    execute(models, **MASKS)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(copies, (*REFERENCES, *GENERATED), strict=True))


def test_cancel_stops_between_passes_and_writes_nothing(models, scorecards, monkeypatch):
    import comfy.model_management as management
    from core_personalization.nodes.host import vision_models

    passes = []
    encode = vision_models.VisionEncoder.pictures

    def cancel_after_two(self, batch):
        passes.append(len(batch))
        if len(passes) == 2:
            management.interrupt_current_processing(True)
        return encode(self, batch)

    monkeypatch.setattr(vision_models.VisionEncoder, "pictures", cancel_after_two)
    with pytest.raises(management.InterruptProcessingException):
        execute(models, batch_size=2)
    assert passes == [2, 2]
    assert not list(scorecards.glob("*"))


def test_progress_reaches_the_end(models, monkeypatch):
    from core_personalization.nodes import scorecard_run

    steps = []
    monkeypatch.setattr(scorecard_run.RunProgress, "update", lambda self, step, text: steps.append((step, text)))
    execute(models, **MASKS, batch_size=4)
    assert [step for step, _ in steps] == sorted({step for step, _ in steps})
    # 7 generated + 5 of their foregrounds, twice; 3 references, twice, and in two segments
    assert steps[-1][0] == 7 + 5 + 5 + 3 * 4
    assert {text for _, text in steps} >= {"CLIP, generated pictures", "DINO, generated foregrounds"}


def test_files_are_written_and_never_over_others_unasked(models, scorecards):
    first = execute(models, **MASKS, scorecard_name="mine")
    assert first["csv_file"] == str(scorecards / "mine.csv")
    assert (scorecards / "mine.json").read_text(encoding="utf-8") == first["scores"]
    with open(first["csv_file"], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    means = {row["score"]: float(row["mean"]) for row in rows if not row["prompt"]}
    assert means == pytest.approx(overall(first), abs=1e-6)
    assert {row["prompt"] for row in rows} == {"", *EACH_PROMPT}
    kept = {file.name: file.read_bytes() for file in scorecards.iterdir()}
    second = execute(models, **MASKS, scorecard_name="mine", seed=5)
    assert second["csv_file"] == str(scorecards / "mine-2.csv")
    assert all((scorecards / name).read_bytes() == content for name, content in kept.items())
    third = execute(models, **MASKS, scorecard_name="mine", seed=6, overwrite=True)
    assert third["csv_file"] == first["csv_file"]
    assert (scorecards / "mine.csv").read_bytes() != kept["mine.csv"]


def test_the_table_shows_every_score_and_prompt(models):
    outputs = execute(models, **MASKS, scorecard_name="mine")
    for title in ("CLIP-T", "Text alignment", "CLIP-I", "DINO", "SA", "NSD"):
        assert f"| {title} |" in outputs["table"]
    assert all(f"| {prompt} |" in outputs["table"] for prompt in EACH_PROMPT)
    styled = next(line for line in outputs["table"].splitlines() if line.startswith(f"| {STYLED}"))
    assert styled.count("–") == len(IDENTITY_SCORES)


def test_a_long_prompt_is_cut_and_the_card_says_so(models):
    card = card_of(execute(models, prompts=["a cat " * 60]))
    assert any("beginning of 1 prompts" in note for note in card["notes"])


def test_empty_generated_masks_are_counted(models):
    masks = [MASKS["generated_masks"][0] * 0, *MASKS["generated_masks"][1:]]
    card = card_of(execute(models, reference_masks=MASKS["reference_masks"], generated_masks=masks))
    assert any("1 generated masks are empty" in note for note in card["notes"])


def test_without_dino_masks_or_identity_prompts_the_rest_is_scored(models):
    assert list(overall(execute(models, dino_model=""))) == ["clip_t", "text_alignment", "clip_i"]
    card = card_of(execute(models, prompts=[STYLED], **MASKS))
    assert list(card["scores"]) == ["clip_t", "text_alignment"]
    assert any("No prompt is left" in note for note in card["notes"])


# Comparing


def test_scorecards_gather_along_a_chain(models):
    first = execute(models, scorecard_name="first")
    second = execute(models, scorecard_name="second", compare_with=[first["scores"]], seed=1)
    third = execute(models, scorecard_name="third", compare_with=[first["scores"], second["scores"]], seed=2)
    cards = json.loads(third["scores"])["scorecards"]
    assert [card["name"] for card in cards] == ["first", "second", "third"]
    assert cards[0] == card_of(first)


def test_scores_of_other_models_are_not_compared(models):
    first = execute(models, scorecard_name="first")
    with pytest.raises(ValueError, match=r"compare_with: 'first' was scored with dino_model 'dino'.*'dinov2'"):
        execute(models, dino_model=models["dinov2"], compare_with=[first["scores"]])


def test_the_front_holds_what_nothing_surpasses():
    from core_personalization.nodes.scorecard_charts import pareto_front

    points = [(0.2, 0.9), (0.3, 0.8), (0.25, 0.7), (0.3, 0.8), (0.4, 0.1), (0.39, 0.1)]
    assert pareto_front(points) == [(0.2, 0.9), (0.3, 0.8), (0.4, 0.1)]
    assert pareto_front(points[:1]) == points[:1]


def test_charts_are_pictures_that_differ_with_the_scores(models):
    outputs = execute(models, **MASKS, scorecard_name="first")
    for name in ("chart", "pareto"):
        image = outputs[name]
        assert image.shape[0] == 1 and image.shape[-1] == 3 and 0 <= image.min() < image.max() <= 1
    other = execute(models, **MASKS, scorecard_name="second", compare_with=[outputs["scores"]])
    assert not torch.equal(other["pareto"], outputs["pareto"])
    assert len(outputs["ui"]["images"]) == 2
    no_identity = execute(models, prompts=[STYLED], dino_model="")
    assert no_identity["pareto"].shape == outputs["pareto"].shape
