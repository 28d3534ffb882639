"""Apply Concept and the probe beside other nodes that change what a sampler hands to the U-Net."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import probing
from families.applying import SAMPLING, apply, draw, read_by_layers
from families.embedding import execute

GIVEN = {"super_category": "dog", "learning_rate": 0.05, "steps": 2, "batch_size": 2}


@pytest.fixture
def by_layer(sd1, embeddings):
    """A concept whose layers differ."""
    concept, *_ = execute(sd1, concept_name="among-others", method="XTI (P+)", **GIVEN)
    return concept


def in_area(conditioning: Any, height: int = 48, width: int = 64) -> Any:
    from nodes import ConditioningSetArea

    with torch.inference_mode():
        return ConditioningSetArea().append(conditioning, height, width, 0, 0, 1.0)[0]


def negative_of(models: Any, text: str) -> Any:
    return probing.encode(probing.Loaded("", *models[:2]), text)


@pytest.mark.parametrize("text", ["blurry", "blurry " * 100])
@pytest.mark.parametrize("of_negative", [False, True])
def test_an_area_leaves_the_negative_prompt_its_text(sd1, by_layer, text, of_negative):
    """ComfyUI copies an entry with an area into the other part. Of a text of two lengths both repetitions change."""
    model, conditioning = apply(sd1, by_layer)
    negative = negative_of(sd1, text)
    positive, negative = (conditioning, in_area(negative)) if of_negative else (in_area(conditioning), negative)
    seen = read_by_layers(sd1, (model, positive), negative=negative)
    known = negative[0][0][0]
    own, distinct = [0, 0], set()
    for both in seen:
        for rows in both:
            for row in rows:
                period = row[: len(known)] if len(row) >= len(known) else row
                is_negative = torch.allclose(period, known[: len(period)], atol=1e-4)
                own[is_negative] += 1
                if not is_negative:
                    halves = row.split(77)
                    assert all(torch.equal(half, halves[0]) for half in halves)
                    assert not torch.allclose(halves[0], conditioning[0][0][0], atol=1e-4), "the mean"
                    distinct.add(halves[0].sum().item())
    times_own, times_negative = (2, 1) if of_negative else (1, 2)
    assert own[0] * times_negative == own[1] * times_own > 0
    assert len(distinct) == len(by_layer.space_time.by_layer["clip_l"])


def tiled(model: Any, tiles: int) -> Any:
    """As Tiled Diffusion calls the U-Net: several parts of the picture at once, each with all chunks."""

    def wrapper(apply_model: Any, given: Any) -> torch.Tensor:
        x, t, c = given["input"], given["timestep"], given["c"]
        parts = x.chunk(tiles, dim=-1)
        many = {key: torch.cat([value] * tiles) if torch.is_tensor(value) else value for key, value in c.items()}
        drawn = apply_model(torch.cat(parts), torch.cat([t] * tiles), **many)
        return torch.cat(drawn.chunk(tiles), dim=-1)

    cut = model.clone()
    cut.set_model_unet_function_wrapper(wrapper)
    return cut


def test_a_picture_in_tiles_reads_the_concept_where_it_is_meant(sd1, by_layer):
    model, conditioning = apply(sd1, by_layer)
    known = negative_of(sd1, "blurry")[0][0][0]
    sampling = probing.Sampling(steps=1, height=8, width=16)
    plain = read_by_layers(sd1, (model, conditioning), sampling, negative_of(sd1, "blurry"))
    cut = read_by_layers(sd1, (tiled(model, 2), conditioning), sampling, negative_of(sd1, "blurry"))
    for (whole, _), (parts, _) in zip(plain, cut, strict=True):
        assert len(parts) == 2 * len(whole)
        for tile in parts.chunk(2):
            torch.testing.assert_close(tile, whole, rtol=0, atol=1e-4)
        assert sum(torch.allclose(row, known, atol=1e-4) for row in parts) == 2


def test_a_batch_that_nobody_can_tell_apart_is_refused(sd1, by_layer):
    model, conditioning = apply(sd1, by_layer)

    def one_by_one(apply_model: Any, given: Any) -> torch.Tensor:
        c = given["c"]
        rows = [slice(number, number + 1) for number in range(len(given["input"]))]
        parts = [
            apply_model(
                given["input"][row],
                given["timestep"][row],
                **{key: value[row] if torch.is_tensor(value) else value for key, value in c.items()},
            )
            for row in rows
        ]
        return torch.cat(parts)

    split = model.clone()
    split.set_model_unet_function_wrapper(one_by_one)
    with pytest.raises(ValueError, match="model: a node on it hands the U-Net a batch of its own"):
        draw(sd1, (split, conditioning))


@pytest.mark.parametrize("tiles", [1, 2])
def test_a_probe_says_that_tiles_have_no_place_in_its_maps(sd1, tiles):
    loaded = probing.Loaded("", *sd1[:2])
    with_probe, _ = probing.probed(loaded)
    if tiles == 1:
        probing.sample(loaded, tiled(with_probe, 1), SAMPLING)
        return
    with pytest.raises(ValueError, match="model: a node on it draws the picture in parts of its own"):
        probing.sample(loaded, tiled(with_probe, 2), probing.Sampling(steps=1, height=8, width=16))


def with_hooks(clip: Any) -> Any:
    """As Set CLIP Hooks leaves it."""
    import comfy.hooks

    hooked = clip.clone()
    hooked.patcher.forced_hooks = comfy.hooks.create_hook_lora({}, 1.0, 1.0)
    hooked.use_clip_schedule = True
    return hooked


def test_hooks_on_the_text_encoder_are_refused_where_it_is_copied_alone(sd1, by_layer):
    from dataclasses import replace

    hooked = sd1[0], with_hooks(sd1[1])
    with pytest.raises(ValueError, match="clip: it carries scheduled LoRA hooks"):
        apply(hooked, by_layer)
    apply(hooked, replace(by_layer, space_time=None))
    probing.probed(probing.Loaded("", *hooked))


def test_other_nodes_change_what_a_layer_reads(sd1, by_layer):
    """As Load Hypernetwork does."""
    model, conditioning = apply(sd1, by_layer)
    doubled = model.clone()
    doubled.set_model_attn2_patch(lambda q, k, v, extra_options: (q, 2 * k, v))
    plain, changed = (read_by_layers(sd1, (each, conditioning)) for each in (model, doubled))
    for (keys, values), (doubled_keys, same_values) in zip(plain[:4], changed[:4], strict=True):
        torch.testing.assert_close(doubled_keys, 2 * keys)
        torch.testing.assert_close(same_values, values)


def test_a_sampler_that_looks_between_steps_copies_the_text_encoder_once(sd1, embeddings, monkeypatch):
    from core_personalization.nodes.host.attention import layered_sampling

    concept, *_ = execute(sd1, concept_name="between", method="NeTI", **GIVEN)
    applied = apply(sd1, concept)
    made, real = [], layered_sampling.HostTextEncoder
    monkeypatch.setattr(layered_sampling, "HostTextEncoder", lambda clip: made.append(1) or real(clip))
    (sampling,) = (
        wrapper.__self__
        for wrappers in applied[0].wrappers.values()
        for name, listed in wrappers.items()
        if str(name).startswith("core_layers_")
        for wrapper in listed[:1]
        if wrapper.__name__ == "_sample"
    )
    draw(sd1, applied, probing.Sampling(sampler="dpmpp_sde", steps=4))
    assert len(made) == 2, "one before the sampling, one between its steps"
    first = set(sampling._texts)
    draw(sd1, applied, probing.Sampling(sampler="euler", steps=3))
    assert len(sampling._texts) == 3 and not set(sampling._texts) >= first, "texts of another schedule are kept"
