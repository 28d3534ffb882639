"""The node Attention Maps on what a probe saw of a real sampling, and the example workflow through a server."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families.load import load_family
from torch import Tensor

TEMPLATE = "See where a word acts - attention maps"
PROMPT = "a photo of a dog, $5 | on the beach with a dog"
SECOND = "a photo of a puppy in the snow"
STEPS = 3
HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    model, clip, _ = load_family("sd1")
    return model, clip


def probed_sampling(loaded: tuple[Any, Any], prompt: str, images: int = 2, **inputs: Any) -> dict[str, Any]:
    """The sockets of Attention Maps, after a sampling of `images` latents; pictures are drawn at random."""
    import comfy.sample
    from core_personalization.nodes.insight.attention_probe import ContextAttentionProbe

    model, clip = loaded
    with torch.inference_mode():
        encoded = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
        watched, probe = ContextAttentionProbe.execute(model, clip, prompt=prompt, **inputs).args
        latent = torch.zeros(images, 4, HEIGHT // 8, WIDTH // 8)
        noise = comfy.sample.prepare_noise(latent, 3)
        positive, options = encoded, {"disable_pbar": True, "seed": 3}
        samples = comfy.sample.sample(
            watched, noise, STEPS, 1.0, "euler", "normal", positive, positive, latent, **options
        )
    pictures = torch.rand(images, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(1))
    return {"probe": probe, "latent": {"samples": samples}, "images": pictures}


@pytest.fixture(scope="module")
def first(loaded) -> dict[str, Any]:
    return probed_sampling(loaded, PROMPT)


@pytest.fixture(scope="module")
def second(loaded) -> dict[str, Any]:
    return {f"second_{name}": value for name, value in probed_sampling(loaded, SECOND).items()}


def maps(*sockets: dict[str, Any], **inputs: Any) -> tuple[Tensor, Tensor, str, Tensor]:
    """Overlays, masks, table and frames."""
    from core_personalization.nodes.insight.attention_maps import AttentionMaps

    with torch.inference_mode():
        return AttentionMaps.execute(**{name: value for part in sockets for name, value in part.items()}, **inputs).args


@pytest.fixture(scope="module")
def shown(first) -> tuple[Tensor, Tensor, str, Tensor]:
    return maps(first)


def columns(table: str) -> dict[str, list[float]]:
    """The table's numbers, by token."""
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    return {row[0].strip(): [float(cell) for cell in row[1:]] for row in rows[2:]}


def test_the_table_has_every_tokens_share_and_they_sum_to_one(first, shown):
    numbers = columns(shown[2])
    words = [
        "a",
        "photo",
        "of",
        "a (2)",
        "dog",
        ",",
        "$",
        "5",
        "&#124;",
        "on",
        "the",
        "beach",
        "with",
        "a (3)",
        "dog (2)",
    ]
    assert list(numbers) == ["(start of text)", *words, "(end and padding)", "sum"]
    shares = first["probe"].captured(first["latent"]["samples"]).shares()
    for column in range(2):
        cells = [row[column] for label, row in numbers.items() if label != "sum"]
        assert sum(cells) == pytest.approx(1, abs=1e-3)
        assert numbers["sum"][column] == 1
        assert numbers["beach"][column] == pytest.approx(float(shares[column, 12]), abs=1e-4)
    assert numbers["beach"][2] == pytest.approx(sum(numbers["beach"][:2]) / 2, abs=1e-4)


def test_words_alone_leave_a_rest(loaded):
    sockets = probed_sampling(loaded, PROMPT, 1, words="dog, beach")
    numbers = columns(maps(sockets)[2])
    assert list(numbers) == ["dog", "dog (2)", "beach", "(other tokens)", "sum"]
    assert numbers["sum"] == [1, 1]


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_pictures_may_be_grey_or_transparent(first, channels):
    colours = maps({**first, "images": torch.full((2, HEIGHT, WIDTH, 3), 0.5)})[0]
    same = torch.full((2, HEIGHT, WIDTH, channels), 0.5)
    if channels % 2 == 0:
        same[..., -1] = 1
    assert torch.equal(maps({**first, "images": same})[0], colours)


def test_masks_have_the_images_size_and_stand_word_by_word(shown, first):
    masks = shown[1]
    assert masks.shape == (15 * 2, HEIGHT, WIDTH)
    assert masks.min() >= 0
    assert torch.allclose(masks.amax(dim=(1, 2)), torch.ones(len(masks)))
    beach = maps(first, words="Beach")[1]
    assert torch.equal(beach, masks[11 * 2 : 12 * 2])
    hard = maps(first, words="beach", mask="threshold", threshold=0.7)[1]
    assert torch.equal(hard, (beach >= 0.7).float())
    assert 0 < hard.mean() < 1
    assert maps(first, words="dog")[1].shape[0] == 2 * 2


def test_pages_show_the_picture_and_its_maps(first, shown):
    overlays = shown[0]
    assert overlays.shape[0] == 2 and overlays.shape[3] == 3
    assert overlays.min() >= 0 and overlays.max() <= 1
    assert (overlays[0] - overlays[1]).abs().max() > 0.1
    plain, coloured = (maps(first, words="beach", opacity=opacity)[0] for opacity in (0.0, 1.0))
    assert (plain - coloured).abs().max() > 0.1
    grey = maps(first, words="beach", opacity=1.0, color_map="gray")[0][0]
    assert (grey[..., 0] - grey[..., 1]).abs().mean() < (coloured[0, ..., 0] - coloured[0, ..., 1]).abs().mean()


def test_one_scale_for_all_words_dims_the_weaker(first):
    """With one word both scales are the same; with several, most are below the strongest."""
    own, common = (maps(first, color_map="gray", opacity=1.0, scale=scale)[0] for scale in ("each word", "all words"))
    assert common.mean() < own.mean()
    own, common = (maps(first, words="beach", scale=scale)[0] for scale in ("each word", "all words"))
    assert torch.equal(own, common)


def test_frames_follow_the_steps(first, shown):
    frames = shown[3]
    assert frames.shape[0] == 2 * STEPS
    assert (frames[0] - frames[1]).abs().max() > 0.05
    done = [float((frame[-1, :, 0] < 0.5).float().mean()) for frame in frames]
    assert done[:STEPS] == pytest.approx([(n + 1) / STEPS for n in range(STEPS)], abs=0.01)
    assert done[STEPS:] == done[:STEPS]


def test_without_steps_there_is_one_frame(loaded):
    sockets = probed_sampling(loaded, PROMPT, 1, each_step=False)
    assert maps(sockets)[3].shape[0] == 1


def test_two_probes_side_by_side(first, second, shown):
    overlays, masks, table, frames = maps(first, second)
    assert overlays.shape[0] == 2 and frames.shape[0] == 2 * STEPS
    assert overlays.shape[1] > shown[0].shape[1]
    assert torch.equal(masks, shown[1])
    assert table.count("| token |") == 2
    assert PROMPT in table and SECOND in table
    assert table.index("puppy") > table.index("beach")


def test_heads_are_shown_apart(loaded):
    sockets = probed_sampling(loaded, PROMPT, 1, words="beach", layers="1/2", heads="each")
    overlays, masks, _, _ = maps(sockets)
    assert masks.shape == (1, HEIGHT, WIDTH)
    together = maps(probed_sampling(loaded, PROMPT, 1, words="beach", layers="1/2"))
    assert torch.allclose(masks, together[1], atol=1e-5)
    assert overlays.shape[1] > together[0].shape[1]


def test_an_empty_prompt_shows_start_and_padding(loaded):
    """The usual negative prompt has no words."""
    sockets = probed_sampling(loaded, "", 1)
    overlays, masks, table, frames = maps(sockets, scale="all words")
    assert list(columns(table)) == ["(start of text)", "(end and padding)", "sum"]
    assert masks.shape == (2, HEIGHT, WIDTH)
    assert len(overlays) == 1 and len(frames) == STEPS


def test_what_does_not_belong_together_is_refused(first, second):
    with pytest.raises(ValueError, match="images: got 1 for 2 latents"):
        maps({**first, "images": first["images"][:1]})
    with pytest.raises(ValueError, match="images: picture 0 has 5 channels"):
        maps({**first, "images": torch.rand(2, HEIGHT, WIDTH, 5)})
    with pytest.raises(ValueError, match="latent: it is not what the last sampling through the probe's model"):
        maps({**first, "latent": {"samples": first["latent"]["samples"] + 1}})
    with pytest.raises(ValueError, match=r"words: 'cat' was not watched. The words that were: .*beach"):
        maps(first, words="cat")
    with pytest.raises(ValueError, match="second_probe: connect second_latent and second_images"):
        maps(first, {"second_probe": second["second_probe"]})
    with pytest.raises(ValueError, match="second_images: got 1 beside 2"):
        maps(first, {**second, "second_images": second["second_images"][:1]})
    with pytest.raises(ValueError, match=r"threshold: 2\.0 is out of range"):
        maps(first, threshold=2.0)


def test_the_workflow_compares_a_concept_with_its_super_category(server, my_dog):
    from driver import quick_start

    workflow = quick_start.template(server.client, TEMPLATE)
    by_type = {node["class_type"]: node_id for node_id, node in workflow.items()}
    samplers = [node_id for node_id, node in workflow.items() if node["class_type"] == "KSampler"]
    for node_id in samplers:
        workflow[node_id]["inputs"]["steps"] = STEPS
    workflow["masks"] = {"class_type": "MaskPreview", "inputs": {"mask": [by_type["CoReAttentionMaps"], 1]}}
    execution = server.client.submit(workflow)
    assert len(execution.outputs[by_type["CoReAttentionMaps"]]["images"]) == 2
    (table,) = execution.outputs[by_type["PreviewAny"]]["text"]
    assert table.count("| sum | 1.0000 | 1.0000 | 1.0000 |") == 2
    assert f"embedding:{my_dog}" in table and "not what this clip makes" not in table
    assert len(execution.outputs[by_type["SaveAnimatedWEBP"]]["images"]) == 1

    # Another setting of the maps alone: sampler and probe come from the cache, and the probe still holds its maps.
    workflow[by_type["CoReAttentionMaps"]]["inputs"]["words"] = "beach, hat"
    again = server.client.submit(workflow)
    cached = next(m["data"]["nodes"] for m in again.messages if m["type"] == "execution_cached")
    assert set(samplers) <= set(cached) and by_type["CoReAttentionMaps"] not in cached
    assert len(again.outputs["masks"]["images"]) == 2 * 2
