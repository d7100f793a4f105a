"""Whether two sources give the same series."""

import torch

from rnn_lightning import SeriesData


def same(one: SeriesData, other: SeriesData) -> None:
    """Equal in all but names of files."""
    assert one.ids == other.ids
    assert one.features == other.features
    assert one.covariate_names == other.covariate_names
    for name in ("values", "offsets", "lengths", "covariates", "calendar", "past", "static"):
        a, b = getattr(one, name, None), getattr(other, name, None)
        if a is None or b is None:
            assert a is b
        else:
            torch.testing.assert_close(a[:], b[:], rtol=0, atol=0, equal_nan=True)
    assert one.times.frequencies == other.times.frequencies
    assert list(one.times.starts) == list(other.times.starts)
