"""What tells in numbers whether a concept is any good: identity, and keeping to the prompt."""

from .bootstrap import Estimate, estimate_mean, percentile_estimate
from .prompt_texts import (
    APPEARANCE_PHRASES,
    around_concept,
    changes_appearance,
    embedding_names,
    with_category,
    with_other_concepts,
    without_identifier,
)
from .segments import foreground, non_subject_segment, subject_segment
from .similarity import (
    clip_i,
    clip_t,
    dino,
    face,
    non_subject_disentanglement,
    style,
    subject_alignment,
    text_alignment,
)
from .summary import ScoreSummary, summarize

__all__ = [
    "APPEARANCE_PHRASES",
    "Estimate",
    "ScoreSummary",
    "around_concept",
    "changes_appearance",
    "clip_i",
    "clip_t",
    "dino",
    "embedding_names",
    "estimate_mean",
    "face",
    "foreground",
    "non_subject_disentanglement",
    "non_subject_segment",
    "percentile_estimate",
    "style",
    "subject_alignment",
    "subject_segment",
    "summarize",
    "text_alignment",
    "with_category",
    "with_other_concepts",
    "without_identifier",
]
