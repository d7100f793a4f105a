"""What scripts call: forecasts of arrays and tensors, and the parts of a stream."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.noise import generators
from rnn_lightning.pretrained.seasonal import Network, SeasonalNetwork
from rnn_lightning.rollout import State, generate, observe, rollout, warm_up

if TYPE_CHECKING:
    from rnn_lightning.forecaster import Forecaster
    from rnn_lightning.tables.panels import Frame

Array = TypeVar("Array", np.ndarray, Tensor)


class Inference:
    """The methods of a ``Forecaster`` that take NumPy arrays or tensors in the units of the data.

    They evaluate the network without dropout and gradients, and leave its mode as it is.

    Attributes:
        network: the network that they evaluate.
    """

    network: Network

    def forecast(
        self,
        context: Array,
        horizon: int,
        *,
        covariates: np.ndarray | Tensor | None = None,
        season: int | None = None,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> Array:
        """Forecast from a NumPy array or a tensor in the units of the data.

        Args:
            context: the known steps, all of which are used: ``(time,)`` of one series with one feature,
                ``(time, feature)`` of one series, or ``(batch, time, feature)``; NaN is a value that is not
                known. The last ``context_length`` steps give what ``predict`` gives.
            horizon: number of steps to generate.
            covariates: those of the known steps and of the horizon, ``(time + horizon, covariate)`` or
                ``(batch, time + horizon, covariate)``, for a network trained with covariates; a series of a
                batch of which some are not known over the horizon gets a forecast of NaN, with a warning.
            season: steps of a season, 1 for none, of a seasonal network from now on; None for that it has.
            num_samples: number of sampled paths; None for the point forecast.
            seed: seed of the sampled paths.

        Returns:
            Of the kind of ``context`` and with its axes, ``horizon`` in the place of ``time``; the samples
            are a first axis.

        Raises:
            InputError: see ``rollout``.
        """
        if hasattr(context, "columns"):
            raise InputError("forecast takes numbers: call forecast_frame with a table.")
        if not isinstance(context, Tensor):
            context = np.ascontiguousarray(context)
        if season is not None:
            if not isinstance(self.network, SeasonalNetwork):
                raise InputError("season is that of a seasonal network, and this one is not: leave it out.")
            self.network.set_season(season)
        batch = self._as_batch(context)
        known = self._as_batch(covariates)
        unknown = self._without_future(known, batch.shape[1])
        if known is not None:
            known = known.index_fill(0, unknown, 0.0)
        noise = _sampling(num_samples, seed, len(batch))
        values = self._evaluated(rollout, batch, horizon, covariates=known, **noise)
        values[..., unknown, :, :] = torch.nan
        if context.ndim < 3:
            values = values.squeeze(-3)
        if context.ndim < 2:
            values = values.squeeze(-1)
        if isinstance(context, Tensor):
            return values.to(context if context.is_floating_point() else context.device)
        return values.cpu().numpy().astype(context.dtype if context.dtype.kind == "f" else np.float32)

    def forecast_frame(
        self,
        frame: "Frame",
        horizon: int | None = None,
        *,
        num_samples: int | None = None,
        levels: Sequence[int] | None = None,
        intervals: Any = None,
        num_paths: int = 0,
        seed: int = 0,
        skip_incomplete: bool = True,
        **options: Any,
    ) -> "Frame":
        """Forecast what follows the series of a table in memory.

        Args:
            frame: a polars or pandas table in the columns that the network was fitted on, with the covariates
                of the horizon after the last known values.
            horizon: number of steps to generate; that of the fit if None.
            num_samples: number of sampled paths, which give the intervals; None for the point forecast.
            levels: levels of the intervals in percent; 80 where there are intervals if None.
            intervals: the ``PredictionIntervals`` of the fit.
            num_paths: sampled paths to return, ``<feature>-path-1``, ...
            seed: seed of the sampled paths.
            skip_incomplete: leave out, with a warning, the series whose covariates are not known over the
                horizon; refuse to forecast if False.
            options: how the table is read, where it is not as in the fit: ``id_column``, ``time_column``,
                ``target_columns`` and the other options of ``TableSeries``.

        Returns:
            A table of the kind of ``frame`` in the columns of the forecast file: those of the input, and
            ``<feature>-lo-80``, ``<feature>-hi-80`` where paths were sampled.

        Raises:
            InputError: if a column is missing or the table cannot be read, the network was not fitted, or
                covariates of the horizon are not known.
        """
        from rnn_lightning.tables.forecast_frame import forecast_frame

        self.require_fitted()
        settings = (horizon, num_samples, levels, num_paths, seed, skip_incomplete, options, intervals)
        return forecast_frame(cast("Forecaster", self), frame, *settings)

    def warm_up(self, history: np.ndarray | Tensor, covariates: np.ndarray | Tensor | None = None) -> State:
        """The state after a history, with axes as for ``forecast``; see ``rollout.warm_up``."""
        return self._evaluated(warm_up, self._as_batch(history), self._as_batch(covariates))

    def observe(
        self, state: State, values: np.ndarray | Tensor, covariates: np.ndarray | Tensor | None = None
    ) -> State:
        """The state after new values, with axes as for ``forecast``, or one vector of several features.

        See ``rollout.observe``.
        """
        values = _one_step(values, self.network.num_features)
        covariates = None if covariates is None else _one_step(covariates, self.network.num_covariates)
        return self._evaluated(observe, state, self._as_batch(values), self._as_batch(covariates))

    def generate(
        self,
        state: State,
        horizon: int,
        *,
        covariates: np.ndarray | Tensor | None = None,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Generate ``([sample,] batch, horizon, feature)`` from a state; see ``rollout.generate``."""
        noise = _sampling(num_samples, seed, state.recurrent[0].shape[1])
        return self._evaluated(generate, state, horizon, covariates=self._as_batch(covariates), **noise)

    def export_onnx(self, path: str | Path) -> None:
        """Write the whole forecast as one ONNX graph, which other programs run without this one.

        Its inputs are ``context (batch, time, feature)``, in the units of the data with NaN where a value is
        not known, and ``horizon (1,)``, int64; for a network with covariates ``covariates (batch, time +
        horizon, covariate)``; and for one that was validated ``noise (sample, batch, horizon, feature)``,
        standard normal numbers, or one zero, ``(1, 1, 1, 1)``, for the point forecast. Its output is
        ``forecast (sample, batch, horizon, feature)``.

        Args:
            path: the file, such as ``model.onnx``.

        Raises:
            InputError: if the package ``onnx`` is not installed, or the network has no form in it.
        """
        from rnn_lightning.onnx.export import export_onnx

        self.require_fitted()
        export_onnx(self.network, path)

    def _without_future(self, covariates: Tensor | None, num_known: int) -> Tensor:
        """The series of a batch whose covariates after the first ``num_known`` steps are not all known."""
        if covariates is None:
            return torch.zeros(0, dtype=torch.long, device=self.network.readout.weight.device)
        is_unknown = covariates[:, num_known:].isnan().any(-1).any(-1)
        series = is_unknown.nonzero()[:, 0]
        if len(series):
            rule = "the covariates of the horizon must all be known"
            if bool(is_unknown.all()):
                raise InputError(f"{rule}: some are NaN.")
            shown = ", ".join(map(str, series[:5].tolist())) + (", ..." if len(series) > 5 else "")
            warnings.warn(f"{rule}, and of series {shown} some are NaN: their forecast is NaN.", stacklevel=3)
        return series

    def require_fitted(self) -> None:
        """Raise InputError if the network was never fitted, so that the units of its data are not set."""
        if not bool(self.network.transforms.fitted):
            raise InputError(
                "the network has not been fitted: load a checkpoint, or fit it with a SequenceDataModule "
                "first."
            )

    @overload
    def _as_batch(self, values: np.ndarray | Tensor) -> Tensor: ...

    @overload
    def _as_batch(self, values: None) -> None: ...

    def _as_batch(self, values: np.ndarray | Tensor | None) -> Tensor | None:
        """The values as ``(batch, time, feature)``, on the device and in the precision of the network."""
        if values is None:
            return None
        if not isinstance(values, Tensor):
            values = torch.from_numpy(np.array(values, np.float64, order="C"))
        tensor = values.to(self.network.readout.weight)
        if tensor.ndim == 1:
            tensor = tensor[:, None]
        return tensor if tensor.ndim > 2 else tensor[None]

    def _evaluated(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``function(network, ...)`` without dropout and gradients."""
        self.require_fitted()
        training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                return function(self.network, *args, **kwargs)
        finally:
            self.network.train(training)


def _one_step(values: np.ndarray | Tensor, size: int) -> np.ndarray | Tensor:
    """One number, or a vector of several features, as one step ``(time, feature)``."""
    values = values if isinstance(values, Tensor) else np.asarray(values, np.float64)
    is_step = values.ndim == 0 or (values.ndim == 1 and size > 1)
    return values.reshape(1, -1) if is_step else values


def _sampling(num_samples: int | None, seed: int, batch_size: int) -> dict[str, Any]:
    """The arguments of ``rollout`` for sampled paths of the series 0, 1, ... of a batch."""
    if num_samples is None:
        return {}
    return {"num_samples": num_samples, "generator": generators(seed, range(batch_size))}
