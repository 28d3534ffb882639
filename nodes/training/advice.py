"""Settings that are legal and unwise: each in one line for the node, which begins with "Note:" and says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from ...core_ops.diffusion_process import Prediction
from ...core_ops.pictures import MUCH_ENLARGED, Fit, is_empty, looks_inverted, scaled_side, single_masks
from ...core_ops.quoting import quoted
from ..labels import LABELS

FAR_RATE, TOO_LOW, FAR_SIDE = 10, 1000, 1.5
MOST_WORDS = 4
_OF_FEW_STEPS = re.compile(r"turbo|lightning|lcm|hyper(?=[-_ ]?(?:sd|xl|\d))|dmd2?(?![a-z])", re.IGNORECASE)
HARDLY_ACTS = 0.01
"""Of the gradient."""
HARDLY_KNOWS = 0.7
"""Of a loss that is 1 for noise guessed as nothing, and about 0.1 to 0.2 for a model that was trained."""


def advised(*notes: str | None) -> tuple[str, ...]:
    """Those that there is a reason for."""
    return tuple(f"Note: {note}" for note in notes if note)


def on_rate(rate: float, published: float) -> str | None:
    if rate * TOO_LOW <= published:  # such as a preset's with Prodigy, whose rate is a part of its own
        return f"the learning rate {rate:g} is far below what is published; set it to about {published:g}."
    if rate <= FAR_RATE * published:
        return None
    return (
        f"the learning rate {rate:g} is {rate / published:.0f} times what is published; set it to about {published:g}."
    )


def on_category(words: str) -> str | None:
    """It stands in every prompt, and the text encoder was trained on English."""
    if len(words.split()) > MOST_WORDS:
        return f"{quoted(words)} is a sentence; say what it is in one or a few words, such as dog."
    if not words.isascii():
        return f"{quoted(words)} is not plain English, which models read best; say what it is in English, such as dog."
    return None


def on_pictures(images: Sequence[Tensor], side: int, fit: Fit, own: int) -> tuple[str | None, ...]:
    """images: [b, H, W, C] as they came. own: what the model was made for, in pixels."""
    return on_side(side, own), on_enlarged(images, side, fit)


def on_masks(masks: Sequence[Tensor] | None, images: Sequence[Tensor]) -> tuple[str | None, ...]:
    """Of what core's Load Image gives: white where a picture is transparent, and nothing where it is not.

    masks: [b, H, W] as they came; None where none are used.
    """
    pictures = [picture for batch in images for picture in batch]
    singles = single_masks(masks or ())
    empty = sum(map(is_empty, singles))
    inverted = sum(looks_inverted(mask, picture) for mask, picture in zip(singles, pictures, strict=False))
    return (
        f"{empty} of {len(singles)} masks are empty, as ComfyUI's Load Image gives them for pictures without "
        "transparency: those pictures are learned whole."
        if empty
        else None,
        f"{inverted} of {len(singles)} masks are white around their pictures and black in the middle, as ComfyUI's "
        "Load Image gives them for cut-outs: the background would be learned. Put ComfyUI's Invert Mask between."
        if inverted
        else None,
    )


def on_captions(given: Sequence[str], written: Sequence[str], category: str) -> str | None:
    """given: one per picture. written: the same, with {} in place of the super-category where there was none."""
    put = [after for before, after in zip(given, written, strict=True) if before != after]
    if not put:
        return None
    return (
        f"{len(put)} of {len(given)} captions have no {{}}, which was put where {quoted(category)} stands: "
        f"{quoted(put[0])}. Name other words for it, such as sks, in Concept Images or Selectively Informative "
        "Captions: left there, they are learned as its surroundings."
    )


def on_side(side: int, own: int) -> str | None:
    if own / FAR_SIDE <= side <= own * FAR_SIDE:
        return None
    return f"the resolution {side} is far from the {own} pixels that this model was made for; set it to 0."


def on_enlarged(images: Iterable[Tensor], side: int, fit: Fit) -> str | None:
    """Of those that come to be much larger than they were."""
    sides = [scaled_side((batch.shape[1], batch.shape[2]), side, fit) for batch in images for _ in batch]
    small = [(before, after) for before, after in sides if after > MUCH_ENLARGED * before]
    if not small:
        return None
    before, after = min(small)
    return (
        f"{len(small)} of {len(sides)} pictures are enlarged more than twice (from {before} to {after} pixels), "
        "which is learned as blur; use larger pictures, or a lower resolution."
    )


def on_shared_steps(concepts: int, steps: int, published: int) -> str | None:
    """published: steps for one concept."""
    if concepts == 1 or steps >= concepts * published:
        return None
    return (
        f"{concepts} concepts share {steps} steps, and {published} are published for one; set steps to "
        f"{concepts * published}."
    )


def on_class_images(without: Sequence[str]) -> str | None:
    """without: super-categories that have none, where others have."""
    if not without:
        return None
    return (
        f"there are class images, but none of {quoted(without[0])}: others of that kind may begin to look like yours; "
        "connect class_images of each kind."
    )


def on_checkpoints(files: Sequence[str]) -> str | None:
    """files: that model and text encoder came from, where both are known."""
    if len(set(files)) < 2:
        return None
    return f"the text encoder is of {files[1]}, the model of {files[0]}; connect both of one, unless you mean it."


def on_whole_unet(
    forgets_sampling: bool = False, rounds: bool = False, with_timestep_lora: bool = False
) -> tuple[str | None, ...]:
    """Of one that is saved. forgets_sampling: no file can say how it samples. rounds: it is loaded in eight bits.
    with_timestep_lora: on it is what is part of no weight."""
    return (
        "the connected model has a T-LoRA, which a whole U-Net cannot hold; load that with Load T-LoRA beside the file "
        "of this training."
        if with_timestep_lora
        else None,
        "no file says how this model samples; load what is saved with ModelSamplingDiscrete set as here."
        if forgets_sampling
        else None,
        "the model is loaded in eight bits, to which ComfyUI rounds what is learned when it draws; the file holds it "
        "in fp16: draw with that, loaded with weight_dtype default."
        if rounds
        else None,
    )


def on_few_steps(name: str) -> str | None:
    """name: of the file that the model is from. Nothing in it says so but its name."""
    kind = _OF_FEW_STEPS.search(name)
    if not kind:
        return None
    return (
        f"by its name, {quoted(name)} is made for few steps ({kind[0]}), which a training of the U-Net makes it forget "
        f"bit by bit. Train the model that it was made from, and use the result here. Previews: about 8 in "
        f"“{LABELS['preview_steps']}”, 1 to 2 in “{LABELS['preview_guidance']}”."
    )


def on_text_encoder(names: Sequence[str]) -> str | None:
    """names: of a LoRA file's weights that is trained further."""
    if not (others := sum(name.startswith(("lora_te", "text_encoder", "bundle_emb")) for name in names)):
        return None
    return (
        f"{others} of {len(names)} weights in start_from are of the text encoder, and left out: the U-Net is trained."
    )


def on_replaced(how: str | None, name: str) -> str | None:
    """how: the training begins, in words; None where it replaces nothing.

    ComfyUI runs no node again whose inputs are the same, and core's Load LoRA keeps what it read.
    """
    if how is None:
        return None
    return (
        f"{name} is replaced: {how}. Concept Prompt and Load Concept give the new one. A prompt with embedding:{name} "
        "typed, and ComfyUI's Load LoRA, go on with the old until they are changed or ComfyUI is started again."
    )


def on_first_loss(loss: float, prediction: Prediction) -> str | None:
    """loss: the steady loss before the first step."""
    if loss < HARDLY_KNOWS:
        return None
    other, node = ("v", "v_prediction") if prediction == "epsilon" else ("ε", "eps")
    called = {"epsilon": "ε", "v": "v"}[prediction]
    return (
        f"the model is far off before it learns anything (loss {loss:.2g}): its checkpoint may predict {other} and not "
        f"{called}, without saying so. Put ModelSamplingDiscrete ({node}) behind it and compare."
    )


def on_shares(shares: Mapping[str, float], regularizers: Iterable[str]) -> str | None:
    """shares: of the gradient, by term, as measured last."""
    known = [shares[name] for name in regularizers if name in shares]
    if not known or sum(known) >= HARDLY_ACTS:
        return None
    remedy = f"Choose “{LABELS['weighting']}”: balanced."
    return f"CoRe's terms had {sum(known):.1%} of the gradient: they hardly acted. {remedy}"
