"""Forecasts of a table that no machine holds: the partitions of a Dask frame, by all workers of a cluster."""

from pathlib import Path
from typing import Any

from rnn_lightning.tables.forecast_frame import forecast_frame


def forecast_partitions(
    checkpoint: str | Path,
    frame: Any,
    horizon: int | None = None,
    *,
    id_column: str = "unique_id",
    **options: Any,
) -> Any:
    """Forecast the series of a Dask frame, each partition by a call of ``forecast_frame`` where it lies.

    The rows of a series are brought together first. Point forecasts and calibrated intervals are those of
    one process; what is found in a table and not in the checkpoint, such as the season of a network that was
    never fitted, is found in each partition.

    Args:
        checkpoint: the path of a checkpoint, which every worker can read.
        frame: a Dask DataFrame, see ``forecast_frame``.
        horizon: number of steps to forecast; by default the horizon of the fit.
        id_column: the column with the id of the series.
        options: further arguments of ``forecast_frame``.

    Returns:
        A lazy Dask DataFrame with the columns of ``forecast_frame``.
    """
    import dask.dataframe
    from dask.delayed import delayed

    settings = {"horizon": horizon, "id_column": id_column, **options}
    together = frame.shuffle(id_column).to_delayed()
    parts = [delayed(_forecast)(str(checkpoint), part, settings) for part in together]
    return dask.dataframe.from_delayed(parts, verify_meta=False)


def _forecast(checkpoint: str, part: Any, settings: dict[str, Any]) -> Any:
    """Return the forecasts of one partition, which may be empty."""
    return forecast_frame(checkpoint, part, **settings) if len(part) else part
