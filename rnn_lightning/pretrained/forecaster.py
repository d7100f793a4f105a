"""The LightningModule of the bundled network: a seasonal network with its own loss."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rnn_lightning.data.windows import ForecastBatch
from rnn_lightning.errors import InputError, require_counts
from rnn_lightning.forecaster import Forecaster, as_array
from rnn_lightning.losses import TrainingWindows
from rnn_lightning.pretrained.bundled import bundled_network
from rnn_lightning.pretrained.season_batches import (
    forecast_batch_by_season,
    generate_by_season,
    scaled_one_step_errors,
    shifted_paths,
    uses_hold_outs,
)
from rnn_lightning.pretrained.season_forecast import SeasonForecast, forecast_seasons, steps_wanted
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.pretrained.seasonal_loss import seasonal_loss
from rnn_lightning.rollout import Forecast
from rnn_lightning.transforms import Traits


class PretrainedForecaster(Forecaster):
    """Bundled network that forecasts series it was never fitted to, and can be fine-tuned.

    A one-layer LSTM gates simple forecasts of seasonal series, in units of the last seasons of each context.
    It uses these traits of a series:

    - ``season (batch,)``: its season in steps, 1 for none;
    - or ``seasons (batch, k)``: candidate seasons of its calendar, shortest first, padded with 0, and
      ``year (batch,)``: steps of a year modelled as harmonics next to the shortest season, 0 for none.

    With candidates, each series is forecast with each of them and without a season; the forecast is the mean
    of these, weighted by their errors on the series itself, and mixed with a trend (``trend_member.py``). A
    series whose ``seasons`` are all 0 uses its ``season``, and the trend.

    Args:
        num_features: number of features; taken from the data if not given.
        num_covariates: number of covariates; taken from the data if not given.
        weights: ``bundled`` to start from the pretrained weights, ``random`` to pretrain anew.
        hidden_size: hidden units of random weights.
        learning_rate: learning rate of Adam.
        schedule: ``constant`` learning rate, or ``cosine`` decay to zero over the fit.
        free_run_weight: weight in the loss, from 0 to 1, of the error of the network's own free run over the
            scored steps; the teacher-forced next step has the rest.
        warmup_steps: number of initial steps over which the learning rate rises to its value.
        hold_outs: whether forecast errors from up to three earlier origins of a series help to weight its
            candidate seasons and decide on the trend: ``always``, ``never``, or ``auto`` for at most 2,000
            series. Without them, only one-step errors give the weights: this takes a third of the time, and
            errors are 2 % larger.
        point: ``median``, which may be zero at every step of intermittent demand, or ``mean``, whose sum is
            the expected demand. Applies only with candidate seasons; for series that are not intermittent,
            both are the same.

    Attributes:
        num_stages: number of stages of a fit, each with a whole schedule of the learning rate.
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
        hold_outs: Literal["auto", "always", "never"] = "auto",
        point: Literal["median", "mean"] = "median",
    ) -> None:
        if hold_outs not in ("auto", "always", "never"):
            raise InputError(f"`hold_outs` must be auto, always or never, got {hold_outs!r}.")
        if point not in ("median", "mean"):
            raise InputError(f"`point` must be median or mean, got {point!r}.")
        self.hold_outs, self.point, self.num_series = hold_outs, point, 0
        if weights not in ("bundled", "random"):
            raise InputError(f"`weights` must be bundled or random, got {weights!r}.")
        self.weights, self.refits = weights, weights == "bundled"
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

    def take_sizes(self, data: Any) -> None:
        super().take_sizes(data)
        self.num_series = data.data.num_series

    def loss(self, windows: TrainingWindows) -> Tensor:
        return seasonal_loss(self.network, windows, self.free_run_weight)

    def one_step_errors(self, windows: TrainingWindows) -> Tensor:
        return scaled_one_step_errors(self.network, windows)

    def forward(self, context: Tensor, horizon: int, **known: Any) -> Tensor:
        """Generate as ``Forecaster`` does; with the trait ``seasons`` see ``forecast_with_errors``.

        Sampled paths are those of the season with the largest weight, shifted by what the forecast differs
        from the path without noise; they do not know the trend's or another season's uncertainty.
        """
        if "seasons" not in (known.get("traits") or {}):
            return generate_by_season(super().forward, context, horizon, **known)
        plain = {name: part for name, part in known.items() if name in ("covariates", "traits", "names")}
        forecast = self.forecast_with_errors(context, horizon, **plain)
        if known.get("num_samples") is None:
            return forecast.point
        return shifted_paths(self.network, forecast, context, horizon, **known)

    def forecast_with_errors(
        self,
        context: Tensor,
        horizon: int,
        *,
        traits: Traits,
        covariates: Tensor | None = None,
        names: Sequence[str] | None = None,
    ) -> SeasonForecast:
        """Forecast series by their candidate seasons, with the error of each on its own last values.

        Args:
            context: ``(batch, time, feature)``, the histories of the series, or their last
                ``context_wanted`` steps, NaN where unknown.
            horizon: number of steps to forecast.
            traits: ``seasons (batch, k)``, and perhaps ``year (batch,)`` and ``season (batch,)``.
            covariates: ``(batch, time + horizon, covariate)``.
            names: names of the series for warnings.
        """
        require_counts(horizon=horizon)
        known: dict[str, Any] = {"traits": traits, "covariates": covariates, "names": names}
        known |= {"hold_outs": self._uses_hold_outs(len(context)), "as_means": self.point == "mean"}
        return forecast_seasons(self.network, context, horizon, **known)

    def context_wanted(self, traits: Traits, horizon: int) -> int:
        """Return how many last steps of series with these traits a forecast looks at, 0 for any number."""
        return steps_wanted(traits, horizon)

    def predict_step(self, batch: ForecastBatch, batch_idx: int, dataloader_idx: int = 0) -> Forecast:
        """Forecast a batch; series with candidate seasons have an ``own_error`` too."""
        if not isinstance(batch, ForecastBatch) or "seasons" not in batch.traits:
            return super().predict_step(batch, batch_idx)
        hold_outs = self._uses_hold_outs(len(batch.context))
        return forecast_batch_by_season(self.network, batch, hold_outs, self.point == "mean")

    def _uses_hold_outs(self, num_series: int) -> bool:
        return uses_hold_outs(self.hold_outs, max(num_series, self.num_series))

    def forecast(
        self,
        context: Any,
        horizon: int,
        *,
        season: int | Sequence[int] | None = None,
        seasons: Sequence[int] | None = None,
        year: float = 0.0,
        **known: Any,
    ) -> Any:
        """Forecast as ``Forecaster.forecast`` does.

        Args:
            context: see ``Forecaster.forecast``.
            horizon: number of steps to generate.
            season: steps of a season, 1 for none, of all series or of each; no season if None.
            seasons: candidate seasons of all series, shortest first, in place of ``season``: the values of
                each series decide among them and none, and ``context`` is its whole history.
            year: steps of a year beside these, such as 365.25 for days, 0 for none.
            known: see ``Forecaster.forecast``.
        """
        if seasons is None:
            return super().forecast(context, horizon, **known, traits=self._traits(context, season))
        if min(seasons, default=1) < 1 or not year >= 0:
            raise InputError(f"`seasons` must be at least 1 and `year` at least 0: got {seasons}, {year}.")
        batch_size = len(self._as_batch(as_array(context)))
        candidates = torch.tensor(sorted(seasons) or [0], dtype=torch.long).expand(batch_size, -1)
        traits = {"seasons": candidates, "year": torch.full((batch_size,), year)}
        return super().forecast(context, horizon, **known, traits=traits)

    def warm_up(self, history: Any, covariates: Any = None, *, season: int | None = None) -> Any:  # type: ignore[override]
        """Return the state after a history, see ``Forecaster.warm_up``, of series with one season."""
        return super().warm_up(history, covariates, self._traits(history, season))

    def _traits(self, context: Any, season: int | Sequence[int] | None) -> dict[str, Tensor]:
        batch_size = len(self._as_batch(as_array(context)))
        seasons = torch.as_tensor(1 if season is None else season)
        is_whole = not seasons.is_floating_point() and bool((seasons >= 1).all())
        if not is_whole or (seasons.ndim and len(seasons) != batch_size):
            raise InputError(
                f"`season` must be a whole number of steps, one for all {batch_size} series or each: got "
                f"{season}."
            )
        return {"season": seasons.expand(batch_size)}

    def rate(self, step: int, num_steps: float) -> float:
        """Return the part of the learning rate, which each stage begins anew."""
        num_steps = num_steps / self.num_stages
        if self.num_stages > 1 and step < self.num_stages * num_steps:
            step = step % max(1, int(num_steps))
        return super().rate(step, num_steps)
