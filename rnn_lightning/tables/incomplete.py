"""Series whose covariates are unknown over the horizon: which they are, and the others."""

from itertools import zip_longest

import torch
from torch import Tensor

from rnn_lightning.data.series import SeriesData
from rnn_lightning.errors import InputError, counted, quoted
from rnn_lightning.tables.calendar import stamp_series
from rnn_lightning.tables.table_data import TableData, as_table_data


def incomplete_series(data: SeriesData, horizon: int) -> Tensor:
    """Return the indices of the series that lack a covariate somewhere in the horizon."""
    if data.covariates is None:
        return torch.zeros(0, dtype=torch.long)
    is_missing = data.offsets.diff() - data.lengths < horizon
    long_enough = (~is_missing).nonzero()[:, 0]
    rows = data.ends[long_enough][:, None] + torch.arange(horizon)
    is_missing[long_enough] = data.covariates[rows].isnan().any(-1).any(-1)
    return is_missing.nonzero()[:, 0]


def without_incomplete(data: SeriesData, horizon: int) -> tuple[SeriesData, str]:
    """Return the series whose covariates are known over the horizon, and a note on the others.

    All series if all are known, or none.
    """
    short = incomplete_series(data, horizon)
    if len(short) in (0, data.num_series):
        return data, ""
    table = as_table_data(data)
    is_kept = torch.ones(data.num_series, dtype=torch.bool)
    is_kept[short] = False
    which = _unknown(table, short, horizon)
    advice = "Add rows with them after the last value, or lower the horizon."
    note = f"{len(short):,} of {data.num_series:,} series are not forecast: {which}. {advice}"
    return table.keep(is_kept.nonzero()[:, 0].tolist(), note), note


def _unknown(data: TableData, short: Tensor, horizon: int) -> str:
    """Say which covariates of which series are not known over the horizon."""
    found = [
        f"{quoted(data.ids[index])} ({_unknown_steps(data, index, horizon)})" for index in short[:3].tolist()
    ]
    more = f" and {len(short) - 3:,} more series" if len(short) > 3 else ""
    lacks = _lacks(data, short, horizon)  # and of the calendar after them
    unknown = [name for name, is_unknown in zip(data.covariate_names, lacks, strict=False) if is_unknown]
    names = ", ".join(map(quoted, unknown))
    which = f"covariate {names} is" if len(unknown) == 1 else f"covariates {names} are"
    return f"the {which} not known over `horizon` {horizon} after the last value of {', '.join(found)}{more}"


def _lacks(data: TableData, short: Tensor, horizon: int) -> list[bool]:
    """Return whether each covariate is unknown somewhere in the horizon of the ``short`` series."""
    future = data.future_covariates(short, horizon)
    assert future is not None
    lacks: list[bool] = future.isnan().any(0).any(0).tolist()
    return lacks


def _unknown_steps(data: TableData, index: int, horizon: int) -> str:
    """Say how many steps of the horizon lack covariates of a series, and which."""
    assert data.covariates is not None
    stamps = stamp_series(data.times, [index], data.lengths[[index]], horizon).to_list()
    ahead = data.covariates[int(data.ends[index]) : int(data.offsets[index + 1])][:horizon]
    known = (~ahead.isnan()).all(-1).tolist()
    unknown = [str(stamp) for stamp, is_known in zip_longest(stamps, known, fillvalue=False) if not is_known]
    span = unknown[0] if len(unknown) == 1 else f"{unknown[0]} to {unknown[-1]}"
    return f"{counted(len(unknown), 'step')}, {data.time_column} = {span}"


def require_future(data: SeriesData, horizon: int) -> None:
    """Refuse to forecast where covariates of the horizon are unknown.

    Raises:
        InputError: names the series and the steps.
    """
    short = incomplete_series(data, horizon)
    if len(short):
        which = _unknown(as_table_data(data), short, horizon)
        raise InputError(f"{which}: add rows with them after the last value, or lower the horizon.")
