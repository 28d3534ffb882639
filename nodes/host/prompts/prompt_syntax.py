"""ComfyUI's prompt syntax, taken off for readers that do not know it.

Leans on the three functions of `comfy.sd1_clip` with which its tokenizer reads weights; the same since 0.28.0.
"""

from __future__ import annotations

from comfy.sd1_clip import escape_important, token_weights, unescape_important


def without_weights(prompt: str) -> str:
    """The prompt without the brackets and numbers of weights: "a (red:1.2) cat" becomes "a red cat"."""
    return "".join(unescape_important(text) for text, _ in token_weights(escape_important(prompt), 1.0))
