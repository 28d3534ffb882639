"""A few steps of every stage: the loss falls, and a stopped run continues as if it had never stopped."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch

from lab.world.drawing import dataset
from lab.world.drawing.render import STYLES
from lab.world.networks.judge import Judge
from lab.world.networks.unet import UNet
from lab.world.networks.vae import TinyVAE, Whitening, level
from lab.world.training import judge_training, unet_training, vae_training
from lab.world.training.judge_training import train_judge
from lab.world.training.schedule import Budget, learning_rate
from lab.world.training.unet_training import LatentPictures, UNetTraining, cumulative_alphas
from lab.world.training.vae_training import encode_pictures, psnr, train_vae

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """A few steps teach something with a tenth of the pictures, too."""
    monkeypatch.setattr(unet_training, "CAPTIONS_PER_STEP", 1)
    monkeypatch.setattr(judge_training, "CAPTIONS_PER_STEP", 12)
    monkeypatch.setattr(vae_training, "CROPS_PER_STEP", 4)
    monkeypatch.setattr(vae_training, "PICTURES_PER_STEP", 2)


@pytest.fixture(scope="module")
def data():
    return dataset.draw(40, seed=1, processes=1)


@pytest.fixture(scope="module")
def pictures():
    draw = torch.Generator().manual_seed(0)
    latents, context = torch.randn(12, 4, 4, 8, 8, generator=draw), torch.randn(13, 4, 768, generator=draw)
    return LatentPictures(latents, context)


def test_a_stage_takes_a_step_however_long_it_prepared():
    budget = Budget(steps=10, minutes=1e-4)
    time.sleep(0.02)
    assert budget.progress(0) < 0.5
    time.sleep(0.02)
    assert budget.progress(0) == 1
    assert Budget(steps=10, minutes=1e-4, spent=1).progress(0) == 1, "an earlier run's time counts"


def test_the_learning_rate_warms_up_stays_and_falls_to_zero():
    assert learning_rate(1.0, step=0, progress=0.0) == pytest.approx(1 / 60)
    assert learning_rate(1.0, step=100, progress=0.3) == 1.0
    assert learning_rate(1.0, step=100, progress=1.0) == 0.0


def test_the_vae_learns(data):
    images = data.images.reshape(-1, 64, 64, 3)
    early, trained = (train_vae(images, Budget(steps), CPU, seed=0) for steps in (2, 30))
    assert psnr(trained, images[:16], CPU) > psnr(early, images[:16], CPU) + 2
    latents = encode_pictures(trained, images[:16], CPU)
    assert latents.shape == (16, 4, 8, 8)


def test_a_vae_goes_on_where_it_was(data):
    images = data.images.reshape(-1, 64, 64, 3)
    before = train_vae(images, Budget(10), CPU, seed=0)
    reached = psnr(before, images[:16], CPU)
    after = train_vae(images, Budget(20), CPU, seed=1, before=before)
    assert psnr(after, images[:16], CPU) > reached
    assert not after.training


@torch.no_grad()
def test_in_training_too_latents_tell_how_bright_a_batch_is():
    torch.manual_seed(0)
    vae, dark = TinyVAE().train(), torch.rand(4, 3, 32, 32) / 4
    for _ in range(100):
        vae.encode(torch.rand(4, 3, 32, 32))
    difference = (vae.encode(dark + 0.7) - vae.encode(dark)).mean(dim=(0, 2, 3))
    assert difference.abs().max() > 1


def test_the_encoder_gains_nothing_by_larger_or_shifted_latents():
    torch.manual_seed(0)
    whitening, x = Whitening(4, affine=False).train(), (5 * torch.randn(6, 4, 8, 8) + 2).requires_grad_()
    (whitening(x) * torch.randn(6, 4, 8, 8)).sum().backward()
    for direction in (x.detach(), torch.ones_like(x)):
        along = (x.grad * direction).sum(dim=(0, 2, 3)).abs()
        assert (along < 1e-4 * x.grad.norm() * direction.norm()).all()


@torch.no_grad()
def test_a_levelled_encoder_gives_the_same_with_smaller_values():
    torch.manual_seed(0)
    vae, images, seen = TinyVAE().eval(), torch.rand(8, 3, 32, 32), []
    for index in (2, 6, 10):
        vae.taesd_encoder[index].weight.mul_(1000)
    before = vae.encode(images)
    for layer in vae.taesd_encoder[:-1]:
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.abs().max()))
    level(vae, images)
    seen.clear()
    torch.testing.assert_close(vae.encode(images), before, rtol=1e-3, atol=1e-3 * before.abs().max().item())
    assert max(seen) < 1000


@torch.no_grad()
def test_the_exported_encoder_holds_the_whitening():
    torch.manual_seed(0)
    vae, images = TinyVAE(), torch.rand(8, 3, 64, 64)
    vae.train()
    for _ in range(3):
        vae.encode(images)
    vae.eval()
    bare = TinyVAE()
    exported = vae.exported()
    bare.load_state_dict({k: v for k, v in exported.items() if not k.startswith("vae_")}, strict=False)
    torch.testing.assert_close(bare.taesd_encoder(images), vae.encode(images), rtol=1e-4, atol=1e-4)


def test_the_unet_predicts_nothing_at_first_and_then_learns(pictures):
    training = UNetTraining(pictures, Budget(steps=100), CPU, seed=0)
    losses = [training._train_step(0.0) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_rows_with_a_shared_caption_see_it_as_their_own():
    torch.manual_seed(0)
    unet = UNet()
    torch.nn.init.normal_(unet.out[-1].weight, std=0.1)
    z, t, context = torch.randn(4, 4, 8, 8), torch.tensor([1, 20, 300, 999]), torch.randn(2, 5, 768)
    with torch.no_grad():
        shared, own = unet(z, t, context), unet(z, t, context.repeat_interleave(2, dim=0))
    torch.testing.assert_close(shared, own, rtol=1e-4, atol=1e-4)


def test_a_resumed_run_equals_an_uninterrupted_one(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(unet_training, "EMA_EVERY", 1)
    whole, first = (UNetTraining(pictures, Budget(steps=2), CPU, seed=3) for _ in range(2))
    whole._train_step(0.0)
    whole._train_step(0.0)
    first._train_step(0.0)
    first.save(tmp_path / "state.pt")
    second = UNetTraining(pictures, Budget(steps=2), CPU, seed=9)
    second.resume(tmp_path / "state.pt")
    second._train_step(0.0)
    for a, b in itertools.chain(
        zip(whole.unet.parameters(), second.unet.parameters(), strict=True),
        zip(whole.average.parameters(), second.average.parameters(), strict=True),
    ):
        assert torch.equal(a, b)


def test_the_noise_schedule_is_stable_diffusions():
    alphas = cumulative_alphas()
    assert alphas[0].item() == pytest.approx(1 - 0.00085, abs=1e-6)
    assert alphas[-1].item() == pytest.approx(0.00466, abs=1e-4)


def test_the_judge_learns(data):
    judge = train_judge(data, Budget(steps=25), CPU, seed=0)
    images = torch.from_numpy(np.ascontiguousarray(data.images[:, 0])).permute(0, 3, 1, 2) / 255
    styles = judge.attributes(images)["style"].numpy()
    assert (styles == data.labels[:, -1]).mean() > 0.7


def test_half_the_judges_pictures_have_been_through_the_vae():
    torch.manual_seed(0)
    vae = TinyVAE().eval()
    drawn, judged = dataset.draw(3, 7, 1, every=True), judge_training.judged_pictures(3, 7, vae, CPU)
    assert (judged.images[:, 1::2] == drawn.images[:, 1::2]).all()
    first = torch.from_numpy(drawn.images[0, 0]).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        blurred = vae.decode(vae.encode(first)).clamp(0, 1)[0].permute(1, 2, 0)
    assert (torch.from_numpy(judged.images[0, 0]) / 255 - blurred).abs().max() < 0.05, "bf16 where it is faster"


@pytest.mark.parametrize(("style", "ignored"), [("pencil sketch", True), ("photo", False)])
def test_a_pencil_sketch_teaches_the_judge_no_colour(style, ignored):
    images, judge = torch.rand(4, 3, 64, 64), Judge()
    photo, other = (STYLES.index(name) for name in ("photo", style))
    red, blue = (torch.tensor([[0, 0, 0, 0, photo], [1, 1, colour, 0, other]]) for colour in (0, 1))
    losses = [judge_training._attribute_loss(judge, images, labels) for labels in (red, blue)]
    assert torch.equal(*losses) == ignored
