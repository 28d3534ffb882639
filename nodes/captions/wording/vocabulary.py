"""Words by which a caption's text is taken apart: what describes a subject, what is a part of one, what joins phrases.

English and deliberately plain: what is not listed stays in the caption.
"""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


DETERMINERS = _set("a an the this that these those my your his her its their our one some any")

PREPOSITIONS = _set("""
    in on at under over near beside behind by against among amongst inside outside above below beneath next between
    before after across along around through into onto from during toward towards within atop upon past
    surrounded""")

JOINING = _set("with without while as where which who that and but or")

LIGHT = _set("light lights lighting")
"""At a clause's end what falls on the subject, and not how it looks."""

AUXILIARIES = _set("is are was were be been being has have had does do can could will would")

# What a describing clause may consist of besides describing words and parts.
FILLING = _set("""
    a an the its it his her their and with that which who is are was has have very also both all two four quite
    rather mostly slightly made of front side top back upper lower left right outer inner""")

# Colours, coats and patterns, sizes and shapes, materials and surfaces, age, looks.
DESCRIBING = _set("""
    black white gray grey brown red orange yellow green blue purple violet pink tan beige golden gold silver cream
    ivory ginger auburn blond blonde brunette maroon teal turquoise navy crimson scarlet burgundy chestnut chocolate
    caramel fawn sandy copper bronze amber russet dark light pale bright vivid colorful colourful multicolored
    multicoloured monochrome reddish brownish yellowish greenish bluish grayish greyish whitish blackish
    spotted striped brindle tabby calico tortoiseshell merle speckled mottled patched dappled plaid checkered dotted
    patterned floral ornate decorated tricolor bicolor
    fluffy furry hairy shaggy curly wavy straight silky smooth rough soft plush fuzzy woolly wiry sleek shiny glossy
    matte dull short long medium thick thin slim slender chubby fat plump stocky muscular lean tall
    small little tiny large big huge miniature mini giant medium-sized round rounded oval square rectangular
    cylindrical spherical triangular flat curved floppy pointy pointed perky bushy droopy
    wooden metal metallic ceramic porcelain plastic glass leather cotton wool woolen fabric clay stone rubber paper
    canvas denim velvet stuffed knitted crocheted handmade painted glazed polished weathered worn rusty vintage zippered
    wood steel iron brass linen silk ribbed quilted
    old young new adult elderly aged modern antique ancient
    cute adorable beautiful pretty lovely handsome elegant majestic charming sweet fierce purebred""")

_DESCRIBING_ENDINGS = (
    "haired", "coated", "furred", "eyed", "eared", "nosed", "faced", "bodied", "legged", "tailed", "colored",
    "coloured", "shaped", "sized", "toned", "textured", "breed",
)  # fmt: skip

# Parts that hardly belong to anything but the subject,
BODY_PARTS = _set("""
    fur coat hair mane whiskers ears ear eyes eye nose muzzle snout face head forehead cheeks mouth chin tongue
    teeth paws paw legs leg feet tail tails belly chest torso neck feathers feather beak wings wing fins scales horns
    horn antlers hooves hoof skin markings marking spots spot stripes stripe patches patch freckles beard body
    build appearance complexion coloring colouring""")
# and parts that other things in the picture have too.
OBJECT_PARTS = _set("""
    handle handles spout lid rim base surface strap straps pocket pockets zipper zippers buckle buckles wheels
    wheel frame lens lenses sole soles laces label logo pattern design finish texture shape color colour print stripe
    petals petal stem leaves dial knob button buttons trim lining edges edge seams details detail""")

# Others in the picture who have body parts of their own.
BEINGS = _set("""
    man woman boy girl child kid baby toddler person people men women children someone lady guy couple owner friend
    dog cat puppy kitten horse cow sheep goat bird duck rabbit animal figure statue doll""")

STYLE_WORDS = _set("""
    style stylized stylised brushwork brushstroke brushstrokes stroke strokes impasto watercolor watercolour acrylic
    palette technique techniques texture textures textured impressionist impressionistic impressionism expressionist
    expressionism abstract surreal surrealist cubist pointillist cartoonish cartoony whimsical linework outlines
    shading hatching pixelated photorealistic realistic minimalist artistic artist medium""")

# Nouns after which the class only says what kind of thing they are: "dog bed".
COMPOUND_HEADS = _set(
    "bed bowl house toy toys food park leash collar tag door kennel cage crate show owner walker lover"
)

# Other individuals of the class than the subject.
OTHERS = _set("other another second third different two three four several many few more similar")

# Verbs that captions use of a subject, as "sits": the progressive reads on from "a photo of a dog".
PROGRESSIVES = {
    "sits": "sitting", "stands": "standing", "lies": "lying", "rests": "resting", "runs": "running",
    "walks": "walking", "looks": "looking", "sleeps": "sleeping", "plays": "playing", "wears": "wearing",
    "holds": "holding", "jumps": "jumping", "poses": "posing", "gazes": "gazing", "stares": "staring",
    "swims": "swimming", "lounges": "lounging", "leans": "leaning", "hangs": "hanging", "floats": "floating",
    "smiles": "smiling", "flies": "flying", "faces": "facing", "crouches": "crouching", "peeks": "peeking",
    "carries": "carrying", "eats": "eating", "drinks": "drinking", "climbs": "climbing", "waits": "waiting",
}  # fmt: skip

# Frequent words of other languages that are none in English.
FOREIGN = _set(
    """el la los las una uno unos del con por para sobre está y le les des une sur dans avec est et au aux der das ein
    eine einen dem den und mit auf im ist steht sitzt liegt il lo gli della nel os um uma na em com het een op"""
)

ENGLISH = _set("a an the of in on at with and is are to its it by near next from while")


def words_of(text: str) -> list[str]:
    """Lower-case words; a hyphenated word is one."""
    return re.findall(r"\w+(?:['-]\w+)*", text.lower())


def describes(word: str) -> bool:
    """Whether the word says what something looks like: "brown", "long-haired", "black-and-white"."""
    pieces = word.split("-")
    return (
        word in DESCRIBING or word.endswith(_DESCRIBING_ENDINGS) or all(p in DESCRIBING or p == "and" for p in pieces)
    )
