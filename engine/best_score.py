"""The best score of a training, and how long ago it was (`train.patience`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class BestScore:
    """patience: evaluations without a better score after which a training ends; None: it does not.

    value: -1 before the first score. waited: evaluations since the best one.
    """

    patience: int | None = None
    value: float = -1.0
    waited: int = 0

    @property
    def exhausted(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def improved(self, record: Mapping[str, Any], counts: bool = True) -> bool:
        """Whether a record has a score, the best so far, which it then becomes. counts: whether another evaluation is
        one of those that patience waits for."""
        if "val/protocol" not in record:
            return False
        score = record.get("val/AP", record.get("val/AP50"))  # AP50 where a protocol has no AP
        if score is None or score <= self.value:
            self.waited += counts
            return False
        self.value, self.waited = float(score), 0
        return True

    def starts_anew(self) -> None:
        """Scores before are those of another network, or of another evaluation."""
        self.value, self.waited = -1.0, 0

    def state(self) -> dict[str, Any]:
        """The entries of a checkpoint."""
        return {"best": self.value, "waited": self.waited}

    def restore(self, content: Mapping[str, Any]) -> None:
        self.value, self.waited = content["best"], content.get("waited", 0)

    def text(self, epoch: int, epochs: int) -> str:
        """Why a training ended after `epoch` of `epochs`."""
        best = f"the best score, {self.value:.3f}" if self.value >= 0 else "a score"
        since = f"{self.waited} evaluation{'s' * (self.waited != 1)} since {best}"
        return f"ended after epoch {epoch} of {epochs}: train.patience = {self.patience}, {since}"
