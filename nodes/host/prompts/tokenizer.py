"""The host's tokenizer, which here alone is told what `embedding:name` in a prompt stands for.

`SDTokenizer.tokenize_with_weights` gives `_try_get_embedding` the text from a name on to the next `embedding:`, and
takes from it the vectors [V, width] or None, the name, and the text that goes on after it. We put a function of ours in
its place. Between hosts its answer differs:

- up to 0.27: two values, the vectors and the text; such a host is refused by the pack's entry point
- since 0.28.0: three values, as above; so in the newest file seen, after 0.33.0

A host that gives another number is named in an error, since what it means by them cannot be known. Besides, readers of
prompts lean on the attributes `embedding_directory`, `embedding_size`, `end_token`, `inv_vocab` and `max_length`, and
on `return_word_ids`, the same in all these hosts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from comfy.sd1_clip import SDTokenizer
from torch import Tensor

from ....core_ops.quoting import quoted

Found = tuple[Any, str, str]
"""Vectors, their name, and the text after it."""


class PromptError(ValueError):
    """A prompt that the text encoder cannot take as one row. problem: without the name of its input."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"prompt: {problem}")
        self.problem = problem


@contextmanager
def naming(parameter: str) -> Iterator[None]:
    """Says of a prompt that fails which input it came from."""
    try:
        yield
    except PromptError as error:
        raise ValueError(f"{parameter}: {error.problem}") from error


def with_embeddings(
    tokenizer: SDTokenizer, own: Mapping[str, Any] | None = None, met: list[str] | None = None
) -> SDTokenizer:
    """A copy of the tokenizer that finds our embeddings first, and refuses those that the host would only warn of.

    own: by name, vectors or what looks to the host like them. met: takes the name of each embedding that a prompt has.
    Tokenizing raises PromptError for an embedding that is missing or of another width. Raises RuntimeError on a host
    whose tokenizer is of another form than those that are known.
    """
    duplicate = _looking_in(tokenizer, tokenizer.embedding_directory or [])
    host_try_get_embedding = duplicate._try_get_embedding
    _check_form(tokenizer)

    def try_get_embedding(text: str) -> Found:
        vectors, name, rest = _own(own or {}, text) or host_try_get_embedding(text)
        name = name.strip(",")
        shown = quoted(name)[1:-1]
        if vectors is None:
            raise PromptError(f"embedding:{shown} does not exist in the embeddings folder; check the name.")
        if isinstance(vectors, Tensor) and vectors.shape[-1] != tokenizer.embedding_size:
            raise PromptError(
                f"embedding:{shown} has width {vectors.shape[-1]}, this model needs {tokenizer.embedding_size}; "
                "it was made for another base model, choose another."
            )
        if met is not None:
            met.append(name)
        return vectors, name, rest

    duplicate._try_get_embedding = try_get_embedding
    return duplicate


def _own(own: Mapping[str, Any], text: str) -> Found | None:
    """What `own` has for the name that the text begins with; None leaves it to the host."""
    written, *rest = text.split() or [""]
    if not written:
        raise PromptError("'embedding:' has no name after it; write one, without a space between.")
    name = written.rstrip(",")
    if name not in own:
        return None
    return own[name], name, " ".join(filter(None, [written.removeprefix(name), *rest]))


def _looking_in(tokenizer: SDTokenizer, folders: list[str] | str) -> SDTokenizer:
    """A copy of the tokenizer that looks for embeddings in these folders."""
    duplicate = copy.copy(tokenizer)
    duplicate.embedding_directory = folders
    return duplicate


def _check_form(tokenizer: SDTokenizer) -> None:
    """Looks at the answer for a name that is in no folder."""
    answer: Any = _looking_in(tokenizer, [])._try_get_embedding("none")
    if not isinstance(answer, tuple) or len(answer) != 3:
        got = f"{len(answer)} values" if isinstance(answer, tuple) else type(answer).__name__
        raise RuntimeError(
            f"This ComfyUI's tokenizer answers with {got} when it looks up an embedding; this version of CoRe "
            "Personalization knows answers of 3. Update CoRe Personalization and ComfyUI."
        )
