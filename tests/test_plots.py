import numpy as np

from rnn_lightning.plots import Panel, plot_forecast


def test_the_picture_draws_history_forecast_and_band_at_their_times() -> None:
    rng = np.random.default_rng(0)
    history, forecast, band = rng.normal(size=(6, 2)), rng.normal(size=(3, 2)), rng.normal(size=(2, 3, 2))
    panels = [Panel(name, range(6), history, range(6, 9), forecast, band) for name in ("a", "b")]
    figure = plot_forecast(panels, ["y", "z"], "ds", 80)
    assert len(figure.axes) == 4
    assert [axis.get_title(loc="right") for axis in figure.axes] == ["a", "a", "b", "b"]
    assert [axis.get_ylabel() for axis in figure.axes] == ["y", "z", "y", "z"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["", "", "ds", "ds"]
    known, generated = figure.axes[1].get_lines()[:2]
    np.testing.assert_array_equal(known.get_xdata(), np.arange(6))
    np.testing.assert_array_equal(known.get_ydata(), history[:, 1])
    np.testing.assert_array_equal(generated.get_xdata(), np.arange(5, 9))
    np.testing.assert_array_equal(generated.get_ydata(), [history[-1, 1], *forecast[:, 1]])
    (interval,) = figure.axes[1].collections
    assert interval.get_label() == "80 % interval"
    heights = np.asarray(interval.get_paths()[0].vertices)[:, 1]
    assert set(band[:, :, 1].ravel()) <= set(heights)


def test_without_a_band_none_is_drawn() -> None:
    figure = plot_forecast([Panel("a", range(2), np.zeros((2, 1)), range(2, 4), np.ones((2, 1)))], ["y"])
    assert not figure.axes[0].collections
