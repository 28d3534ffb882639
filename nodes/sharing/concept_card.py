"""What a shared concept says about itself: written into its file, and read from files of strangers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core_ops.prompts.prompt_templates import is_plain
from ..files.file_metadata import PREFIX
from ..tables import without_markup

LARGEST_ENTRY = 200_000
"""Characters that are read of one entry; settings may hold prompts."""

SHOWN = 1000
"""Characters that are shown of one entry."""


@dataclass(frozen=True)
class ConceptCard:
    """architecture, base_model, base_model_fingerprint: what it was learned on. settings: of its embedding's training.

    lora: of the U-Net's training, where there was one. resolution: side in pixels of its pictures, 0 where unknown.
    pictures: how many, and what of their folder was skipped.
    Files of other programs say none of it.
    """

    architecture: str = ""
    base_model: str = ""
    base_model_fingerprint: str = ""
    super_category: str = ""
    with_category: bool = False
    description: str = ""
    pack_version: str = ""
    resolution: int = 0
    pictures: str = ""
    steps_done: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    final_terms: Mapping[str, Any] = field(default_factory=dict)
    lora: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, parameter: str, metadata: Mapping[str, str]) -> ConceptCard:
        """Raises ValueError when an entry is of another type than the pack writes."""
        try:
            ours = {f"{PREFIX}{name}": name for name in _KINDS}
            found = {ours[key]: json.loads(text) for key, text in metadata.items() if key in ours}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{parameter}: its card cannot be read ({error}); choose another file.") from error
        settings = found.get("settings")
        if isinstance(settings, dict):  # an embedding's own file says it there
            found = {name: settings[name] for name in ("super_category", "with_category") if name in settings} | found
            phrase = str(metadata.get(f"{PREFIX}phrase", "")).strip('"')
            found.setdefault("with_category", phrase.endswith(f" {found.get('super_category')}"))
        values = {name: found[name] for name in _KINDS if name in found}
        for name, value in values.items():
            _check(parameter, name, value)
        return cls(**values)

    def with_kind(self, typed: str) -> ConceptCard:
        """With a super-category of the user's own; raises ValueError when there is none at all."""
        if not (kind := typed.strip() or self.super_category):
            raise ValueError(
                "super_category: the file does not say what kind of thing it is, as files of other programs do not; "
                "write it in plain words, such as dog."
            )
        _check("super_category", "super_category", kind)
        return dataclasses.replace(self, super_category=kind)

    def entries(self, phrase: str) -> dict[str, Any]:
        """What `file_metadata.metadata` writes."""
        return {**dataclasses.asdict(self), "phrase": phrase}

    def shown(self, phrase: str) -> str:
        """For people, one entry a line; nothing in it is markup."""
        entries = {"trigger": phrase, **dataclasses.asdict(self)}
        texts = {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in entries.items()
            if value not in ("", 0, {})
        }
        return "\n".join(f"{name}: {without_markup(text[:SHOWN])}" for name, text in texts.items())


_KINDS: Mapping[str, type] = {
    entry.name: {"str": str, "bool": bool, "int": int}.get(str(entry.type), dict)
    for entry in dataclasses.fields(ConceptCard)
}
"""Of each entry, the type that it must have in a file."""


def _check(parameter: str, name: str, value: Any) -> None:
    """Raises ValueError for an entry that the pack would not have written so."""
    if type(value) is not _KINDS[name]:
        wrong = f"{name} of its card is a {type(value).__name__}, not a {_KINDS[name].__name__}"
    elif len(json.dumps(value)) > LARGEST_ENTRY:
        wrong = f"{name} of its card is longer than {LARGEST_ENTRY} characters"
    elif name == "super_category" and not is_plain(value):  # it stands in prompts
        wrong = f"its super-category {value[:120]!r} is not one or a few plain words"
    else:
        return
    raise ValueError(f"{parameter}: {wrong}; choose another file.")
