"""A prompt's words, as the host's own tokenizer splits it; and its syntax taken off for readers that do not know it.

Leans on the three functions of `comfy.sd1_clip` with which its tokenizer reads weights; the same since 0.28.0.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import groupby

from comfy.sd import CLIP
from comfy.sd1_clip import escape_important, token_weights, unescape_important
from torch import Tensor

from ....core_ops.prompts.prompt_words import PromptWord, PromptWords, listed
from ..models.text_encoder import encoder_names
from .tokenizer import naming, with_embeddings

NO_WORD = 0
"""The host's word id of start, end and padding."""


def read_prompt(clip: CLIP, prompt: str, where: str = "prompt") -> PromptWords:
    """The words of a prompt; raises ValueError, beginning with `where`, for a missing or unfitting embedding."""
    host_tokenizer = getattr(clip.tokenizer, encoder_names(clip)[0])  # both of SDXL's split alike
    met: list[str] = []
    tokenizer = with_embeddings(host_tokenizer, met=met)
    with naming(where):
        rows = tokenizer.tokenize_with_weights(prompt, return_word_ids=True, tokenizer_options=clip.tokenizer_options)
    # Of each token its position, its vocabulary id or vector, and the host's word id.
    tokens = [(position, token, word_id) for position, (token, _, word_id) in enumerate(t for row in rows for t in row)]
    starts = tuple(range(0, len(tokens), len(rows[0])))
    ends = tuple(position for position, _, word_id in tokens if word_id == NO_WORD and position not in starts)
    words: list[PromptWord] = []
    embedding_names = iter(met)
    for _, group in groupby((token for token in tokens if token[2] != NO_WORD), key=lambda token: token[2]):
        positions, entries, _ = zip(*group, strict=True)
        if isinstance(entries[0], Tensor):
            name = next(embedding_names)
            keys: tuple[Hashable, ...] = tuple((name, number) for number, _ in enumerate(entries))
            words.append(PromptWord(label=f"embedding:{name}", keys=keys, positions=positions))
            continue
        # What the host counts as one word may be several: each one's last token is marked in the vocabulary.
        begin = 0
        for end, token in enumerate(entries, start=1):
            if host_tokenizer.inv_vocab[token].endswith("</w>") or end == len(entries):
                label = host_tokenizer.decode(list(entries[begin:end])).strip()
                words.append(PromptWord(label, keys=entries[begin:end], positions=positions[begin:end]))
                begin = end
    return PromptWords(words=tuple(words), starts=starts, ends=ends, rows=len(rows))


def read_phrases(clip: CLIP, text: str) -> dict[str, tuple[PromptWord, ...]]:
    """The phrases that a text lists, each split as in a prompt."""
    return {phrase: read_prompt(clip, phrase, "words").words for phrase in listed(text)}


def encoded_texts(clip: CLIP, prompt: str) -> tuple[Tensor, ...]:
    """What cross-attention reads for a prompt, [1, N, D] each: one, or as many as the CLIP's hooks schedule."""
    return tuple(context for context, _ in clip.encode_from_tokens_scheduled(clip.tokenize(prompt), show_pbar=False))


def without_weights(prompt: str) -> str:
    """The prompt without the brackets and numbers of weights: "a (red:1.2) cat" becomes "a red cat"."""
    return "".join(unescape_important(text) for text, _ in token_weights(escape_important(prompt), 1.0))
