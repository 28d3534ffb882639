"""Node "Blind Vote": pairs of pictures as a page for voters, who do not learn which method drew which."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...core_ops.pictures import single_pictures
from ...core_ops.scores import with_category
from ..evaluation.evaluation_inputs import plain_prompts, prompt_of_each_picture
from ..files import safe_files, vote_files
from ..settings import RefusingNode, schema_inputs, validated
from .ballot import Key, drawn_pairs, vote_id
from .ballot_page import MOST_REFERENCES, jpeg_of, page
from .ballot_settings import BallotSettings


class BlindVote(RefusingNode):
    SETTINGS = BallotSettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReBlindVote",
            display_name="Blind Vote",
            category="CoRe Personalization",
            description="Two methods' pictures of the same prompts as one HTML file for voters: which shows the "
            "concept better, which follows the prompt better? Vote Results counts what they save.",
            search_aliases=["user study", "a/b test", "human preference", "compare methods", "side by side"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("first", tooltip="Pictures of one method, as a batch or a list."),
                io.Image.Input(
                    "second", tooltip="Pictures of the other method: as many, of the same prompts and seeds."
                ),
                io.String.Input(
                    "prompts",
                    force_input=True,
                    tooltip="What voters read: one per picture, one per batch, or one for all; best plain_prompts of "
                    "Evaluation Prompts.",
                ),
                io.Image.Input(
                    "references", tooltip="Pictures of the concept itself. The first four are shown with every pair."
                ),
                *schema_inputs(BallotSettings),
            ],
            outputs=[
                io.String.Output("page_file", display_name="page_file", tooltip="Where the page for voters is."),
                io.String.Output(
                    "key_file", display_name="key_file", tooltip="Where the key is, which voters do not get."
                ),
            ],
        )

    @classmethod
    def refuse(cls, settings: BallotSettings) -> None:
        safe_files.validate_name("vote_name", settings.vote_name)
        if settings.first_name.strip() == settings.second_name.strip():
            raise ValueError("second_name: both methods have the same name; give each its own.")

    @classmethod
    def execute(cls, first: Any, second: Any, prompts: Any, references: Any, **inputs: Any) -> io.NodeOutput:
        settings = validated(BallotSettings, inputs)
        cls.refuse(settings)
        firsts, seconds = single_pictures("first", first), single_pictures("second", second)
        if len(firsts) != len(seconds):
            raise ValueError(
                f"second: got {len(seconds)} for {len(firsts)} pictures of first; connect as many, drawn with the same "
                "prompts and seeds."
            )
        plain, _ = plain_prompts(prompt_of_each_picture(prompts, first))
        texts = [with_category(prompt, "", settings.super_category.strip() or "[this]") for prompt in plain]
        pairs = drawn_pairs(texts, settings.most_pairs, settings.seed)
        pictures = []
        for pair in pairs:
            sides = (firsts, seconds) if pair.first == "left" else (seconds, firsts)
            left, right = (jpeg_of(drawn[pair.picture], settings.picture_side) for drawn in sides)
            pictures.append((left, right))
        shown = single_pictures("references", references)[:MOST_REFERENCES]
        vote = vote_id(pairs, [picture for both in pictures for picture in both])
        files = vote_files.save_vote(
            settings.vote_name,
            page=page(vote, [jpeg_of(each, settings.picture_side) for each in shown], pairs, pictures),
            key=Key(vote, (settings.first_name.strip(), settings.second_name.strip()), pairs).to_json(),
            overwrite=settings.overwrite,
        )
        told = (
            f"{len(pairs)} pairs. Give {files[0].name} to voters, and keep {files[1].name}. Put the CSV files that "
            "they save into ComfyUI's input folder, and run Vote Results."
        )
        return io.NodeOutput(*map(str, files), ui=ui.PreviewText(told))
