from __future__ import annotations

import pytest
import torch

from .toy_models import TIMESTEPS, schedule


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_x0_and_noise_invert_the_target(prediction):
    z, noise = torch.randn(2, 6, 4, 3, 3, dtype=torch.float64)
    t = torch.arange(0, TIMESTEPS, 9)
    noises = schedule(prediction)
    z_t, target = noises.add_noise(z, noise, t), noises.target(z, noise, t)
    torch.testing.assert_close(noises.x0(z_t, target, t), z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(noises.noise(z_t, target, t), noise, rtol=1e-4, atol=1e-4)


def test_both_predictions_mean_the_same_latents():
    z, noise = torch.randn(2, 3, 4, 3, 3)
    t = torch.tensor([0, 20, 49])
    epsilon, v = schedule("epsilon"), schedule("v")
    z_t = epsilon.add_noise(z, noise, t)
    torch.testing.assert_close(
        epsilon.x0(z_t, epsilon.target(z, noise, t), t), v.x0(z_t, v.target(z, noise, t), t), rtol=1e-4, atol=1e-4
    )


def test_noise_grows_with_t():
    noises = schedule()
    z = torch.ones(TIMESTEPS, 1, 1, 1)
    signal = noises.add_noise(z, torch.zeros_like(z), torch.arange(TIMESTEPS)).flatten()
    assert (signal.diff() < 0).all()
