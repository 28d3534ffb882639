"""The attention probe on real ComfyUI models, held to the unprobed sampling and to a diffusers U-Net."""

from __future__ import annotations

import functools
import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families.build import FAMILIES
from families.load import load_family
from oracles import unet
from torch import Tensor

PROMPT = "a photo of a Patchwork dog, on the (beach:1.2) with a dog"
NEGATIVE = "blurry"
SEED = 7

load_oracle = functools.cache(unet.load_oracle)


@dataclass(frozen=True)
class Loaded:
    name: str
    model: Any
    clip: Any


@pytest.fixture(scope="module")
def families() -> dict[str, Loaded]:
    """Loaded when first asked for."""

    class Lazy(dict):
        def __missing__(self, name: str) -> Loaded:
            model, clip, _ = load_family(name)
            self[name] = Loaded(name, model, clip)
            return self[name]

    return Lazy()


@pytest.fixture(scope="module")
def sd1(families) -> Loaded:
    return families["sd1"]


def probed(loaded: Loaded, conditioning: Any = None, model: Any = None, **inputs: Any) -> tuple[Any, Any]:
    """The node's two outputs."""
    from core_personalization.nodes.insight.attention_probe import ContextAttentionProbe

    with torch.inference_mode():
        output = ContextAttentionProbe.execute(
            model or loaded.model, loaded.clip, conditioning, **{"prompt": PROMPT, **inputs}
        )
    return output.args


def encode(loaded: Loaded, text: str) -> Any:
    with torch.inference_mode():
        return loaded.clip.encode_from_tokens_scheduled(loaded.clip.tokenize(text))


@dataclass(frozen=True)
class Sampling:
    sampler: str = "euler"
    cfg: float = 3.0
    batch: int = 1
    steps: int = 2
    height: int = 8
    width: int = 12
    seed: int = SEED


def sample(loaded: Loaded, model: Any, sampling: Sampling, positive: Any = None, negative: Any = None) -> Tensor:
    """As core's KSampler node does."""
    import comfy.sample

    shape = sampling.batch, 4, sampling.height, sampling.width
    with torch.inference_mode():
        latent = torch.zeros(shape)
        return comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(latent, sampling.seed),
            sampling.steps,
            sampling.cfg,
            sampling.sampler,
            "normal",
            positive or encode(loaded, PROMPT),
            negative or encode(loaded, NEGATIVE),
            latent,
            disable_pbar=True,
            seed=sampling.seed,
        )


def compare_probed(loaded: Loaded, sampling: Sampling, model: Any = None) -> tuple[float, Any]:
    """Largest difference between the latents with and without probe, and what the probe saw."""
    model = model or loaded.model
    plain = sample(loaded, model, sampling)
    with_probe, probe = probed(loaded, model=model)
    latents = sample(loaded, with_probe, sampling)
    assert plain.abs().max() > 0.1
    return float((plain - latents).abs().max()), probe.captured(latents)


def assert_whole(captured: Any) -> None:
    assert torch.allclose(captured.shares().sum(dim=1), torch.ones(captured.images), atol=1e-5)
    assert not captured.note


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddim", "heun"])
@pytest.mark.parametrize(("cfg", "batch"), [(1.0, 3), (4.0, 1)])
def test_nor_with_other_samplers_without_cfg_or_with_several_images(sd1, sampler, cfg, batch):
    difference, captured = compare_probed(sd1, Sampling(sampler, cfg, batch))
    assert difference < 1e-4
    assert captured.images == batch
    assert_whole(captured)


@pytest.mark.every_comfyui
def test_a_patch_set_before_or_after_the_probe_still_makes_the_output(sd1):
    def louder(q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
        from comfy.ldm.modules.attention import optimized_attention

        calls.append(extra["block"])
        return 1.5 * optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra)

    calls: list = []
    patched = sd1.model.clone()
    patched.set_model_attn2_replace(louder, "middle", 0)
    difference, captured = compare_probed(sd1, Sampling(), patched)
    assert difference < 1e-4
    assert_whole(captured)
    expected, count = sample(sd1, patched, Sampling()), len(calls)
    assert (expected - sample(sd1, sd1.model, Sampling())).abs().max() > 1e-3

    after, probe = probed(sd1)
    after.set_model_attn2_replace(louder, "middle", 0)
    latents = sample(sd1, after, Sampling())
    assert (latents - expected).abs().max() < 1e-4
    assert len(calls) > count
    assert torch.allclose(probe.captured(latents).shares(), captured.shares(), atol=1e-5)


@dataclass(frozen=True)
class Call:
    """One call of the U-Net as the host made it."""

    x: Tensor
    t: Tensor
    context: Tensor
    y: Tensor | None
    parts: list[int]

    def rows(self, part: int, number: int = 0) -> slice:
        """Of the `number`-th chunk of a part."""
        chunk = [i for i, name in enumerate(self.parts) if name == part][number]
        images = len(self.x) // len(self.parts)
        return slice(chunk * images, (chunk + 1) * images)


def record_calls(model: Any) -> list[Call]:
    """Follows the U-Net of a MODEL that is not cloned any more; the list fills while it samples."""
    from comfy.patcher_extension import WrappersMP

    calls: list[Call] = []

    def wrapper(executor, x, t, context, y, control, options, **more):
        calls.append(Call(x.clone(), t.clone(), context.clone(), y, list(options["cond_or_uncond"])))
        return executor(x, t, context, y, control, options, **more)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", wrapper)
    return calls


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
def run(request, families) -> ProbedRun:
    loaded, sampling = families[request.param], Sampling(batch=2)
    with_probe, probe = probed(loaded)
    calls = record_calls(with_probe)
    latents = sample(loaded, with_probe, sampling)
    difference = float((latents - sample(loaded, loaded.model, sampling)).abs().max())
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


def test_regions_are_painted_where_they_lie_and_other_prompts_are_left_out(sd1):
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


def test_tokens_that_a_patch_appends_to_the_text_belong_to_no_word(sd1):
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


def test_passes_that_a_guidance_method_adds_are_not_counted(sd1):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    with_probe, probe = probed(sd1)
    with torch.inference_mode():
        guided = PerturbedAttentionGuidance.execute(with_probe, 3.0).args[0]
    calls = record_calls(guided)
    captured = probe.captured(sample(sd1, guided, Sampling()))
    assert len(calls) == 4
    for level in captured.levels:
        assert torch.equal(level.weights, torch.full_like(level.weights, level.layers))


@pytest.mark.parametrize(("part", "prompt"), [("conditional", PROMPT), ("unconditional", NEGATIVE)])
def test_a_guider_that_hands_on_the_parts_in_another_order(sd1, part, prompt):
    """Core's DualCFGGuider: negative, middle, positive."""
    import comfy.sample
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    with_probe, probe = probed(sd1, part=part, prompt=prompt)
    with torch.inference_mode():
        guider = Guider_DualCFG(with_probe)
        guider.set_conds(encode(sd1, PROMPT), encode(sd1, "a park"), encode(sd1, NEGATIVE))
        guider.set_cfg(3.0, 2.0)
        latent = torch.zeros(1, 4, 8, 12)
        noise = comfy.sample.prepare_noise(latent, SEED)
        sigmas = comfy.samplers.calculate_sigmas(with_probe.get_model_object("model_sampling"), "normal", 2)
        latents = guider.sample(noise, latent, comfy.samplers.ksampler("euler"), sigmas, disable_pbar=True, seed=SEED)
    captured = probe.captured(latents)
    assert_whole(captured)
    for level in captured.levels:
        assert torch.equal(level.weights, torch.full_like(level.weights, level.layers))


def test_a_controlnet_acts_and_is_not_counted(sd1):
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = {**sd1.model.model.model_config.unet_config, "hint_channels": 3, "dtype": torch.float32}
    config.pop("out_channels", None)
    network = comfy.cldm.cldm.ControlNet(**config, operations=comfy.ops.disable_weight_init).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = 0.02 * torch.randn(parameter.shape, generator=generator)
    control = comfy.controlnet.ControlNet(network, load_device=sd1.model.load_device)
    hint = control.set_cond_hint(torch.rand(1, 3, 64, 96, generator=generator), 1.0, (0.0, 1.0))
    positive = [
        [context, {**more, "control": hint, "control_apply_to_uncond": True}] for context, more in encode(sd1, PROMPT)
    ]
    expected = sample(sd1, sd1.model, Sampling(), positive)
    assert (expected - sample(sd1, sd1.model, Sampling())).abs().max() > 1e-3
    with_probe, probe = probed(sd1)
    latents = sample(sd1, with_probe, Sampling(), positive)
    assert (latents - expected).abs().max() < 1e-4
    captured = probe.captured(latents)
    assert_whole(captured)
    for level in captured.levels:
        assert torch.equal(level.weights, torch.full_like(level.weights, level.layers))


def test_a_second_run_starts_anew(sd1):
    with_probe, probe = probed(sd1)
    first = sample(sd1, with_probe, Sampling())
    before = probe.captured(first)
    second = sample(sd1, with_probe, Sampling(seed=SEED + 1, batch=2, steps=3))
    after = probe.captured(second)
    assert (before.images, before.steps, after.images, after.steps) == (1, (1, 2), 2, (1, 2, 3))
    fresh_model, fresh = probed(sd1)
    again = fresh.captured(sample(sd1, fresh_model, Sampling(seed=SEED + 1, batch=2, steps=3)))
    assert torch.equal(after.maps(), again.maps())
    with pytest.raises(ValueError, match="latent: it is not what the last sampling"):
        probe.captured(first)


def test_a_cancelled_run_leaves_nothing(sd1):
    import comfy.model_management

    with_probe, probe = probed(sd1)
    latents = sample(sd1, with_probe, Sampling())
    probe.captured(latents)

    def cancel(executor, *args, **more):
        calls.append(args)
        if len(calls) == 2:
            raise comfy.model_management.InterruptProcessingException
        return executor(*args, **more)

    calls: list = []
    cancelled = with_probe.clone()
    cancelled.add_wrapper_with_key("apply_model", "test", cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(sd1, cancelled, Sampling())
    with pytest.raises(ValueError, match="probe: the last sampling through its model was cancelled or failed"):
        probe.captured(latents)
    assert_whole(probe.captured(sample(sd1, with_probe, Sampling())))


def test_without_a_sampling_it_says_what_to_connect(sd1):
    _, probe = probed(sd1)
    latents = sample(sd1, sd1.model, Sampling())
    with pytest.raises(ValueError, match="second_probe: no sampling has gone through this probe's model yet"):
        probe.captured(latents, "second_probe")


def test_the_loaded_model_stays_bit_for_bit_what_it_was(sd1):
    before = {key: value.clone() for key, value in sd1.model.model.state_dict().items()}
    options = repr(sd1.model.model_options), repr(sd1.model.wrappers)
    with_probe, _ = probed(sd1)
    sample(sd1, with_probe, Sampling())
    after = sd1.model.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert options == (repr(sd1.model.model_options), repr(sd1.model.wrappers))


def test_two_probes_on_one_model(sd1):
    first_model, first = probed(sd1, words="dog")
    both, second = probed(sd1, model=first_model, prompt=NEGATIVE, part="unconditional")
    latents = sample(sd1, both, Sampling())
    assert (latents - sample(sd1, sd1.model, Sampling())).abs().max() < 1e-4
    assert [word.label for word in first.captured(latents).words] == ["dog", "dog (2)"]
    assert_whole(second.captured(latents))


def test_steps_and_resolutions_can_be_chosen(sd1):
    with_probe, probe = probed(sd1, first_step=2, last_step=3, layers="1/2")
    captured = probe.captured(sample(sd1, with_probe, Sampling(steps=4)))
    assert captured.steps == (2, 3)
    assert [tuple(level.sums.shape[-2:]) for level in captured.levels] == [(4, 6)]
    means_model, means = probed(sd1, first_step=2, last_step=3, layers="1/2", each_step=False)
    averaged = means.captured(sample(sd1, means_model, Sampling(steps=4)))
    assert averaged.levels[0].sums.shape[0] == 1
    assert torch.allclose(averaged.maps(), captured.maps(), atol=1e-6)
    with pytest.raises(ValueError, match="first_step: 2, but this sampling has 1 steps"):
        sample(sd1, with_probe, Sampling(steps=1))


def test_memory_is_refused_beforehand(sd1):
    with_probe, probe = probed(sd1, memory_limit=1)
    calls = record_calls(with_probe)
    with pytest.raises(ValueError, match=r"memory_limit: the probe's maps would take .* Switch each_step off"):
        sample(sd1, with_probe, Sampling(height=64, width=64, steps=20))
    assert not calls
    captured = probe.captured(sample(sd1, with_probe, Sampling()))
    taken = sum(4 * (level.sums.numel() + level.weights.numel()) for level in captured.levels)
    assert probe.plan.bytes_needed((8, 12), 2, 1) == taken


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"layers": "1/4"}, "layers: this model has no cross-attention at 1/4; choose 1/1, 1/2"),
        ({"layers": "listed", "layer_list": "middle.0.0, output.9.0"}, r"layer_list: output\.9\.0 is not in this"),
        ({"layers": "listed"}, "layer_list: it is empty"),
        ({"first_step": 3, "last_step": 2}, "first_step: 3 comes after last_step 2"),
        ({"words": "dog, Jungle"}, "words: 'Jungle' is not in the prompt. The words that are: a, photo, of, patchwork"),
        ({"words": "embedding:nowhere"}, "words: embedding:nowhere does not exist"),
        ({"prompt": "a embedding:nowhere"}, "prompt: embedding:nowhere does not exist"),
        ({"part": "both"}, "part: 'both' is not one of"),
    ],
)
def test_bad_inputs_are_refused_by_name(sd1, inputs, message):
    with pytest.raises(ValueError, match=message):
        probed(sd1, **inputs)


def test_a_model_or_clip_of_another_kind_is_refused(families, sd1):
    other = families["sd2"]
    with pytest.raises(ValueError, match="clip: its text is 1024 wide"):
        probed(Loaded("mixed", sd1.model, other.clip))


@pytest.mark.every_comfyui
def test_words_are_found_as_the_tokenizer_splits_them(sd1, comfyui):
    from core_personalization.core_ops.prompts.prompt_words import watch_phrases
    from core_personalization.nodes.host.prompts.prompt_reading import read_phrases, read_prompt
    from safetensors.torch import save_file

    (comfyui / "models" / "embeddings").mkdir(parents=True, exist_ok=True)
    save_file({"emb_params": torch.randn(3, 768)}, comfyui / "models" / "embeddings" / "my-cat.safetensors")
    clip = sd1.clip
    for name in ("clip_l",):
        getattr(clip.tokenizer, name).embedding_directory = [str(comfyui / "models" / "embeddings")]
    text = "A (Supercalifragilistic:1.3) DOG's embedding:my-cat, dogs and 24 dogs!"
    prompt = read_prompt(clip, text)
    assert prompt.length == 77
    by_label = {word.label: word for word in prompt.words}
    assert len(by_label["supercalifragilistic"].positions) > 1
    assert len(by_label["embedding:my-cat"].positions) == 3
    phrases = read_phrases(clip, "SUPERCALIFRAGILISTIC, dogs, dog's, my-cat, 24, dogs!\n")
    ids = clip.tokenize(text)["l"][0]
    assert [isinstance(ids[p][0], Tensor) for p in by_label["embedding:my-cat"].positions] == [True] * 3
    watched = watch_phrases(prompt, {key: words for key, words in phrases.items() if key != "dogs!"})
    assert [word.label for word in watched] == ["SUPERCALIFRAGILISTIC", "dogs", "dogs (2)", "dog's", "my-cat", "24"]
    with pytest.raises(ValueError, match="share a token"):
        watch_phrases(prompt, phrases)


@pytest.mark.long
def test_the_probe_takes_little_time(sd1):
    """Of the processor, A B A B in one run, everything watched; the small U-Net is the worst case."""
    sampling = Sampling(height=32, width=32)
    models = sd1.model, probed(sd1)[0]
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(3):
        for model, taken in zip(models, seconds, strict=True):
            start = time.process_time()
            sample(sd1, model, sampling)
            taken.append(time.process_time() - start)
    assert min(seconds[1]) < 1.15 * min(seconds[0])


def peak_memory(action: Callable[[], object]) -> int:
    """Bytes: of the GPU where the model is on one, else of this process (Linux alone can forget an earlier peak)."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        action()
        return torch.cuda.max_memory_allocated()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of memory cannot be reset here")
    action()
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


@pytest.mark.long
def test_the_probe_takes_little_memory(sd1):
    """With means only, at 512 pixels."""
    sampling = Sampling(height=64, width=64, steps=1)
    with_probe, _ = probed(sd1, each_step=False)
    sample(sd1, sd1.model, sampling)
    plain = peak_memory(lambda: sample(sd1, sd1.model, sampling))
    watched = peak_memory(lambda: sample(sd1, with_probe, sampling))
    print(f"{plain / 2**20:.0f} MiB without, {watched / 2**20:.0f} MiB with the probe")
    assert watched < 1.05 * plain
