"""The scorecard's face score: with a small detector and recogniser in a folder as InsightFace's packs are."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from families.faces import CELL, POINTS, SIDE, save_insightface, with_faces
from families.scoring import card_of, execute
from PIL import Image

pytestmark = pytest.mark.usefixtures("undrawn")

PROMPT, STYLED = "a photo of a embedding:me in the rain", "a painting of a embedding:me"
REFERENCES = [with_faces((1, 1), seed=1), with_faces((1, 2), seed=2), with_faces(seed=3)]
GENERATED = [with_faces((2, 1), seed=4), with_faces(seed=5), with_faces((2, 2), seed=6), with_faces((1, 1), seed=7)]
PROMPTS = [PROMPT, PROMPT, PROMPT, STYLED]


@pytest.fixture(scope="module")
def face_model(tmp_path_factory) -> Path:
    return save_insightface(tmp_path_factory.mktemp("insightface") / "buffalo_small")


def scored(vision_models, face_model, references=REFERENCES, generated=GENERATED, prompts=PROMPTS, **more: Any):
    quick = {"dino_model": "", "face_model": str(face_model), **more}
    return execute(vision_models, references, generated, prompts, **quick)


def feature(folder: Path, picture: torch.Tensor, row: int, column: int) -> np.ndarray:
    """Of the face in this cell, by PIL: its five points are known, and the recogniser is asked itself."""
    from core_personalization.core_ops.scores import faces

    points = (POINTS + np.array([column, row])) * CELL * picture.shape[1] / SIDE
    left, there = [], []
    for (x, y), goal in zip(points, faces.FACE_POINTS, strict=True):
        left += [[x, -y, 1, 0], [y, x, 0, 1]]
        there += goal
    a, b, c, d = np.linalg.lstsq(np.array(left), np.array(there), rcond=None)[0]  # The similarity of least squares
    turned = np.linalg.inv([[a, -b, c], [b, a, d], [0, 0, 1]])
    turned[:2, 2] += 0.5 - turned[:2, :2] @ [0.5, 0.5]  # PIL counts from a pixel's corner
    image = Image.fromarray((picture[0].numpy() * 255).round().astype(np.uint8))
    face = image.transform((112, 112), Image.Transform.AFFINE, turned[:2].ravel(), Image.Resampling.BILINEAR)
    given = (np.asarray(face, dtype=np.float32) - 127.5) / 127.5
    session = onnxruntime.InferenceSession(folder / "w600k_r50.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"data": given.transpose(2, 0, 1)[None]})[0][0]
    return found / np.linalg.norm(found)


def test_faces_are_found_aligned_and_compared(vision_models, face_model):
    card = card_of(scored(vision_models, face_model))
    references = [feature(face_model, REFERENCES[0], 1, 1), feature(face_model, REFERENCES[1], 1, 2)]
    expected = [
        np.mean([feature(face_model, GENERATED[number], *cell) @ each for each in references])
        for number, cell in ((0, (2, 1)), (2, (2, 2)))
    ]
    found = card["pictures"]["face"]
    assert [found[0], found[2]] == pytest.approx(expected, abs=5e-3)  # PIL rounds to 8 bit
    assert abs(expected[0] - expected[1]) > 0.02  # or constants were compared
    assert card["scores"]["face"]["overall"]["n"] == 2
    assert card["facts"]["face_model"] == str(face_model)


def test_pictures_without_a_face_are_counted_and_not_scored(vision_models, face_model):
    from core_personalization.nodes.evaluation.score_data import from_json
    from core_personalization.nodes.evaluation.score_report import one_line

    outputs = scored(vision_models, face_model)
    card = card_of(outputs)
    assert card["pictures"]["face"][1] is None and card["pictures"]["face"][3] is None
    assert card["pictures"]["clip_i"][1] is not None
    assert one_line(from_json(outputs["scores"])[0]).endswith(
        f"Face {card['scores']['face']['overall']['mean']:.3f} (2/3)"
    )
    for said in (
        "No face was found in 1 of 3 generated pictures; they have no Face score.",
        "No face was found in 1 of 3 references; Face leaves them out.",
    ):
        assert said in card["notes"] and said in outputs["table"]


@pytest.mark.parametrize("lacking", ("references", "generated"))
def test_without_any_face_there_is_no_score(vision_models, face_model, lacking):
    from core_personalization.nodes.evaluation.score_data import from_json
    from core_personalization.nodes.evaluation.score_report import one_line

    outputs = scored(vision_models, face_model, **{lacking: [with_faces()] * 4})
    card = card_of(outputs)
    assert one_line(from_json(outputs["scores"])[0]).endswith("Face (0/3)")
    assert "face" not in card["scores"] and "face" not in card["pictures"]
    assert any(note.startswith("Not computed:") and "Face" in note for note in card["notes"])
    assert any("No face was found in 4" in note or "in 3 of 3 generated" in note for note in card["notes"])


def test_the_largest_of_several_faces_is_compared(vision_models, face_model):
    one, two = with_faces(large=((1, 1),)), with_faces((2, 2), large=((1, 1),))
    outputs = card_of(scored(vision_models, face_model, [one], [one, two], [PROMPT]))
    assert outputs["pictures"]["face"] == pytest.approx([1, 1], abs=0.05)
    assert "1 pictures show several faces; Face compares the largest." in outputs["notes"]
    other = card_of(scored(vision_models, face_model, [with_faces((2, 2))], [two], [PROMPT]))
    assert other["pictures"]["face"][0] < 0.99


def test_a_face_is_found_in_a_large_photo_too(vision_models, face_model):
    """Whose longer side is not the detector's."""
    photo = torch.nn.functional.interpolate(REFERENCES[0].movedim(-1, 1), (512, 512), mode="nearest").movedim(1, -1)
    card = card_of(scored(vision_models, face_model, REFERENCES[:1], [photo, GENERATED[0]], [PROMPT]))
    same, other = card["pictures"]["face"]
    assert same > 0.9 > other  # A face of 14 pixels; half a pixel is lost between the two sizes.


def test_a_folder_in_the_folder_is_looked_into(vision_models, face_model, tmp_path):
    """As antelopev2.zip unpacks."""
    shutil.copytree(face_model, tmp_path / "pack" / "pack")
    card = card_of(scored(vision_models, tmp_path / "pack"))
    assert card["pictures"] == card_of(scored(vision_models, face_model))["pictures"]


def test_without_a_face_model_nothing_is_said_of_faces(vision_models):
    outputs = scored(vision_models, "")
    assert "face" not in card_of(outputs)["scores"]
    assert not any("ace" in note for note in card_of(outputs)["notes"])


def test_what_is_no_face_model_is_refused(vision_models, face_model, tmp_path):
    (tmp_path / "empty").mkdir()
    broken = save_insightface(tmp_path / "broken")
    (broken / "w600k_r50.onnx").write_bytes(b"not this")
    for folder, said in (
        (tmp_path / "none", "there is no folder"),
        (tmp_path / "empty", "has no .onnx files"),
        (save_insightface(tmp_path / "blind", detector=False), "has no detector"),
        (save_insightface(tmp_path / "only", recogniser=False), "has no recogniser"),
        (broken, "w600k_r50.onnx"),
    ):
        with pytest.raises(ValueError, match=f"^face_model: .*{said}"):
            scored(vision_models, folder)


def test_without_onnxruntime_the_package_is_named(vision_models, face_model, monkeypatch):
    from core_personalization.nodes.evaluation.evaluation_settings import ScorecardSettings
    from core_personalization.nodes.evaluation.scorecard import PersonalizationScorecard

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"^face_model: .*'pip install onnxruntime'"):
        scored(vision_models, face_model)
    with pytest.raises(ValueError, match="onnxruntime"):
        PersonalizationScorecard.refuse(ScorecardSettings(face_model=str(face_model)))


def test_scores_of_another_face_model_are_not_compared(vision_models, face_model, tmp_path):
    other = save_insightface(tmp_path / "antelope_small")
    text = scored(vision_models, other)["scores"]
    with pytest.raises(ValueError, match=r"^compare_with: .*face_model"):
        scored(vision_models, face_model, compare_with=[text])
    faceless = scored(vision_models, "")["scores"]
    assert "face" in card_of(scored(vision_models, face_model, compare_with=[faceless]))["scores"]
