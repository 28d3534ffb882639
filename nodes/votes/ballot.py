"""A blind vote as a value: which pairs are shown, on which side each method is, and the key that tells."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch

from ...core_ops.quoting import quoted

Side = Literal["left", "right"]
QUESTIONS = ("concept", "prompt")
"""Which picture shows the concept better, and which follows the prompt better (CoRe's user study, Appendix H)."""
FORMAT = "core-personalization vote key 1"


@dataclass(frozen=True)
class Pair:
    """picture: its number in both batches. prompt: as voters read it. first: the side of the first method's picture."""

    picture: int
    prompt: str
    first: Side


@dataclass(frozen=True)
class Key:
    """What resolves the sides; voters do not get it. vote: the page's id. names: of the first and second method."""

    vote: str
    names: tuple[str, str]
    pairs: tuple[Pair, ...]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str) -> Key:
        """Raises ValueError when the text of the file `name` is not what `to_json` makes."""
        try:
            content = json.loads(text)
            if content.pop("format") != FORMAT:
                raise KeyError("format")
            pairs = tuple(Pair(**pair) for pair in content.pop("pairs"))
            first, second = map(str, content.pop("names"))
            if not pairs or any(pair.first not in ("left", "right") for pair in pairs):
                raise ValueError("pairs")
            return cls(names=(first, second), pairs=pairs, **content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"vote: {quoted(name)} is not the key of a blind vote; choose another.") from error


def drawn_pairs(prompts: Sequence[str], most: int, seed: int) -> tuple[Pair, ...]:
    """At most `most` of the pictures (0: all) in random order, each prompt before any comes again.

    The first method is on the left in half of them.
    """
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = torch.randperm(len(prompts), generator=generator).tolist()
    seen: Counter[str] = Counter()
    turns: dict[int, int] = {}
    for picture in order:
        turns[picture] = seen[prompts[picture]]
        seen[prompts[picture]] += 1
    chosen = sorted(order, key=turns.__getitem__)[: most or None]
    sides = (torch.randperm(len(chosen), generator=generator) % 2).tolist()
    return tuple(
        Pair(picture, prompts[picture], "right" if side else "left")
        for picture, side in zip(chosen, sides, strict=True)
    )


def vote_id(pairs: Sequence[Pair], pictures: Sequence[bytes]) -> str:
    """Of a page: the same for the same pictures on the same sides."""
    digest = hashlib.sha256(json.dumps([asdict(pair) for pair in pairs]).encode())
    for picture in pictures:
        digest.update(picture)
    return digest.hexdigest()[:16]
