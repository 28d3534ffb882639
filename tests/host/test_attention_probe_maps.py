"""What the attention probe saw, held to a diffusers U-Net with the same weights and latents."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from families.build import FAMILIES
from families.probing import (
    NEGATIVE,
    PROMPT,
    Call,
    Loaded,
    Sampling,
    assert_whole,
    encode,
    load,
    probed,
    record_calls,
    sample,
)
from oracles import unet
from torch import Tensor

load_oracle = functools.cache(unet.load_oracle)


@pytest.fixture(scope="module")
def loaded() -> Callable[[str], Loaded]:
    """Each family once, when it is first asked for."""
    return functools.cache(load)


@pytest.fixture(scope="module")
def sd1(loaded) -> Loaded:
    return loaded("sd1")


def oracle_maps(oracle: unet.UNetOracle, call: Call, rows: slice, length: int) -> list[Tensor]:
    """diffusers' softmax maps [B, H, P, N] of these rows, layer by layer."""
    height, width = call.x.shape[-2:]
    added = ()
    if call.y is not None:
        added = call.y[rows, :1280], unet.sizes_of(height * 8, width * 8, rows.stop - rows.start)
    with torch.inference_mode():
        return oracle(call.x[rows], call.t[rows], call.context[rows, :length], *added)[1]


def by_word(layer: Tensor, words: Any, size: tuple[int, int]) -> Tensor:
    """[B, H, P, N] → [B, T, H, h, w]."""
    maps = torch.stack([layer[..., list(word.positions)].sum(dim=-1) for word in words], dim=1)
    return maps.unflatten(-1, size)


def sizes_of_layers(maps: list[Tensor], height: int, width: int) -> list[tuple[int, int]]:
    halved = [(-(-height // 2**n), -(-width // 2**n)) for n in range(4)]
    return [next(size for size in halved if size[0] * size[1] == layer.shape[2]) for layer in maps]


@dataclass(frozen=True)
class ProbedRun:
    """One sampling with the probe in a family, and how far its latents are from those without."""

    name: str
    sampling: Sampling
    difference: float
    calls: list[Call]
    captured: Any


@pytest.fixture(scope="module", params=list(FAMILIES))
def run(request, loaded) -> ProbedRun:
    family, sampling = loaded(request.param), Sampling(batch=2)
    with_probe, probe = probed(family)
    calls = record_calls(with_probe)
    latents = sample(family, with_probe, sampling)
    difference = float((latents - sample(family, family.model, sampling)).abs().max())
    assert latents.abs().max() > 0.1
    return ProbedRun(request.param, sampling, difference, calls, probe.captured(latents))


def test_the_probe_does_not_change_the_latents(run):
    assert run.difference < 1e-4
    assert_whole(run.captured)
    assert run.captured.steps == (1, 2)


def test_the_maps_are_those_of_a_diffusers_unet(run):
    """Same weights, same latents: each resolution, each step, the merged maps and the shares."""
    import torch.nn.functional as F

    captured, calls, sampling = run.captured, run.calls, run.sampling
    oracle = load_oracle(run.name)
    finest = tuple(captured.levels[0].sums.shape[-2:])
    assert len(calls) == len(captured.steps) == sampling.steps
    differences = []
    for step, call in enumerate(calls):
        maps = oracle_maps(oracle, call, call.rows(0), 77)
        assert len(maps) == sum(level.layers for level in captured.levels)
        words = [
            by_word(layer, captured.words, size).mean(dim=2, keepdim=True)
            for layer, size in zip(maps, sizes_of_layers(maps, sampling.height, sampling.width), strict=True)
        ]
        for level in captured.levels:
            same_size = [layer for layer in words if layer.shape[-2:] == level.sums.shape[-2:]]
            differences.append(level.mean(step) - torch.stack(same_size).mean(dim=0))
        resized = [F.interpolate(layer.flatten(1, 2), finest, mode="bilinear").unsqueeze(2) for layer in words]
        differences.append(captured.maps(step) - torch.stack(resized).mean(dim=0))
        shares = torch.stack([layer.mean(dim=(2, 3, 4)) for layer in words]).mean(dim=0)
        differences.append(captured.shares(step) - shares)
        assert shares.std() > 1e-3
    worst = max(float(difference.abs().max()) for difference in differences)
    print(f"{run.name}: latents differ by {run.difference:.1e}, maps from diffusers' by {worst:.1e}")
    assert worst < 1e-4


def test_each_head_by_itself_in_one_layer(sd1):
    with_probe, probe = probed(sd1, heads="each", layers="listed", layer_list="middle.0.0", words="dog, photo")
    calls = record_calls(with_probe)
    captured = probe.captured(sample(sd1, with_probe, Sampling()))
    maps = oracle_maps(load_oracle("sd1"), calls[1], calls[1].rows(0), 77)
    middle = maps[2]  # after the two levels of the way down
    expected = by_word(middle, captured.words, tuple(captured.levels[0].sums.shape[-2:]))
    assert expected.shape[2] == 8
    assert (captured.maps(1) - expected).abs().max() < 1e-4


LONG = "a photo of a dog " + "very " * 80 + "in the jungle"


@pytest.mark.parametrize(("prompt", "negative"), [(LONG, NEGATIVE), (PROMPT, "bad " * 90), (LONG, "bad " * 160)])
def test_prompts_of_several_rows_and_different_lengths(sd1, prompt, negative):
    """The first step's latents do not depend on the guidance, so neither do its maps."""
    shares = []
    for cfg in (1.0, 4.0):
        with_probe, probe = probed(sd1, prompt=prompt)
        calls = record_calls(with_probe)
        latents = sample(sd1, with_probe, Sampling(cfg=cfg), encode(sd1, prompt), encode(sd1, negative))
        assert_whole(probe.captured(latents))
        shares.append(probe.captured(latents).shares(0))
    assert calls[0].context.shape[1] > 77
    assert calls[0].parts in ([0, 1], [1, 0])
    assert (shares[0] - shares[1]).abs().max() < 1e-5


def test_the_unconditional_part(sd1):
    with_probe, probe = probed(sd1, prompt=NEGATIVE, part="unconditional")
    calls = record_calls(with_probe)
    captured = probe.captured(sample(sd1, with_probe, Sampling()))
    maps = oracle_maps(load_oracle("sd1"), calls[0], calls[0].rows(1), 77)
    shares = torch.stack([by_word(layer, captured.words, (-1, 1)).mean(dim=(2, 3, 4)) for layer in maps]).mean(dim=0)
    assert (captured.shares(0) - shares).abs().max() < 1e-4
    latents = sample(sd1, with_probe, Sampling(cfg=1.0))
    with pytest.raises(ValueError, match="probe: the sampling had no unconditional part"):
        probe.captured(latents)


def regional(conditioning: Any, area: tuple[int, int, int, int]) -> list:
    """As Conditioning (Set Area): height, width, top, left in cells."""
    return [[context, {**options, "area": area, "strength": 1.0}] for context, options in conditioning]


def test_regions_are_painted_in_place_without_other_prompts(sd1):
    """A dog on the left, a cat on the right, a prompt for all: three entries in one batch or more."""
    dog, cat, rest = (encode(sd1, text) for text in ("a dog", "a cat", "a park"))
    positive = regional(dog, (8, 8, 0, 0)) + regional(cat, (8, 8, 0, 8)) + rest
    sampling = Sampling(width=16, batch=2)
    with_probe, probe = probed(sd1, prompt="a cat", words="cat")
    calls = record_calls(with_probe)
    latents = sample(sd1, with_probe, sampling, positive)
    assert (latents - sample(sd1, sd1.model, sampling, positive)).abs().max() < 1e-4
    captured = probe.captured(latents)
    assert not captured.note
    assert captured.maps()[..., :8].abs().max() < 1e-6
    encoding = cat[0][0][0]
    call, number = next(
        (call, number)
        for call in calls
        for number in range(call.parts.count(0))
        if torch.allclose(call.context[call.rows(0, number)][0, :77], encoding, atol=1e-4)
    )
    assert call.x.shape[-1] == 8
    maps = oracle_maps(load_oracle("sd1"), call, call.rows(0, number), 77)
    fine = [by_word(layer, captured.words, (8, 8)).mean(dim=2) for layer in maps if layer.shape[2] == 64]
    painted = captured.levels[0].mean(0)[:, :, 0]
    assert (painted[..., 8:] - torch.stack(fine).mean(dim=0)).abs().max() < 1e-4


def test_fewer_masks_than_pictures_are_repeated_as_the_host_repeats_them(sd1):
    from nodes import ConditioningSetMask

    with_probe, probe = probed(sd1)
    masks = torch.zeros(2, 8, 12)
    masks[0, :, :6] = masks[1, :, 6:] = 1
    with torch.inference_mode():
        positive = ConditioningSetMask().append(encode(sd1, PROMPT), masks, "default", 1.0)[0]
    captured = probe.captured(sample(sd1, with_probe, Sampling(batch=4), positive + encode(sd1, "a park")))
    painted = captured.maps().sum((1, 2)) > 0
    for picture, seen in enumerate(painted):
        left, right = seen[..., :5].any(), seen[..., 7:].any()
        assert (bool(left), bool(right)) == (picture % 2 == 0, picture % 2 == 1), picture


def test_a_foreign_conditioning_is_said_and_a_given_one_is_found(sd1):
    other = encode(sd1, "a photo of a Patchwork cat, on the (beach:1.2) with a cat")
    with_probe, probe = probed(sd1)
    assert "not what this clip makes" in probe.captured(sample(sd1, with_probe, Sampling(), other)).note
    with_probe, probe = probed(sd1, conditioning=other)
    assert not probe.captured(sample(sd1, with_probe, Sampling(), other)).note
    with pytest.raises(ValueError, match="conditioning: the sampler does not use it"):
        sample(sd1, with_probe, Sampling())


def test_a_prompt_inside_a_longer_conditioning_is_found(sd1):
    joined = [[torch.cat([encode(sd1, "a park")[0][0], encode(sd1, PROMPT)[0][0]], dim=1), {}]]
    with_probe, probe = probed(sd1, words="beach")
    calls = record_calls(with_probe)
    captured = probe.captured(sample(sd1, with_probe, Sampling(cfg=1.0), joined))
    assert not captured.note
    maps = oracle_maps(load_oracle("sd1"), calls[0], calls[0].rows(0), 154)
    (position,) = captured.words[0].positions
    expected = torch.stack([layer[..., 77 + position].mean(dim=(1, 2)) for layer in maps]).mean(dim=0)
    assert torch.allclose(captured.shares(0)[:, 0], expected, atol=1e-4)


def test_tokens_that_a_patch_appends_belong_to_no_word(sd1):
    """As image adapters do: the maps are those of the longer text, and the words' shares leave room for the rest."""
    generator = torch.Generator().manual_seed(5)
    picture = torch.randn(1, 4, 768, generator=generator)

    def append(n: Tensor, context: Tensor, value: Tensor, extra: dict) -> tuple[Tensor, Tensor, Tensor]:
        longer = [torch.cat([x, picture.expand(len(x), -1, -1)], dim=1) for x in (context, value)]
        return n, *longer

    adapted = sd1.model.clone()
    adapted.set_model_attn2_patch(append)
    with_probe, probe = probed(sd1, model=adapted)
    calls = record_calls(with_probe)
    latents = sample(sd1, with_probe, Sampling())
    assert (latents - sample(sd1, adapted, Sampling())).abs().max() < 1e-4
    assert (latents - sample(sd1, sd1.model, Sampling())).abs().max() > 1e-3
    captured = probe.captured(latents)
    call, rows = calls[0], calls[0].rows(0)
    longer = replace(call, context=torch.cat([call.context, picture.expand(len(call.context), -1, -1)], dim=1))
    maps = oracle_maps(load_oracle("sd1"), longer, rows, 77 + 4)
    shares = torch.stack([by_word(layer, captured.words, (-1, 1)).mean(dim=(2, 3, 4)) for layer in maps]).mean(dim=0)
    assert (captured.shares(0) - shares).abs().max() < 1e-4
    assert captured.shares().sum() < 0.999
