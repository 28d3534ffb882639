"""The contact sheet of a folder: after a run, and in the editor as soon as the folder is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..contact_sheet import CELL, MOST_SHOWN, Shown, contact_sheet
from ..files.picture_folders import folder_names, listed, photo_folder
from ..host.run_control import data_uri, image_of, jpeg
from ..settings import validated
from .photo_set import PhotoSet, read_photos
from .photo_settings import PhotoSettings

PATH = "/core_personalization/photos"


def look(query: Mapping[str, str]) -> dict[str, Any]:
    """text, and picture as a data URI: of the first pictures of a folder. folders: all that there are now.

    query: folder, and the node's other inputs. Raises ValueError for what the node would refuse.
    """
    given: dict[str, Any] = {name: value for name, value in query.items() if name != "folder"}
    given["shorter_side"] = int(given.get("shorter_side") or 0)
    settings = validated(PhotoSettings, given)
    files = listed(photo_folder(query.get("folder", "")))
    photos = read_photos(files, settings, CELL, most=MOST_SHOWN)
    picture = data_uri(jpeg(image_of(sheet_of(photos)[0])))
    return {"text": photos.report, "picture": picture, "folders": folder_names()}


def sheet_of(photos: PhotoSet) -> Tensor:
    """[1, H, W, 3]"""
    shown = [
        Shown(
            photo.picture.pixels,
            photo.picture.mask,
            title=f"{photo.name.rpartition('/')[2]} {photo.size[0]}×{photo.size[1]}"
            + f" · {photo.repeats}×" * (photo.repeats > 1),
            caption=photo.caption,
        )
        for photo in photos.photos[:MOST_SHOWN]
    ]
    return contact_sheet(shown, more=len(photos.photos) + photos.more - len(shown))
