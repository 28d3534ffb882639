"""The count of a vote as a table and a chart."""

from __future__ import annotations

from torch import Tensor

from ..charts import as_image, new_figure
from ..tables import markdown_table
from .ballot import Key
from .vote_counting import BOTH, Count

TITLES = {"concept": "shows the concept better", "prompt": "follows the prompt better", BOTH: "both questions"}
WIDTH, HEIGHT = 720, 260


def vote_table(key: Key, count: Count) -> str:
    """Markdown: a row per question, and what to know about it."""
    first, second = key.names
    rows = []
    for question, share in count.shares.items():
        low, high = share.interval()
        parts = (f"{share.part:.1%}", f"{low:.1%} to {high:.1%}", f"{1 - share.part:.1%}", str(share.n))
        rows.append((TITLES[question], *parts))
    notes = [
        f"Voters: {count.voters}, pairs: {len(key.pairs)}. Intervals: 95%, Wilson, of {first}'s share.",
        f"The left picture was chosen in {count.left.part:.0%} of the answers, whoever drew it.",
        *(f"Left out: {reason}." for reason in count.skipped),
    ]
    table = markdown_table(("Which …", first, "95% interval", second, "answers"), rows)
    return "\n\n".join([table, "\n".join(f"- {note}" for note in notes)]) + "\n"


def vote_chart(key: Key, count: Count) -> Tensor:
    """A bar per question, the first method's part from the left, its interval over it, [1, H, W, 3]."""
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.subplots()
    for row, share in enumerate(count.shares.values()):
        low, high = share.interval()
        named = {"label": key.names[0]}, {"label": key.names[1]}
        axes.barh(row, share.part, color="tab:blue", **(named[0] if row == 0 else {}))
        axes.barh(row, 1 - share.part, left=share.part, color="tab:orange", **(named[1] if row == 0 else {}))
        arms = [[share.part - low], [high - share.part]]
        axes.errorbar(share.part, row, xerr=arms, color="black", capsize=4)
        axes.text(0.01, row, f"{share.part:.0%} of {share.n}", va="center", color="white")
    axes.axvline(0.5, color="black", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(count.shares)), [TITLES[question] for question in count.shares])
    axes.set(xlim=(0, 1), ylim=(len(count.shares) - 0.5, -0.5), xlabel="share of the answers, 95% interval")
    for entry in axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=2).get_texts():
        entry.set_parse_math(False)
    return as_image(figure)
