"""The list of nodes that the host registers."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import ComfyExtension, io

from .captions.selective_caption import SelectiveCaption
from .embedding.train_embedding import TrainEmbedding
from .evaluation.prompt_batch import EvaluationPrompts
from .evaluation.scorecard import PersonalizationScorecard
from .files.concept_files import embedding_path, state_path
from .files.safe_files import sweep
from .files.score_files import score_folder
from .files.unet_files import new_file_path
from .files.vote_files import vote_folder
from .finetune.also_train import AlsoTrain
from .finetune.unet_identity_finetune import UNetIdentityFinetune
from .host import editor_routes, editor_scripts
from .insight.attention_maps import AttentionMaps
from .insight.attention_probe import ContextAttentionProbe
from .insight.attention_sheet import AttentionSheet
from .insight.context_similarity import ContextSimilarity
from .photos import photo_sheet
from .photos.concept_images import ConceptImages
from .refinement.optimize_prompt import OptimizePrompt
from .sharing import concept_look
from .sharing.apply_concept import ApplyConcept
from .sharing.concept_from_words import ConceptFromWords
from .sharing.concept_prompt import ConceptPrompt
from .sharing.load_concept import LoadConcept
from .sharing.load_timestep_lora import LoadTimestepLora
from .sharing.save_concept import SaveConcept
from .votes.blind_vote import BlindVote
from .votes.vote_results import VoteResults

EDITOR_SCRIPTS, LOCALES = (Path(__file__).parents[1] / name for name in ("editor", "locales"))


class PersonalizationExtension(ComfyExtension):
    async def on_load(self) -> None:
        editor_scripts.serve(EDITOR_SCRIPTS, "personalization")
        editor_scripts.serve(LOCALES, "personalization-locales")
        editor_routes.answer(concept_look.PATH, concept_look.look)
        editor_routes.answer(photo_sheet.PATH, photo_sheet.look)
        sweep_output_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            ConceptImages,
            TrainEmbedding,
            UNetIdentityFinetune,
            AlsoTrain,
            ConceptFromWords,
            ConceptPrompt,
            SaveConcept,
            LoadConcept,
            ApplyConcept,
            LoadTimestepLora,
            EvaluationPrompts,
            PersonalizationScorecard,
            BlindVote,
            VoteResults,
            SelectiveCaption,
            ContextAttentionProbe,
            AttentionMaps,
            AttentionSheet,
            ContextSimilarity,
            OptimizePrompt,
        ]


def sweep_output_folders() -> None:
    """Removes what killed processes left; folders that a user names for captions are swept when written to again."""
    files = [embedding_path("_"), state_path("_"), new_file_path("loras", "_"), new_file_path("diffusion_models", "_")]
    folders = [file.parent for file in files]
    sweep([*folders, *(saved for folder in folders for saved in folder.glob("*-steps")), score_folder(), vote_folder()])
