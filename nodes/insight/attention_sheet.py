"""Node "Attention Sheet": what several probes saw of the same prompt with another word in it, row below row."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ...core_ops.prompts.prompt_words import listed
from ..settings import schema_inputs, validated
from ..tables import markdown_table
from .attention_maps import decoded_pictures
from .attention_probe import ProbeIO
from .attention_settings import SheetSettings
from .sheet_rows import Sheet, SheetRow, draw_sheet

RowsIO = io.Custom("CORE_ATTENTION_ROWS")


class AttentionSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReAttentionSheet",
            display_name="Attention Sheet",
            category="CoRe Personalization",
            description="One row of attention maps per probe, one column per word: a concept beside its kind and its "
            "neighbours, as in Figure 2 of CoRe. Connect rows to the next sheet's above.",
            search_aliases=["compare attention maps", "attention grid", "cross-attention", "token maps"],
            is_output_node=True,
            inputs=[
                ProbeIO.Input("probe", tooltip="From Context Attention Probe."),
                io.Latent.Input("latent", tooltip="What the probed sampler made, so that this node waits for it."),
                io.Image.Input(
                    "images", optional=True, tooltip="The probed latents, decoded: shown at the row's left. Optional."
                ),
                RowsIO.Input("above", optional=True, tooltip="Rows of another Attention Sheet, shown above this one."),
                *schema_inputs(SheetSettings),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet", tooltip="All rows so far."),
                RowsIO.Output(
                    "rows", display_name="rows", tooltip="These rows, for the input above of another Attention Sheet."
                ),
                io.String.Output("table", display_name="table", tooltip="Each word's share of the attention, by row."),
            ],
        )

    @classmethod
    def execute(
        cls, probe: Any, latent: Any, images: Tensor | None = None, above: Any = None, **inputs: Any
    ) -> io.NodeOutput:
        settings = validated(SheetSettings, inputs)
        captured = probe.captured(latent["samples"], "probe")
        if settings.picture > captured.images:
            raise ValueError(f"picture: there are {captured.images}; choose one of them, 1 being the first.")
        shown = None
        if images is not None:
            shown = decoded_pictures("images", images, captured.images)[settings.picture - 1].clamp(0, 1)
        name = settings.row_name.strip() or captured.prompt
        rows = (*(above or ()), SheetRow.of(name, captured, settings.picture - 1, shown))
        if not all(row.labels for row in rows):
            raise ValueError("probe: its prompt has no word; give the probe a prompt.")
        sheet = Sheet.of(rows, listed(settings.words))
        drawn = draw_sheet(sheet, settings)
        table = markdown_table(["", *sheet.header], sheet.table())
        return io.NodeOutput(drawn, rows, table, ui=ui.PreviewImage(drawn, cls=cls))
