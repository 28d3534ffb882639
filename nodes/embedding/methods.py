"""The methods of "CoRe Train Embedding", one record each: all that the node knows of a method stands here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ...core_ops.losses.context_losses import Formulation
from ...core_ops.recipes.attndreambooth import AttnDreamBooth, AttnDreamBoothConfig
from ...core_ops.recipes.context_regularization import (
    ATTENTION,
    EMBEDDING,
    ContextRegularization,
    ContextRegularizationConfig,
)
from ...core_ops.recipes.textual_inversion import TextualInversion
from ...core_ops.training.embedding_problem import EmbeddingProblem
from ...core_ops.training.objective import BALANCED, BalancedWeights, FixedWeights
from ...core_ops.training.training_loop import Recipe

if TYPE_CHECKING:
    from .embedding_inputs import CheckedInputs


@dataclass(frozen=True)
class EmbeddingMethod:
    """recipe: its recipe, from the problem and the node's checked inputs. help: a sentence for the input `method`.

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


def context_regularization(problem: EmbeddingProblem, checked: CheckedInputs, formulation: Formulation) -> Recipe:
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
    return ContextRegularization(config, problem, checked.prompts)


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


CORE, CORE_REFERENCE, ATTNDREAMBOOTH = "CoRe", "CoRe (reference code)", "AttnDreamBooth stage 1"
CORE_VALUES = {"steps": 300, "batch_size": ContextRegularizationConfig.batch_size, "learning_rate": 5e-3}
_PAPER = EmbeddingMethod(
    partial(context_regularization, formulation="paper"),
    "CoRe regularizes the words around the concept (default).",
    published=CORE_VALUES,
    draws_prompts=True,
    attention="of the words around the concept",
    inputs=(
        "prompt_set", "own_prompts", "weighting", "embedding_weight", "attention_weight", "embedding_share",
        "attention_share", "rescale_from", "rescale_to", "regularization_batch",
    ),
)  # fmt: skip

METHODS: Mapping[str, EmbeddingMethod] = {
    CORE: _PAPER,
    CORE_REFERENCE: replace(
        _PAPER,
        recipe=partial(context_regularization, formulation="reference_code"),
        help="'Reference code' follows the authors' program where it differs.",
    ),
    ATTNDREAMBOOTH: EmbeddingMethod(
        attndreambooth,
        "AttnDreamBooth stage 1 learns a word before the super-category.",
        # The paper changes every picture anew each time it is drawn; here a pool of changed copies is made once.
        published={
            "steps": 60,
            "batch_size": AttnDreamBoothConfig.batch_size,
            "learning_rate": 1e-3,
            "augmentation": 16,
        },
        writes_category=True,
        attention="of the concept and its super-category",
        inputs=("alignment_mean", "alignment_variance"),
    ),
    # As CoRe, so that regularization is all that differs. Gal et al. train 5000 steps.
    "Textual Inversion": EmbeddingMethod(
        textual_inversion, "Textual Inversion is the baseline without regularization.", published=CORE_VALUES
    ),
}
