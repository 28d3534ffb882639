"""What "CoRe Test-Time Optimize" tells about its run, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ...core_ops.recipes.prompt_refinement import ATTENTION, EMBEDDING, change_norms
from ..tables import markdown_table
from .refinement_inputs import CheckedPrompt
from .refinement_settings import TEA
from .refining import RefinedPrompt


def report(checked: CheckedPrompt, refined: RefinedPrompt, context_labels: Sequence[str]) -> str:
    """context_labels: of the tokens that were compared, in their order."""
    before, after = refined.before, refined.after
    names = " and ".join(
        concept.name
        for concept, chosen in zip(checked.concepts.concepts, checked.concepts.refined, strict=True)
        if chosen
    )
    terms = []
    for label, name in (("L_emb", EMBEDDING), ("L_attn", ATTENTION)):
        first, last = before.terms[name], after.terms[name]
        terms.append((label, f"{first:.4g}", f"{last:.4g}", f"{last / first - 1:+.1%}" if first > 0 else "0"))
    similarities = zip(context_labels, before.similarities, after.similarities, strict=True)
    tokens = [(label, f"{a:.4f}", f"{b:.4f}") for label, a, b in similarities]
    return "\n\n".join(
        [
            f"**{checked.settings.prompt}** compared with **{checked.reference_prompt}**",
            markdown_table(("", "before", "after", "change"), terms),
            f"{names}: {_movement(checked, refined)}",
            markdown_table(("token", "similarity before", "after"), tokens),
        ]
    )


def _movement(checked: CheckedPrompt, refined: RefinedPrompt) -> str:
    settings = checked.settings
    steps, turned = settings.steps, settings.adjustment == TEA
    if steps == 0 and not turned:
        return "0 steps, the plain prompt."
    change, norm = change_norms(refined.start, refined.vectors)
    if change == 0:
        return (
            f"no step of {steps} lowered both terms, so the embedding stays as it was. It is close to its "
            "super-category already, or learning_rate is too high."
        )
    moved = f"moved the embedding by ‖Δv‖ = {change:.4g}, {change / norm:.1%} of ‖v‖ = {norm:.4g}"
    stepped = f"{steps} steps in {refined.seconds:.1f} s" if steps else ""
    return f"{' and '.join(filter(None, ['TEA' if turned else '', stepped]))} {moved}."
