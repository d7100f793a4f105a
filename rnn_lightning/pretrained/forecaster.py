"""The LightningModule of the bundled network: a seasonal network with its own loss."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.forecaster import Forecaster
from rnn_lightning.losses import TrainingWindows, context_state, teacher_forced
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.season_scale import season_groups
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.pretrained.seasonal_loss import by_season, seasonal_loss


class PretrainedForecaster(Forecaster):
    """The bundled network, which forecasts series that it was never fitted on, and can be fine-tuned.

    A one-layer LSTM gates simple forecasts of series with a season. It asks for one trait of a series, its
    ``season`` in steps, 1 for none, and computes in units of the last seasons of each context.

    Args:
        num_features: number of features; taken from the data if not given.
        num_covariates: number of covariates; taken from the data if not given.
        weights: ``bundled`` to start from the pretrained weights, ``random`` to pretrain anew.
        hidden_size: hidden units of random weights.
        learning_rate: learning rate of Adam.
        schedule: ``constant`` learning rate, or one that falls to zero over the fit as a half ``cosine``.
        free_run_weight: weight, 0 to 1, of the error of the network's own free run over the scored steps in
            the loss; the teacher-forced next step has the rest.
        warmup_steps: number of steps over which the learning rate first rises to its value.

    Attributes:
        num_stages: number of parts of a fit that each have the whole schedule of the learning rate.
    """

    num_stages = 1

    def __init__(
        self,
        num_features: int | None = None,
        num_covariates: int | None = None,
        weights: Literal["bundled", "random"] = "bundled",
        hidden_size: int = 64,
        learning_rate: float = 0.001,
        schedule: Literal["constant", "cosine"] = "cosine",
        free_run_weight: float = 0.67,
        warmup_steps: int = 10,
    ) -> None:
        if weights not in ("bundled", "random"):
            raise InputError(f"`weights` must be bundled or random, got {weights!r}.")
        self.weights = weights
        super().__init__(
            num_features,
            hidden_size=hidden_size,
            transforms=[],
            learning_rate=learning_rate,
            schedule=schedule,
            free_run_weight=free_run_weight,
            warmup_steps=warmup_steps,
            num_covariates=num_covariates,
        )

    def make_network(self, num_features: int, num_covariates: int) -> SeasonalNetwork:
        if self.weights == "bundled":
            return bundled_network(num_features, num_covariates)
        return SeasonalNetwork(num_features, self.architecture[1], num_covariates)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and data is not None and self.network.ignores_covariates:
            self.network.covariate_scale.fit(data.train_covariates())

    def loss(self, windows: TrainingWindows) -> Tensor:
        return seasonal_loss(self.network, windows, self.free_run_weight)

    def one_step_errors(self, windows: TrainingWindows) -> Tensor:
        errors = torch.empty_like(windows.target)
        groups = [rows for _, rows in season_groups(windows.traits)] or [torch.arange(len(errors))]
        for rows, (group, _) in zip(groups, by_season(windows), strict=True):
            known = without_end(group, self.network.num_features)
            scale = self.network.noise_scale(context_state(self.network, group))  # (batch, 1, feature)
            errors[rows] = (group.target - teacher_forced(self.network, known)) / scale
        return errors

    def forward(self, context: Tensor, horizon: int, **known: Any) -> Tensor:
        """Generate as ``Forecaster`` does, the series of each season together."""
        groups = list(season_groups(known.get("traits") or {}))
        if len(groups) <= 1:
            return super().forward(context, horizon, **known)
        values: Tensor | None = None
        known = {"names": [f"series {row} of the batch" for row in range(len(context))]} | known
        for _, rows in groups:
            of_group = {
                name: part if name == "noise" else _select(part, rows, len(context))
                for name, part in known.items()
            }
            part = super().forward(context[rows], horizon, **of_group)  # ([sample,] group, horizon, feature)
            if values is None:
                values = part.new_empty(*part.shape[:-3], len(context), *part.shape[-2:])
            values[..., rows.to(part.device), :, :] = part
        assert values is not None
        return values

    def forecast(
        self, context: Any, horizon: int, *, season: int | Sequence[int] | None = None, **known: Any
    ) -> Any:
        """Forecast as ``Forecaster.forecast`` does.

        Args:
            context: see ``Forecaster.forecast``.
            horizon: number of steps to generate.
            season: steps of a season, 1 for none, of all series or of each; no season if None.
            known: see ``Forecaster.forecast``.
        """
        return super().forecast(context, horizon, **known, traits=self._traits(context, season))

    def warm_up(self, history: Any, covariates: Any = None, *, season: int | None = None) -> Any:  # type: ignore[override]
        """Return the state after a history, see ``Forecaster.warm_up``, of series with one season."""
        return super().warm_up(history, covariates, self._traits(history, season))

    def _traits(self, context: Any, season: int | Sequence[int] | None) -> dict[str, Tensor]:
        batch_size = len(self._as_batch(context))
        seasons = torch.as_tensor(1 if season is None else season)
        if (seasons.ndim and len(seasons) != batch_size) or bool((seasons < 1).any()):
            raise InputError(
                f"`season` must be at least 1, one for all {batch_size} series or each: got {season}."
            )
        return {"season": seasons.expand(batch_size)}

    def rate(self, step: int, num_steps: float) -> float:
        """Return the part of the learning rate, which each stage begins anew."""
        num_steps = num_steps / self.num_stages
        if self.num_stages > 1 and step < self.num_stages * num_steps:
            step = step % int(num_steps)
        return super().rate(step, num_steps)


def without_end(windows: TrainingWindows, num_features: int) -> TrainingWindows:
    """Return windows with zeros after the last known step: nothing is scored there, and no gap is filled."""
    values = windows.inputs[..., :num_features]
    after_end = values.isnan().all(-1).flip(1).cummin(1).values.flip(1)  # (batch, time)
    inputs = torch.cat(
        [values.masked_fill(after_end[..., None], 0.0), windows.inputs[..., num_features:]], -1
    )
    return windows._replace(inputs=inputs)


def _select(part: Any, rows: Tensor, batch_size: int) -> Any:
    """Return the rows of what is known of each series; what is known of all stays."""
    if isinstance(part, dict):
        return {name: trait[rows] for name, trait in part.items()}
    if isinstance(part, Tensor):
        return part[rows.to(part.device)]
    return (
        [part[row] for row in rows.tolist()] if isinstance(part, list) and len(part) == batch_size else part
    )
