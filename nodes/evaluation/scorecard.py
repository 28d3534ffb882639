"""Node "Personalization Scorecard": tells in numbers how well a concept is kept, and how well the prompt."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..charts import new_figure
from ..concept import ConceptIO
from ..files import score_files
from ..host.run_control import RunProgress, node_id_of, releasing_memory
from ..settings import RefusingNode, schema_inputs, validated
from .evaluation_inputs import check_inputs, check_settings, compared_scorecards, picture_set, prompt_of_each_picture
from .evaluation_settings import ScorecardSettings
from .score_charts import pareto_chart, score_chart
from .score_data import to_json
from .score_report import csv_table, markdown, one_line
from .scoring import score


class PersonalizationScorecard(RefusingNode):
    SETTINGS = ScorecardSettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReScorecard",
            display_name="Personalization Scorecard",
            category="CoRe Personalization",
            description="Scores pictures of a concept: likeness (CLIP-I, DINO, SA), background kept out (NSD), "
            "and faithfulness to the prompt (CLIP-T), each with its 95% interval.",
            search_aliases=["clip score", "clip-i", "clip-t", "dino score", "evaluate concept", "metrics"],
            is_input_list=True,
            is_output_node=True,
            inputs=[*_sockets(), *schema_inputs(ScorecardSettings)],
            outputs=[
                io.String.Output("scores", display_name="scores", tooltip="Everything as JSON, for compare_with."),
                io.String.Output("table", display_name="table", tooltip="Markdown, for Preview as Text."),
                io.Image.Output("chart", display_name="chart", tooltip="Every score, overall and per prompt."),
                io.Image.Output("pareto", display_name="pareto", tooltip="Identity against text alignment."),
                io.String.Output("csv_file", display_name="csv_file", tooltip="Where the CSV was written."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def refuse(cls, settings: ScorecardSettings) -> None:
        check_settings(settings)

    @classmethod
    def execute(
        cls,
        references: Any,
        generated: Any,
        prompts: Any,
        reference_masks: Any = None,
        generated_masks: Any = None,
        concept: Any = None,
        compare_with: Any = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        settings = validated(ScorecardSettings, inputs)
        new_figure(8, 8)  # Without matplotlib it is here that it fails, and not after the work.
        checked = check_inputs(
            references=picture_set("references", images=references, masks=reference_masks),
            generated=picture_set("generated", images=generated, masks=generated_masks),
            prompts=prompt_of_each_picture(prompts, generated),
            concept=concept[0] if concept else None,
            compared=compared_scorecards(compare_with, settings),
            settings=settings,
        )
        node_id = node_id_of(cls)
        with releasing_memory("batch_size"):
            card = score(checked, node_id)
        cards = [*checked.compared, card]
        text = to_json(cards)
        path = score_files.save_scores(card.name, table=csv_table(card), scores=text, overwrite=settings.overwrite)
        chart, pareto = score_chart(card), pareto_chart(cards, settings.pareto_identity, settings.pareto_text)
        RunProgress(1, node_id).say(one_line(card))
        shown = [image for part in (chart, pareto) for image in ui.PreviewImage(part, cls=cls).as_dict()["images"]]
        return io.NodeOutput(text, markdown(card), chart, pareto, str(path), ui={"images": shown})


def _sockets() -> list[io.Input]:
    """The inputs for pictures, masks, prompts, concept and other scorecards."""
    return [
        io.Image.Input("references", tooltip="Pictures of the concept, as a batch or a list, of any sizes."),
        io.Image.Input("generated", tooltip="Pictures drawn with the concept, as a batch or a list."),
        io.String.Input(
            "prompts",
            force_input=True,
            tooltip="What they were drawn with: one prompt per picture, one per batch of a list, or one for "
            "all; as a list or one per line.",
        ),
        io.Mask.Input(
            "reference_masks", optional=True, tooltip="One per reference: white is the concept. Needed for SA and NSD."
        ),
        io.Mask.Input(
            "generated_masks",
            optional=True,
            tooltip="One per generated picture: white is the concept. With masks on both sides, CLIP-I and "
            "DINO compare foregrounds only, as in CoRe's paper.",
        ),
        ConceptIO.Input(
            "concept", optional=True, tooltip="Gives scorecard_name and super_category where they are empty. Optional."
        ),
        io.String.Input(
            "compare_with",
            optional=True,
            force_input=True,
            tooltip="The output scores of another scorecard, which has those before it: all come into pareto.",
        ),
    ]
