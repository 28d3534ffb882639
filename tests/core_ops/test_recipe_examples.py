"""The example in every recipe's docstring runs as it stands there."""

from __future__ import annotations

import importlib
import pkgutil
import textwrap

import pytest
import torch
from core_personalization.core_ops import recipes
from core_personalization.core_ops.diffusion_process import NoiseSchedule
from core_personalization.core_ops.space_time.layer_vectors import LayerVectors
from core_personalization.core_ops.training.embedding_problem import ConceptEmbedding, EmbeddingProblem
from core_personalization.core_ops.training.training_loop import LoopConfig, TrainingLoop

from .toy_models import BIG, DOG, ToyDenoiser, ToyTextEncoder, images, pair

RECIPES = sorted(module.name for module in pkgutil.iter_modules(recipes.__path__))


def few_steps(steps: int, learning_rate: float) -> LoopConfig:
    return LoopConfig(min(steps, 3), learning_rate)


@pytest.mark.parametrize("name", RECIPES)
def test_the_example_of_a_recipe_trains(name, capsys):
    module = importlib.import_module(f"{recipes.__name__}.{name}")
    example = textwrap.dedent(module.__doc__.split("Example::\n")[1]).strip()
    assert len(example.splitlines()) <= 6
    encoder, denoiser = ToyTextEncoder(), ToyDenoiser()
    denoiser.schedule = NoiseSchedule(torch.linspace(0.999, 0.01, 1000), "epsilon")
    weights = [denoiser.values.requires_grad_()]
    latents, prompts = images(), [pair([3], [DOG, 4]), pair([6, 9], [DOG])]
    latents = type(latents)(latents.latents, [prompts[0].concept], latents.caption_of_latent)
    known = {
        **vars(module),
        **{"torch": torch, "TrainingLoop": TrainingLoop, "LoopConfig": few_steps},
        **{"EmbeddingProblem": EmbeddingProblem, "ConceptEmbedding": ConceptEmbedding, "LayerVectors": LayerVectors},
        **{"encoder": encoder, "denoiser": denoiser, "latents": latents, "prompts": prompts, "weights": weights},
        **{"initial": {"toy": encoder.vocabulary[[BIG]]}, "z": latents.latents, "range": range},
    }
    exec(example, known)  # noqa: S102
    assert capsys.readouterr().out.count("\n") == 3
    problem = known["recipe"].problem if "recipe" in known else known["problem"]
    trained = weights[0] if name == "identity_finetuning" else problem.embedding.vectors["toy"]
    start = ToyDenoiser().values if name == "identity_finetuning" else known["initial"]["toy"]
    assert not torch.equal(trained.detach(), start)
