"""Node "Concept Images": a folder of photos as pictures, masks and captions for the training nodes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..concept import PhotoFacts, PhotosIO
from ..files.picture_folders import folder_names, listed, photo_folder, state_of
from ..host.run_control import RunProgress, node_id_of
from ..labels import LABELS
from ..settings import RefusingNode, schema_inputs, validated
from .photo_set import read_photos
from .photo_settings import PhotoSettings
from .photo_sheet import sheet_of

FOLDER = (
    "A folder of photos within ComfyUI's input folder; press r to refresh the list. Captions and masks are found by "
    "name: cat.jpg, cat.txt, cat.mask.png. Folders in it such as 3_portraits and 1_others say how often their pictures "
    "are drawn."
)


class ConceptImages(RefusingNode):
    SETTINGS = PhotoSettings

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReConceptImages",
            display_name="Concept Images",
            category="CoRe Personalization",
            description="A folder of photos, with masks and captions where it has them: upright, in order, none lost.",
            search_aliases=["load folder", "load dataset", "load photos", "training images", "upload images", "kohya"],
            inputs=[
                io.Combo.Input("folder", display_name=LABELS["folder"], options=folder_names(), tooltip=FOLDER),
                *schema_inputs(PhotoSettings),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    display_name="images",
                    is_output_list=True,
                    tooltip="The pictures in the order of their names, of any sizes.",
                ),
                io.Mask.Output(
                    "masks",
                    display_name="masks",
                    is_output_list=True,
                    tooltip="One per picture: white is the concept. All white where a picture has none.",
                ),
                io.String.Output(
                    "captions",
                    display_name="captions",
                    is_output_list=True,
                    tooltip="One per picture, with {} once; empty where a picture has none.",
                ),
                io.String.Output("report", display_name="report", tooltip="What came, what was skipped, and why."),
                io.Image.Output("sheet", display_name="sheet", tooltip="The first pictures with masks and captions."),
                PhotosIO.Output(
                    "photos", display_name="photos", tooltip="Repeats and what was skipped, for the training nodes."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str, **_: Any) -> str:
        """Changes with the files, so that the host reads them again."""
        return state_of(photo_folder(folder))

    @classmethod
    def validate_inputs(cls, folder: str | None = None, **given: Any) -> bool:
        if isinstance(folder, str):
            photo_folder(folder)
        return super().validate_inputs(**given)

    @classmethod
    def execute(cls, folder: str, **inputs: Any) -> io.NodeOutput:
        settings = validated(PhotoSettings, inputs)
        files = listed(photo_folder(folder))
        progress = RunProgress(len(files.files), node_id_of(cls))
        photos = read_photos(files, settings, settings.shorter_side, progress.update)
        sheet = sheet_of(photos)
        shown = {**ui.PreviewImage(sheet, cls=cls).as_dict(), **ui.PreviewText(photos.report).as_dict()}
        return io.NodeOutput(
            [photo.picture.pixels.unsqueeze(0) for photo in photos.photos],
            [photo.mask.unsqueeze(0) for photo in photos.photos],
            [photo.caption for photo in photos.photos],
            photos.report,
            sheet,
            PhotoFacts([photo.repeats for photo in photos.photos], photos.summary),
            ui=shown,
        )
