"""The methods of "CoRe Train Embedding", one record each: all that the node knows of a method stands here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...core_ops.losses.context_losses import Formulation
from ...core_ops.pictures import COPIES
from ...core_ops.recipes.attndreambooth import AttnDreamBooth, AttnDreamBoothConfig
from ...core_ops.recipes.context_regularization import (
    ATTENTION,
    EMBEDDING,
    ContextRegularization,
    ContextRegularizationConfig,
    SharedQueries,
)
from ...core_ops.recipes.cross_initialization import CrossInitialization
from ...core_ops.recipes.space_time_inversion import SpaceTimeInversion
from ...core_ops.recipes.textual_inversion import TextualInversion
from ...core_ops.recipes.vico_regularization import ViCoRegularization
from ...core_ops.space_time.layer_vectors import LayerVectors
from ...core_ops.space_time.neural_mapper import NeuralMapper
from ...core_ops.training.embedding_problem import (
    ConceptEmbedding,
    EmbeddingProblem,
    TrainableEmbedding,
    spread_over_vectors,
)
from ...core_ops.training.objective import BALANCED, BalancedWeights, FixedWeights
from ...core_ops.training.optimization import OptimizerFactory, SphericalSGD, adamw
from ...core_ops.training.training_loop import Recipe

if TYPE_CHECKING:
    from ..host.models.denoiser import HostDenoiser
    from ..host.models.text_encoder import HostTextEncoder
    from .embedding_inputs import CheckedInputs


def words(encoder: HostTextEncoder, checked: CheckedInputs) -> dict[str, Tensor]:
    """The vocabulary's vectors of the initial words, by default of the super-category."""
    settings = checked.settings
    ids = checked.rows.words(settings.initial_words or settings.super_category)
    vectors = encoder.word_embeddings(dict(zip(encoder.names, ids, strict=True)))
    return {name: spread_over_vectors(v, settings.vectors) for name, v in vectors.items()}


def word_outputs(encoder: HostTextEncoder, checked: CheckedInputs) -> dict[str, Tensor]:
    """What the text encoder makes of these words, as the U-Net reads it."""
    settings = checked.settings
    row = checked.rows.text(settings.initial_words or settings.super_category)
    with torch.no_grad():
        outputs = encoder.encode([row], {}).outputs
    return {name: spread_over_vectors(output[0, 1 : row.end], settings.vectors) for name, output in outputs.items()}


def words_of_mean_norm(encoder: HostTextEncoder, checked: CheckedInputs) -> dict[str, Tensor]:
    """Directions of the words; each as long as the vocabulary's vectors are in the mean."""
    m = encoder.mean_norms()
    return {name: m[name] * normalize(v, dim=-1) for name, v in words(encoder, checked).items()}


def decaying_adamw(checked: CheckedInputs, start: Mapping[str, Tensor]) -> OptimizerFactory:
    return partial(adamw, weight_decay=checked.settings.weight_decay)


def spherical(checked: CheckedInputs, start: Mapping[str, Tensor]) -> OptimizerFactory:
    priors = [normalize(v, dim=-1) for v in start.values()]
    return partial(SphericalSGD, priors=priors, kappa=checked.settings.direction_prior)


def vectors_alone(start: Mapping[str, Tensor], denoiser: HostDenoiser, seed: int) -> TrainableEmbedding:
    return ConceptEmbedding(start)


def layer_vectors(start: Mapping[str, Tensor], denoiser: HostDenoiser, seed: int) -> TrainableEmbedding:
    return LayerVectors.starting_from(start, len(denoiser.blocks))


def neural_mapper(start: Mapping[str, Tensor], denoiser: HostDenoiser, seed: int) -> TrainableEmbedding:
    return NeuralMapper.starting_from(start, len(denoiser.blocks), seed)


@dataclass(frozen=True)
class EmbeddingMethod:
    """recipe: its recipe, from the problem and the node's checked inputs. help: a sentence for the input `method`.
    start: v as it starts, [V, width] per encoder. optimizer: of v, given that start. learned: what is trained, made of
    it for a U-Net, by a seed. starts_further: it can go on from the vectors of another concept. reads_keys: it computes
    the cross-attention's keys itself, which patches on the MODEL must not change.

    published: values of inputs that choosing it fills in. writes_category: the super-category follows the concept in
    every caption and prompt. draws_prompts: it regularizes v in the prompts of prompt_set. attention: which
    cross-attention it watches, as the help page says it. inputs: those of the node that only it reads, and methods that
    name them too.
    """

    recipe: Callable[[EmbeddingProblem, CheckedInputs], Recipe]
    help: str
    published: Mapping[str, Any]
    writes_category: bool = False
    draws_prompts: bool = False
    attention: str = "none"
    inputs: tuple[str, ...] = ()
    start: Callable[[HostTextEncoder, CheckedInputs], dict[str, Tensor]] = words
    optimizer: Callable[[CheckedInputs, Mapping[str, Tensor]], OptimizerFactory] = decaying_adamw
    learned: Callable[[Mapping[str, Tensor], HostDenoiser, int], TrainableEmbedding] = vectors_alone
    starts_further: bool = True
    reads_keys: bool = False


def context_regularization(
    problem: EmbeddingProblem,
    checked: CheckedInputs,
    formulation: Formulation = "paper",
    recipe: type[ContextRegularization] = ContextRegularization,
) -> Recipe:
    settings = checked.settings
    weights = {EMBEDDING: settings.embedding_weight, ATTENTION: settings.attention_weight}
    shares = {EMBEDDING: settings.embedding_share, ATTENTION: settings.attention_share}
    balanced = settings.weighting == BALANCED
    rescale_from, rescale_to = settings.rescaled_steps
    config = ContextRegularizationConfig(
        batch_size=settings.batch_size,
        formulation=formulation,
        rescale_from=rescale_from,
        rescale_to=rescale_to,
        regularization_batch=settings.regularization_batch,
        weights=BalancedWeights(shares, weights, from_minimum=True) if balanced else FixedWeights(weights),
    )
    return recipe(config, problem, checked.prompts)


def attndreambooth(problem: EmbeddingProblem, checked: CheckedInputs) -> Recipe:
    settings = checked.settings
    config = AttnDreamBoothConfig(
        category_tokens=len(checked.rows.words(settings.super_category)[0]),
        batch_size=settings.batch_size,
        mean_weight=settings.alignment_mean,
        variance_weight=settings.alignment_variance,
    )
    return AttnDreamBooth(config, problem)


def textual_inversion(problem: EmbeddingProblem, checked: CheckedInputs) -> Recipe:
    return TextualInversion(problem, checked.settings.batch_size)


def cross_initialization(problem: EmbeddingProblem, checked: CheckedInputs) -> Recipe:
    return CrossInitialization(problem, checked.settings.batch_size, checked.settings.anchor_weight)


def vico(problem: EmbeddingProblem, checked: CheckedInputs) -> Recipe:
    return ViCoRegularization(problem, checked.settings.batch_size, checked.settings.end_weight)


def space_time(problem: EmbeddingProblem, checked: CheckedInputs) -> Recipe:
    return SpaceTimeInversion(problem, checked.settings.batch_size)


CORE, CORE_FAST, CORE_REFERENCE = "CoRe", "CoRe fast", "CoRe (reference code)"
ATTNDREAMBOOTH = "AttnDreamBooth stage 1"
CORE_VALUES = {"steps": 300, "batch_size": ContextRegularizationConfig.batch_size, "learning_rate": 5e-3}
_PAPER = EmbeddingMethod(
    context_regularization,
    "CoRe regularizes the words around the concept (default).",
    published=CORE_VALUES,
    draws_prompts=True,
    attention="of the words around the concept",
    inputs=(
        "prompt_set", "own_prompts", "weighting", "embedding_weight", "attention_weight", "embedding_share",
        "attention_share", "rescale_from", "rescale_to", "regularization_batch", "weight_decay",
    ),
)  # fmt: skip
ADAMW_AND_NORM = ("weight_decay", "rescale_from", "rescale_to")
DIRECTION: Mapping[str, Any] = {
    "start": words_of_mean_norm,
    "optimizer": spherical,
    # The rate is the program's 0.01 times its batch.
    "published": {"steps": 400, "batch_size": 4, "learning_rate": 0.04},
}

METHODS: Mapping[str, EmbeddingMethod] = {
    CORE: _PAPER,
    CORE_FAST: replace(
        _PAPER,
        recipe=partial(context_regularization, recipe=SharedQueries),
        help="CoRe fast (ours) compares the attention without passes of its own: less than half the work.",
        reads_keys=True,
    ),
    CORE_REFERENCE: replace(
        _PAPER,
        recipe=partial(context_regularization, formulation="reference_code"),
        help="'Reference code' follows the authors' program where it differs, its augmentation too.",
        published={**CORE_VALUES, "augmentation": COPIES},
    ),
    "CoRe + DTI": replace(
        _PAPER,
        help="CoRe + DTI (ours) learns the direction alone, with CoRe's terms.",
        inputs=(*(name for name in _PAPER.inputs if name not in ADAMW_AND_NORM), "direction_prior"),
        **DIRECTION,
    ),
    ATTNDREAMBOOTH: EmbeddingMethod(
        attndreambooth,
        "AttnDreamBooth stage 1 learns an embedding that stands before the super-category.",
        published={
            "steps": 60,
            "batch_size": AttnDreamBoothConfig.batch_size,
            "learning_rate": 1e-3,
            "augmentation": COPIES,
        },
        writes_category=True,
        attention="of the concept and its super-category",
        inputs=("alignment_mean", "alignment_variance", "weight_decay"),
    ),
    "Cross Initialization": EmbeddingMethod(
        cross_initialization,
        "Cross Initialization starts from the text encoder's output for the words, and stays near it.",
        published={**CORE_VALUES, "steps": 320, "batch_size": 8},
        inputs=("anchor_weight", "weight_decay"),
        start=word_outputs,
    ),
    "Directional Textual Inversion": EmbeddingMethod(
        textual_inversion,
        "Directional Textual Inversion learns the direction alone: it cannot grow louder than other words.",
        inputs=("direction_prior",),
        **DIRECTION,
    ),
    "TI + ViCo's regularizer": EmbeddingMethod(
        vico,
        "ViCo's regularizer lets the concept look where end-of-text looks.",
        published={**CORE_VALUES, "steps": 400, "batch_size": 4},
        attention="of the concept and end-of-text",
        inputs=("end_weight", "weight_decay"),
    ),
    "XTI (P+)": EmbeddingMethod(
        space_time,
        "XTI learns vectors of their own for each layer of the U-Net; Apply Concept draws them.",
        published={"steps": 500, "batch_size": 8, "learning_rate": 5e-3},
        inputs=("weight_decay",),
        learned=layer_vectors,
    ),
    "NeTI": EmbeddingMethod(
        space_time,
        "NeTI learns a small network that gives them by layer and timestep; Apply Concept draws it.",
        # The rate is the program's 0.001 times its batch of 2, accumulated over 4.
        published={"steps": 1000, "batch_size": 2, "gradient_accumulation": 4, "learning_rate": 8e-3},
        inputs=("weight_decay",),
        learned=neural_mapper,
        starts_further=False,
    ),
    # As CoRe, so that regularization is all that differs. Gal et al. train 5000 steps.
    "Textual Inversion": EmbeddingMethod(
        textual_inversion,
        "Textual Inversion is the baseline without regularization.",
        published=CORE_VALUES,
        inputs=("weight_decay",),
    ),
}
