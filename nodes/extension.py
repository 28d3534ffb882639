"""The list of nodes that the host registers."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import ComfyExtension, io

from .captions.selective_caption import SelectiveCaption
from .embedding.train_embedding import TrainEmbedding
from .evaluation.prompt_batch import EvaluationPrompts
from .evaluation.scorecard import PersonalizationScorecard
from .files import output_folders
from .finetune.unet_identity_finetune import UNetIdentityFinetune
from .host import editor_scripts
from .insight.attention_maps import AttentionMaps
from .insight.attention_probe import ContextAttentionProbe
from .insight.context_similarity import ContextSimilarity
from .refinement.optimize_prompt import OptimizePrompt
from .sharing.concept_prompt import ConceptPrompt
from .sharing.load_concept import LoadConcept
from .sharing.save_concept import SaveConcept

EDITOR_SCRIPTS = Path(__file__).parents[1] / "editor"


class PersonalizationExtension(ComfyExtension):
    async def on_load(self) -> None:
        editor_scripts.serve(EDITOR_SCRIPTS, "personalization")
        output_folders.sweep()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            TrainEmbedding,
            UNetIdentityFinetune,
            ConceptPrompt,
            SaveConcept,
            LoadConcept,
            EvaluationPrompts,
            PersonalizationScorecard,
            SelectiveCaption,
            ContextAttentionProbe,
            AttentionMaps,
            ContextSimilarity,
            OptimizePrompt,
        ]
