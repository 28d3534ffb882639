"""How alike two prompts are in the words around what was exchanged (CoRe's Figures 2 and 8)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..conditioning import TextConditioning
from ..prompts.prompt_words import START, PromptWords
from ..prompts.token_rows import AlignedPair, TokenRow

END = "(end of text)"


def context_similarities(text: TextConditioning, reference: TextConditioning, pair: AlignedPair) -> Tensor:
    """Cosine over features of each context token's output embedding with its partner's, [n] in −1…1.

    `text` and `reference` hold one row each; with two text encoders (SDXL) the mean of both.
    """
    context, reference_context = pair.positions(text.context.device)
    per_encoder = [
        cosine_similarity(output[0, context].float(), reference.outputs[name][0, reference_context].float(), dim=-1)
        for name, output in text.outputs.items()
    ]
    return torch.stack(per_encoder).mean(0)


def context_labels(prompt: PromptWords, row: TokenRow) -> list[str]:
    """A label for each context token of a prompt of one row; tokens of one word are numbered."""
    labels = {position: START for position in prompt.starts}
    for word in prompt.words:
        numbered = [f"{word.label}·{number}" for number, _ in enumerate(word.positions, start=1)]
        labels |= zip(word.positions, numbered if len(numbered) > 1 else [word.label], strict=True)
    return [labels.get(position, END) for position in row.context]
