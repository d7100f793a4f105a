"""What a validation says: forecasts of held-out values beside the baselines, in a sentence. No Lightning."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_lightning.data.batches import SequenceBatches
from rnn_lightning.data.windows import Split, scored_windows
from rnn_lightning.errors import counted
from rnn_lightning.evaluation.baselines import ends_before, seasons_of
from rnn_lightning.evaluation.calibrated_intervals import CalibratedIntervals
from rnn_lightning.evaluation.records import ForecastRecords, forecast_columns, record
from rnn_lightning.evaluation.scores import Scores
from rnn_lightning.metrics import FreeRunError, ResidualMoments, gathered_objects, validation_metrics


def scores_of_split(
    records: ForecastRecords, batches: SequenceBatches, split: Split, levels: Sequence[int] = ()
) -> Scores:
    """Score the forecasts of a held-out split; error scales are taken from the steps before it."""
    data, own = batches.data, records.collect_own()
    own["series_index"] = own["series_index"] - batches.first_series
    ends = ends_before(data, batches.segments[split])
    scores = Scores.from_records(own, data, ends, seasons_of(data), levels)
    return scores.of_all_devices(batches.first_series)


def compare(records: ForecastRecords, batches: SequenceBatches) -> tuple[dict[str, Any], bool]:
    """Return ``verdict``, ``forecasts`` (their number) and ``horizon`` of a validation.

    And whether only a sample of the validation split was forecast.
    """
    scores = scores_of_split(records, batches, "val")
    segments, windows = batches.segments["val"], batches.forecast_starts("val")
    # The first forecast of a segment reaches furthest; its context may take a part of the split.
    reach = (segments.end - windows.first - batches.context_length)[windows.ends > windows.begins]
    horizon = min(scores.horizon, max(gathered_objects(int(reach.max()) if len(reach) else 0)))
    number = scores.num_forecasts
    found = {"verdict": scores.verdict, "forecasts": number, "horizon": horizon}
    return found, number < batches.num_forecasts("val")


def sentences(found: Mapping[str, Any], is_sample: bool, horizon: int, advice: str = "") -> list[str]:
    """Return what is said of a validation, see ``compare``, where forecasts of ``horizon`` are wanted."""
    steps, sample = counted(found["horizon"], "step"), " (a sample)" if is_sample else ""
    said = [f"Validation, {counted(found['forecasts'], 'forecast')}{sample} of {steps}: {found['verdict']}."]
    if found["horizon"] < horizon:
        said.append(f"Validation could look {steps} ahead, fewer than `horizon` {horizon}{advice}.")
    return said


@torch.no_grad()
def validate(
    forecaster: Any,
    batches: SequenceBatches,
    shown: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    measures: bool = True,
) -> tuple[list[str], dict[str, Tensor]]:
    """Validate a network that was never trained, without a Trainer.

    Args:
        forecaster: the network, in evaluation mode, with the methods of a ``Forecaster``.
        batches: the series and the sizes.
        shown: shows the progress of going through the batches.
        measures: whether to measure the metrics and the noise of the network as well, which sampled paths
            need.

    Returns:
        What to say, and the metrics by name.
    """
    records, errors = ForecastRecords(forecast_columns([])), FreeRunError()
    residuals = ResidualMoments(batches.num_features)
    for batch in shown(batches.val_dataloader()):
        if measures:
            windows = forecaster.training_windows(scored_windows(batch))
            residuals.update(forecaster.one_step_errors(windows))
        forecast = forecaster.predict_step(batch, 0)
        record(records, batch, forecast, CalibratedIntervals())
        errors.update(forecast.point, batch.target, batch.scale, batch.series_index)
    metrics = {}
    if measures:
        loss, covariance = residuals.compute()
        forecaster.network.residual_covariance.copy_(covariance)
        metrics = validation_metrics(loss, errors)
    return sentences(*compare(records, batches), batches.horizon), metrics
