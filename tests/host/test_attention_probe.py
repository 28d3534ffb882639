"""The attention probe on real ComfyUI models: it follows any sampling, changes none, and starts anew each time."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families.probing import (
    NEGATIVE,
    PROMPT,
    SEED,
    Loaded,
    Sampling,
    assert_whole,
    compare_probed,
    encode,
    load,
    probed,
    record_calls,
    sample,
)
from torch import Tensor


@pytest.fixture(scope="module")
def sd1() -> Loaded:
    return load("sd1")


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddim", "heun"])
@pytest.mark.parametrize(("cfg", "batch"), [(1.0, 3), (4.0, 1)])
def test_other_samplers_cfg_and_batches_sample_as_without_probe(sd1, sampler, cfg, batch):
    difference, captured = compare_probed(sd1, Sampling(sampler, cfg, batch))
    assert difference < 1e-4
    assert captured.images == batch
    assert_whole(captured)


@pytest.mark.every_comfyui
def test_a_patch_before_or_after_the_probe_makes_the_output(sd1):
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
