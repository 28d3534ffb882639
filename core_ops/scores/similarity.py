"""The scores, each per generated picture: features in, [G] out. Their mean over pictures is the published number.

G generated pictures, R references, D features of one encoder; no feature needs to be of unit norm.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize


def clip_t(pictures: Tensor, prompts: Tensor) -> Tensor:
    """cos(picture, its prompt) in CLIP's space, both [G, D] (CoRe's evaluation setup; Radford et al. 2021)."""
    return cosine_similarity(pictures.double(), prompts.double(), dim=-1)


def text_alignment(pictures: Tensor, prompts_without_identifier: Tensor) -> Tensor:
    """CLIP-T with the identifier removed from the prompt (SID, Eq. 3)."""
    return clip_t(pictures, prompts_without_identifier)


def clip_i(pictures: Tensor, references: Tensor) -> Tensor:
    """Mean cosine with the references in CLIP's space, all of them foreground-masked (CoRe's evaluation setup)."""
    return _mean_cosine(pictures, references)


def dino(pictures: Tensor, references: Tensor) -> Tensor:
    """Mean cosine with the references in DINO's space, masked alike (CoRe's evaluation setup; Caron et al. 2021)."""
    return _mean_cosine(pictures, references)


def style(pictures: Tensor, references: Tensor) -> Tensor:
    """Mean cosine of whole pictures with whole references in a space of styles, such as CSD's (Somepalli et al. 2024,
    arXiv 2404.01292)."""
    return _mean_cosine(pictures, references)


def face(pictures: Tensor, references: Tensor) -> Tensor:
    """Mean cosine with the references' faces in a face recogniser's space (Deng et al. 2019, arXiv 1801.07698).

    A row of NaN is a picture without a face: it scores NaN, and is left out of the references.
    """
    return _mean_cosine(pictures, references[references.isfinite().all(dim=-1)])


def subject_alignment(pictures: Tensor, subject_segments: Tensor) -> Tensor:
    """Mean cosine of whole pictures with the references' subject segments in CLIP's space (SID, Eq. 1)."""
    return _mean_cosine(pictures, subject_segments)


def non_subject_disentanglement(pictures: Tensor, non_subject_segments: Tensor) -> Tensor:
    """1 − mean cosine of whole pictures with the references' non-subject segments in CLIP's space (SID, Eq. 2)."""
    return 1 - _mean_cosine(pictures, non_subject_segments)


def _mean_cosine(pictures: Tensor, references: Tensor) -> Tensor:
    """[G, D] and [R, D] → [G]; in float64, so that the references' order does not show."""
    unit_pictures, unit_references = (normalize(features.double(), dim=-1) for features in (pictures, references))
    return (unit_pictures @ unit_references.T).mean(dim=-1)
