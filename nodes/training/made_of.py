"""What decides what a training learns: its settings, and digests of the rest, compared with what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

from ...core_ops.prompts.token_rows import TokenRow
from ...core_ops.training.training_data import CaptionedPictures
from ..host.models.host_models import HostModels, same_model

DECIDED_BY = {
    "pictures": {"resolution", "fit", "use_masks"},
    "class images": {"resolution", "fit"},
    "captions": {"method", "caption_template", "class_caption", "prompt_set", "own_prompts"},
}
"""What differs because a setting does, which is said already."""
LONGEST_SHOWN = 40


def digest(*parts: str | Tensor | None) -> str:
    """SHA-256 in hex of texts and tensors."""
    found = hashlib.sha256()
    for part in parts:
        if part is None or isinstance(part, str):
            found.update(json.dumps(part).encode())
        else:
            found.update(part.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class MadeOf:
    """settings: of a training node, those that say what is learned. parts: digests of the rest that does, by name.
    defaults: of settings, which a training had before there was an input for them.
    """

    settings: Mapping[str, Any]
    parts: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def given(cls, host: HostModels, settings: Any, unread: Sequence[str], **parts: str) -> MadeOf:
        """Of a node's settings and models. unread: settings that decide nothing. parts: digests, `_` for a space."""
        deciding = [field for field in fields(settings) if field.name not in unread]
        own = {field.name: getattr(settings, field.name) for field in deciding}
        named = {name.replace("_", " "): value for name, value in parts.items()}
        return cls(own, {**host.digests(), **named}, {field.name: field.default for field in deciding})

    @classmethod
    def read(cls, entries: Mapping[str, Any]) -> MadeOf | None:
        """As a card or a state says it; None where that says nothing of the kind."""
        settings, parts = entries.get("settings"), entries.get("made_of")
        return cls(settings, parts) if isinstance(settings, dict) and isinstance(parts, dict) else None

    def differences(self, now: MadeOf, free: set[str]) -> list[str]:
        """What was other than it is now, in words. free: settings that are not looked at."""
        found: list[str] = []
        were = {name: self.settings.get(name, now.defaults.get(name)) for name in now.settings}
        changed = {name for name in now.settings.keys() - free if were[name] != now.settings[name]}
        for name in (name for name in now.settings if name in changed):
            before, after = (json.dumps(of[name]).replace('"', "'") for of in (were, now.settings))
            short = max(len(before), len(after)) <= LONGEST_SHOWN
            found.append(f"{name} {before} (now {after})" if short else f"another {name}")
        for part in {**now.parts, **self.parts}:
            same = _same_part(self.parts.get(part, ""), now.parts.get(part, ""))
            if not same and not DECIDED_BY.get(part, set()) & changed:
                found.append(f"other {part}" if part.endswith("s") else f"another {part}")
        return found


def _same_part(before: str, now: str) -> bool:
    """Of a model's fingerprint, or of one or two digests, the first of them as earlier versions of the pack had it."""
    if len(now.split()) > 2:
        return same_model(before, now)
    one, other = before.split() or [""], now.split() or [""]
    return one[-1] == other[-1] if len(one) == len(other) else one[0] == other[0]


def picture_digests(captioned: CaptionedPictures, held_out: bool, *more: str) -> tuple[str, str]:
    """Of pictures with their masks, and of their captions and `more`; their order does not count, but for one held out.

    Each is two digests: as earlier versions of the pack had it, and without the order.
    """
    pixels, masks = captioned.pictures.pixels, captioned.pictures.masks
    each = [digest(pixels[i], None if masks is None else masks[i]) for i, _ in enumerate(captioned.templates)]
    pairs = list(zip(each, captioned.templates, strict=True))
    pairs = [*sorted(pairs[:-1]), pairs[-1]] if held_out else sorted(pairs)
    of_pictures, of_captions = (digest(*texts) for texts in zip(*pairs, strict=True))
    of_captions = digest(of_captions, *more)
    return (
        f"{digest(*pixels, *(masks or [None]))} {of_pictures}",
        f"{digest(*captioned.templates, *more)} {of_captions}",
    )


def repeats_digest(captioned: CaptionedPictures) -> dict[str, str]:
    """As a part of `MadeOf`: which picture is drawn how often, in whatever order; none where all are drawn alike."""
    pairs = zip(captioned.pictures.pixels, captioned.repeats, strict=False)
    texts = sorted(f"{digest(pixels)} {count}" for pixels, count in pairs)
    return {"repeats": digest(*texts)} if texts else {}


def named_digest(rows: Iterable[TokenRow]) -> dict[str, str]:
    """As a part of `MadeOf`: the embeddings that captions name; none where they name none."""
    tokens = (token for row in rows for tokens in row.tokens.values() for token in tokens)
    vectors = {digest(token) for token in tokens if isinstance(token, Tensor)}
    return {"named_embeddings": digest(*sorted(vectors))} if vectors else {}


def together(concepts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Parts of `MadeOf` of each of a training's concepts as those of the training; of one alone they are its own."""
    if len(concepts) == 1:
        return dict(concepts[0])
    names = dict.fromkeys(name for each in concepts for name in each)
    return {name: digest(*(each.get(name, "").split(" ")[-1] for each in concepts)) for name in names}
