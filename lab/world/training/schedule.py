"""How long a stage trains, and how its learning rate falls: by its share of steps done, or of minutes spent."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Budget:
    """A stage ends after `steps`, or after `minutes`, whichever comes first. `spent` continues an earlier run.

    The clock starts when it is first asked: what a stage loads before its first step is not counted.
    """

    steps: int
    minutes: float = float("inf")
    spent: float = 0.0
    _began: float | None = None

    def seconds(self) -> float:
        now = time.monotonic()
        if self._began is None:
            self._began = now
        return self.spent + now - self._began

    def progress(self, step: int) -> float:
        """0 at the start, 1 at the end."""
        return min(1.0, max(step / self.steps, self.seconds() / 60 / self.minutes))

    def report(self, stage: str, step: int, loss: float) -> None:
        done = max(self.progress(step), 1e-6)
        left = self.seconds() * (1 - done) / done
        print(f"{stage}: step {step}, loss {loss:.4f}, {done:.1%} done, {left / 60:.1f} min left", flush=True)


def learning_rate(peak: float, step: int, progress: float, warm_up: int = 60, constant: float = 0.4) -> float:
    """Linear warm-up, then constant, then linear to zero over the rest."""
    return peak * min(1.0, (step + 1) / warm_up) * min(1.0, (1 - progress) / (1 - constant))
