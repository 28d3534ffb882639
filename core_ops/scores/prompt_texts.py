"""A prompt as an encoder of another program can read it: without the concept's identifier."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..prompts.prompt_templates import spaced

APPEARANCE_PHRASES = (
    *("style", "painting", "painted", "depicted", "drawing", "sketch", "illustration", "cartoon", "brushstrokes"),
    *("carvings", "shaped like", "reimagined", "wearing", "dressed", "costume", "outfit"),
    *("as a", "as an", "shape of", "made of", "patterns of", "armor", "boots", "uniform", "robe"),
    *("steampunk", "adorned"),
)
"""What prompts say that stylize the concept or change its outfit. CoRe leaves those out of the identity scores, without
listing them; of its Table 4 these words find the style compositions, styles and outfits, and not the colours."""

# ComfyUI ends an embedding's name at white space and at these.
_NAME = r"[^\s,()<\[]+"
_EMBEDDING = rf"embedding:{_NAME}"
_TEMPLATE_PLACE = r"\{\}"


def with_category(prompt: str, identifier: str, super_category: str) -> str:
    """The prompt with the super-category in place of the identifier: what CLIP-T compares pictures with.

    `embedding:NAME`, `{}` and the identifier, if it is not empty, stand for the concept. A super-category that follows
    already ("[V] dog") is not written twice.
    """
    category = super_category.strip()
    return _replaced(prompt, _concept(identifier) + _following(category), category)


def around_concept(prompt: str, identifier: str, super_category: str) -> str:
    """The prompt without all that stands for the concept, a super-category that follows it included."""
    return _replaced(prompt, _concept(identifier) + _following(super_category.strip()), "")


def without_identifier(prompt: str, identifier: str) -> str:
    """The prompt with the identifier removed (SID, section 6): "[V] dog in the snow" becomes "dog in the snow"."""
    return _replaced(prompt, _concept(identifier), "")


def embedding_names(prompt: str) -> list[str]:
    """NAME of every `embedding:NAME` in the prompt, each once, in their order."""
    return list(dict.fromkeys(re.findall(rf"embedding:({_NAME})", prompt, re.IGNORECASE)))


def with_other_concepts(prompt: str, categories: Mapping[str, str]) -> str:
    """The prompt with the super-category of other embeddings in their places. categories: by NAME."""
    for name, category in categories.items():
        own = rf"embedding:{re.escape(name)}(?!{_NAME}){_following(category)}"
        prompt = re.sub(own, lambda _, category=category: category, prompt, flags=re.IGNORECASE)
    return prompt


def changes_appearance(prompt: str, phrases: Sequence[str]) -> bool:
    """Whether the prompt has one of the phrases, as whole words in any case."""
    words = "|".join(re.escape(phrase.strip()) for phrase in phrases if phrase.strip())
    return bool(words) and re.search(rf"(?<!\w)(?:{words})(?!\w)", prompt, re.IGNORECASE) is not None


def _concept(identifier: str) -> str:
    """A regular expression of all that stands for the concept in a prompt."""
    own = rf"|(?<!\w){re.escape(identifier.strip())}(?!\w)" if identifier.strip() else ""
    return f"(?:{_EMBEDDING}|{_TEMPLATE_PLACE}{own})"


def _following(category: str) -> str:
    """A regular expression of a super-category that is written behind the concept, or of nothing."""
    return rf"(?:\s+{re.escape(category)}(?!\w))?" if category else ""


def _replaced(prompt: str, pattern: str, words: str) -> str:
    """With one space between words, and no marks left over at the ends."""
    text = re.sub(pattern, lambda _: words, spaced(prompt), flags=re.IGNORECASE)
    return re.sub(r"\s+([,.;])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,;")
