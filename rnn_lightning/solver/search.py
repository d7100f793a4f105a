"""The best network so far, with what is needed to go on with a fit that was stopped."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from rnn_lightning.solver.free_run_score import FreeRunScore, Score
from rnn_lightning.solver.plan import RIDGES, Stage


@dataclass(frozen=True)
class Search:
    """What the stages of a fit have found.

    Attributes:
        initial: the weights before the fit.
        best: the weights with the best free run.
        score: its score.
        noise: the input noise it was trained with.
        ridge: the ridge it was trained with.
        is_refit: whether it was trained on the validation split too.
        present: input noise and ridge of the last stage.
        validated: the best score of a network that was not trained on the validation split.
    """

    initial: Mapping[str, Tensor] = field(default_factory=dict)
    best: Mapping[str, Tensor] = field(default_factory=dict)
    score: Score | None = None
    noise: float = 0.0
    ridge: float = 0.0
    is_refit: bool = False
    present: tuple[float, float] = (0.0, 0.0)
    validated: Score | None = None

    def settings(self, stage: Stage) -> tuple[float, float]:
        """Return the input noise and the ridge of a stage, which may be those of the best before it."""
        noise = self.noise if stage.noise is None else stage.noise
        if stage.ridge is not None:
            return noise, stage.ridge
        return noise, self.ridge if stage.fall == 1 else max(
            self.ridge * stage.fall, min(RIDGES[0], self.ridge)
        )

    def after(
        self, stage: Stage, settings: tuple[float, float], score: Score, weights: Mapping[str, Tensor]
    ) -> "Search":
        """Return the search after a stage that led to ``weights``; without validation the last is best."""
        if self.score is not None and score > self.score:
            return replace(self, present=settings)
        noise, ridge = settings
        found: dict[str, Any] = {"noise": noise, "ridge": ridge, "is_refit": stage.is_refit}
        found["validated"] = self.validated if stage.is_refit else score
        return replace(self, best=weights, score=score, present=settings, **found)

    def described(self, free_run: FreeRunScore | None) -> str:
        """Return what was chosen, in one line."""
        chosen = f"input noise {self.noise:g}, ridge {self.ridge:g}"
        if free_run is None or self.validated is None:
            return f"{chosen}, without validation"
        valid, horizon = -self.validated.valid_steps, free_run.batch.horizon
        leaves = "; a long free run leaves the range of the data" if self.validated.leaves else ""
        refit = "; then refitted on all values" if self.is_refit else ""
        return f"{chosen}: valid for {valid:g} of {horizon} steps on validation data{leaves}{refit}"

    def state(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        scores = {name: [*value] for name, value in vars(self).items() if isinstance(value, Score)}
        return {**vars(self), **scores, "initial": dict(self.initial), "best": dict(self.best)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Search":
        """Return the search of a checkpoint."""
        scores = {name: state[name] and Score(*state[name]) for name in ("score", "validated")}
        return cls(**{**state, **scores, "present": tuple(state["present"])})
