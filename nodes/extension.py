"""The list of nodes that the host registers."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import ComfyExtension, io

from .attention_maps import AttentionMaps
from .attention_probe import ContextAttentionProbe
from .concept_prompt import ConceptPrompt
from .context_similarity import ContextSimilarity
from .host import editor_scripts, output_folders
from .load_concept import LoadConcept
from .prompt_batch import EvaluationPrompts
from .save_concept import SaveConcept
from .scorecard import PersonalizationScorecard
from .selective_caption import SelectiveCaption
from .test_time_optimize import TestTimeOptimize
from .train_embedding import TrainEmbedding
from .unet_identity_finetune import UNetIdentityFinetune

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
            TestTimeOptimize,
        ]
