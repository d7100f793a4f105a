"""A recurrent network for series with seasons, which weighs simple forecasts and adds to them.

Each step, an LSTM reads the features of ``season_features`` and gates the ingredients of a forecast: even
untrained, it forecasts a mean of them. The forecast of a negated series is the negative of the forecast.
Features of a table are series of their own. The value that is not known is the network's own prediction, so
that a forecast is a gap at the end of a series: generating equals reading a context that ends in NaN.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnn_lightning.network import Encoded, join
from rnn_lightning.pretrained import season_kernel
from rnn_lightning.pretrained.season_clock import LEAST_SPREAD, clock
from rnn_lightning.pretrained.season_features import NUM_GATES, NUM_INPUTS, Ingredients
from rnn_lightning.pretrained.season_scale import SeasonScale, season_of
from rnn_lightning.pretrained.season_track import Track, Tracker, describe, initial_track, smooth
from rnn_lightning.recurrent import RecurrentState, recur
from rnn_lightning.transforms import Standardize, Traits, Transforms

HEAD_SIZE = 64


class SeasonalNetwork(nn.Module):
    """Predicts the next values from the features of all values so far, in units of the scale of each series.

    Args:
        num_features: number of features, each a series of its own with the same weights.
        hidden_size: hidden units of the LSTM.
        num_covariates: number of covariates.
    """

    residual_covariance: Tensor

    def __init__(self, num_features: int = 1, hidden_size: int = 64, num_covariates: int = 0) -> None:
        super().__init__()
        self.num_features, self.num_covariates, self.hidden_size = num_features, num_covariates, hidden_size
        self.transforms = Transforms([SeasonScale()])
        self.covariate_scale = Standardize(num_covariates)
        self.recurrent = nn.LSTM(NUM_INPUTS + num_covariates, hidden_size, batch_first=True)
        self.inner, self.readout = (
            nn.Linear(hidden_size + NUM_INPUTS, HEAD_SIZE),
            nn.Linear(HEAD_SIZE, NUM_GATES),
        )
        self.register_buffer("residual_covariance", torch.full((num_features, num_features), torch.nan))
        # Without elements it would be a parameter that no gradient reaches.
        has_effect = num_covariates > 0
        self.effect = nn.Parameter(torch.zeros(num_features, num_covariates)) if has_effect else None
        w_input, _, b_input, _ = self.recurrent.all_weights[0]
        with torch.no_grad():
            w_input[:, NUM_INPUTS:] = 0.0  # like ``effect``: covariates enter as training finds them useful
            b_input[hidden_size : 2 * hidden_size] = 1.0  # remember at first
            self.readout.weight.mul_(0.3)
            self.readout.bias.zero_()

    @property
    def ignores_covariates(self) -> bool:
        """Whether no covariate has found its way in yet."""
        weights = self.recurrent.all_weights[0][0][:, NUM_INPUTS:]
        return weights.numel() == 0 or not bool(weights.any())  # none: a GPU need not be waited for

    def initial_state(self, batch_size: int, traits: Traits) -> RecurrentState:
        """Return the state of series that have not started."""
        rows = self.num_features * batch_size
        zeros = self.readout.weight.new_zeros(rows, self.hidden_size)
        track, mirrored = initial_track(zeros, rows, season_of(traits)), torch.cat([zeros, zeros])
        prediction, nothing = zeros[:, 0] + torch.nan, zeros[:, 0]
        return self._packed(mirrored, mirrored, prediction, nothing, nothing, track)

    def join(self, values: Tensor, next_covariates: Tensor | None) -> Tensor:
        """Return the inputs ``(batch, time, feature + covariate)``, see ``network.join``."""
        return join(values, next_covariates, self.covariate_scale)

    def encode(
        self,
        inputs: Tensor,
        state: RecurrentState | None,
        traits: Traits,
        first_output_step: int = 0,
        complete: bool = False,
    ) -> Encoded:
        """Read inputs as ``RecurrentNetwork.encode`` does.

        ``traits`` have ``season (batch,)``, the steps of a season, 1 for none; the same for all series. A GPU
        need not be waited for if the inputs are said to be ``complete``.
        """
        season = season_of(traits)
        values, covariates = self._as_rows(inputs)  # (row, time)
        if season_kernel.runs(inputs, self.weights()):
            encoded = self._by_kernel(values, covariates, state, season, free=False)
            return encoded._replace(predictions=encoded.predictions[:, first_output_step:])
        known = ~values.isnan()
        if state is not None:
            encoded = self._step_by_step(values.nan_to_num(0.0), known, covariates, state, season)
            return encoded._replace(predictions=encoded.predictions[:, first_output_step:])
        begin = known.long().argmax(1).masked_fill(~known.any(1), values.shape[1])
        started = torch.arange(values.shape[1], device=values.device) >= begin[:, None]
        if not complete and bool((started & ~known).any()):
            with torch.no_grad():
                state = self.initial_state(len(inputs), traits)
                filled = self._step_by_step(values.nan_to_num(0.0), known, covariates, state, season).values
                values = filled.permute(2, 0, 1).reshape(values.shape)
        effect = self._effect(covariates, values)
        before = functional.pad(effect[:, :-1], (1, 0)).detach()
        steps, track, now = describe((values - before).nan_to_num(0.0), known, season)
        ingredients = Ingredients(values)
        features = ingredients.with_mirrored(ingredients.inputs(steps))
        inputs = self._with_covariates(features, covariates)
        outputs, (hidden, cell) = recur(
            self.recurrent, inputs, start_step=None if complete else begin.repeat(2)
        )
        predictions = ingredients.mix_mirrored(steps, self._gates(outputs, features))
        last, predictions = predictions[:, -1], predictions + effect
        errors = functional.pad((values[:, 1:] - predictions[:, :-1]).abs().nan_to_num(0.0), (1, 0))
        spread = smooth(errors[..., None].detach(), now.error_rate[..., None])[:, -1, 0]
        state = self._packed(hidden[0], cell[0], last, effect[:, -1], spread, track)
        values = torch.where(started, values, torch.nan)
        return Encoded(self._as_batch(predictions)[:, first_output_step:], self._as_batch(values), state)

    def noise_scale(self, state: RecurrentState) -> Tensor:
        """Return the scale of the noise ``(batch, 1, feature)``: smoothed absolute one-step errors."""
        return state[3].permute(1, 2, 0) + LEAST_SPREAD

    def free_run(
        self, inputs: Tensor, state: RecurrentState, traits: Traits
    ) -> tuple[Tensor, RecurrentState]:
        """Generate from a state, see ``closed_loop.py``; the innovations are in units of ``noise_scale``."""
        innovations, covariates = self._as_rows(inputs)
        if season_kernel.runs(inputs, self.weights()):
            return self._by_kernel(innovations, covariates, state, season_of(traits), free=True)[1:]
        _, values, state = self._step_by_step(innovations, None, covariates, state, season_of(traits))
        return values, state

    def weights(self) -> list[Tensor]:
        """Return the weights of the LSTM, the head and the readout, each before its bias."""
        inner, readout = self.inner, self.readout
        return [*self.recurrent.all_weights[0], inner.weight, inner.bias, readout.weight, readout.bias]

    def _by_kernel(
        self, values: Tensor, covariates: Tensor | None, state: RecurrentState | None, season: int, free: bool
    ) -> Encoded:
        """Read values, or generate, in the compiled network, which equals all that follows."""
        effect = self._effect(covariates, values)
        predictions, taken, parts = season_kernel.run(
            values, covariates, effect, state, self.weights(), season, free
        )
        after = tuple(part.unflatten(0, (self.num_features, -1)) for part in parts)
        return Encoded(self._as_batch(predictions), self._as_batch(taken), after)

    def _step_by_step(
        self,
        values: Tensor,
        known: Tensor | None,
        covariates: Tensor | None,
        state: RecurrentState,
        season: int,
    ) -> Encoded:
        """Go on step by step: known ``values (row, time)`` count, others are innovations; all if None."""
        hidden, cell, prediction, effect, spread, track = self._unpacked(state, season)
        tracker, weights = Tracker(track, season), self.recurrent.all_weights[0]
        any_known = [False] * values.shape[1] if known is None else known.any(0).tolist()
        known = torch.zeros_like(values, dtype=torch.bool) if known is None else known
        now = clock(known, values, season, track.age, track.free)
        all_begun = bool((now.age[:, 0] >= 0).all())
        effects = self._effect(covariates, values)
        predictions, taken = [], []
        for index, moment in enumerate(now.steps()):
            value = prediction + (spread + LEAST_SPREAD) * values[:, index]
            if any_known[index]:
                given = values[:, index] - effect.detach()
                error = (given - prediction).abs().detach().nan_to_num(0.0)
                spread = torch.lerp(spread, error, moment.error_rate)
                value = torch.where(known[:, index], given, value)
            taken.append(value + effect)
            begun = (moment.age >= 0)[:, None]
            step = tracker.push(value if all_begun else torch.where(begun[:, 0], value, 0.0), moment)
            features = tracker.ingredients.with_mirrored(tracker.ingredients.inputs(step))
            inputs = self._with_covariates(features, None if covariates is None else covariates[:, index])
            hidden, cell = torch.lstm_cell(inputs, (hidden, cell), *weights)
            if not all_begun:
                hidden, cell = hidden * begun.repeat(2, 1), cell * begun.repeat(2, 1)
            prediction = tracker.ingredients.mix_mirrored(step, self._gates(hidden, features))
            if not all_begun:
                prediction = torch.where(begun[:, 0], prediction, torch.nan)
            effect = effects[:, index]
            predictions.append(prediction + effect)
        state = self._packed(hidden, cell, prediction, effect, spread, tracker.track())
        return Encoded(
            self._as_batch(torch.stack(predictions, 1)), self._as_batch(torch.stack(taken, 1)), state
        )

    def _gates(self, hidden: Tensor, features: Tensor) -> Tensor:
        """Return the gates in the type of the features: autocast makes those of the layers half as wide."""
        return self.readout(functional.silu(self.inner(torch.cat([hidden, features], -1)))).to(features)

    def _effect(self, covariates: Tensor | None, values: Tensor) -> Tensor:
        """What covariates add to the values ``(row, time)`` of the next steps, beside what the LSTM does.

        It is taken from the values before these are described, so that it is none of a level.
        """
        if covariates is None or self.effect is None:
            return torch.zeros_like(values)
        own = self.effect.repeat_interleave(len(values) // self.num_features, 0)  # (row, covariate)
        return (covariates @ own[..., None])[..., 0].nan_to_num(0.0)

    def _with_covariates(self, features: Tensor, covariates: Tensor | None) -> Tensor:
        """Features of rows and of their negatives beside the covariates, which both have."""
        if covariates is None:
            return features
        return torch.cat([features, torch.cat([covariates, covariates])], -1)

    def _as_rows(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """``(batch, time, feature + covariate)`` as ``(row, time)`` and ``(row, time, covariate)``."""
        values, covariates = inputs.split([self.num_features, self.num_covariates], -1)
        rows = values.permute(2, 0, 1).flatten(0, 1)
        return rows, covariates.repeat(self.num_features, 1, 1) if self.num_covariates else None

    def _as_batch(self, rows: Tensor) -> Tensor:
        """``(row, time)`` as ``(batch, time, feature)``."""
        return rows.unflatten(0, (self.num_features, -1)).permute(1, 2, 0)

    def _packed(
        self, hidden: Tensor, cell: Tensor, prediction: Tensor, effect: Tensor, spread: Tensor, track: Track
    ) -> RecurrentState:
        """Everything as ``(feature, batch, size)``; the prediction is NaN where a row has not begun.

        The effect of the covariates of the predicted step is not in the prediction.
        """
        prediction = torch.where(track.age >= 0, prediction[:, None], torch.nan)
        hidden, cell = (torch.cat(part.chunk(2), 1) for part in (hidden, cell))
        parts = (hidden, cell, prediction, spread[:, None], effect[:, None], *track)
        return tuple(part.flatten(1).unflatten(0, (self.num_features, -1)) for part in parts)

    def _unpacked(
        self, state: RecurrentState, season: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Track]:
        hidden, cell, prediction, spread, effect, *parts = (part.flatten(0, 1) for part in state)
        track = Track(*parts)
        profiles = track.profiles.unflatten(1, (season, -1))
        hidden, cell = (torch.cat(part.chunk(2, 1)) for part in (hidden, cell))
        track = track._replace(profiles=profiles)
        return hidden, cell, prediction[:, 0], effect[:, 0], spread[:, 0], track
