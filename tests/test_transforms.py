"""Transforms lead out of the units of the data and exactly back, at once or in pieces."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.transforms import (
    Difference,
    Standardize,
    StandardizeContext,
    Traits,
    Transform,
    Transforms,
    TransformState,
    named_transforms,
)

CHAINS = [
    (),
    ("log",),
    ("difference",),
    ("difference", "difference"),
    ("standardize",),
    ("standardize_context",),
    ("log", "difference", "standardize"),
    ("standardize_context", "difference"),
    ("difference", "standardize_context"),
]


def positive(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double().mul(0.5).exp() * 20


def fitted(names: tuple[str, ...], num_features: int = 2) -> Transforms:
    transforms = named_transforms(names, num_features).double()
    transforms.fit([positive(50, num_features, seed=seed) for seed in (1, 2)])
    return transforms


@pytest.mark.parametrize("names", CHAINS)
def test_inverse_undoes_forward_after_a_context(names: tuple[str, ...]) -> None:
    transforms, values = fitted(names), positive(3, 40, 2)
    _, state = transforms.start(values[:, :25], {})
    transformed, _ = transforms(values[:, 25:], state)
    if names:
        assert not torch.allclose(transformed, values[:, 25:], rtol=0.1)
    torch.testing.assert_close(transforms.inverse(transformed, state), values[:, 25:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("names", CHAINS)
def test_inverse_takes_samples_on_a_leading_axis(names: tuple[str, ...]) -> None:
    transforms, values = fitted(names), positive(3, 40, 2)
    _, state = transforms.start(values, {})
    paths = positive(4, 3, 6, 2, seed=5).log()
    together = transforms.inverse(paths, state)
    for sample in range(4):
        torch.testing.assert_close(together[sample], transforms.inverse(paths[sample], state), rtol=0, atol=0)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(names=st.sampled_from(CHAINS), cuts=st.lists(st.integers(10, 30), min_size=1, max_size=3, unique=True))
def test_pieces_equal_the_whole(names: tuple[str, ...], cuts: list[int]) -> None:
    transforms, values = fitted(names), positive(2, 30, 2)
    begin, state = transforms.start(values[:, :10], {})
    whole, last = transforms(values[:, 10:], state)
    pieces = []
    for first, end in zip([10, *sorted(cuts)], [*sorted(cuts), 30], strict=True):
        piece, state = transforms(values[:, first:end], state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(state, last, rtol=0, atol=0)
    assert begin.shape[1] == 10 - transforms.num_lost
    if "standardize_context" not in names:
        at_once, _ = transforms.start(values, {})
        torch.testing.assert_close(torch.cat([begin, *pieces], 1), at_once, rtol=1e-13, atol=1e-13)


def test_what_a_transform_cannot_take_is_refused_when_it_is_fitted() -> None:
    for names in (["log"], ["log", "standardize"], ["standardize_context", "log"]):
        with pytest.raises(
            InputError, match=r"the log transform needs values above 0, and the smallest is -?[0-9.]+"
        ):
            named_transforms(names, 1).fit([torch.ones(5, 1), torch.tensor([[1.0], [-2.0], [1.0]])])


def test_the_difference_of_a_ramp_is_its_slope() -> None:
    transforms = named_transforms(["difference"], 1)
    transformed, state = transforms.start(torch.tensor([[[1.0], [2.0], [3.0], [4.0], [5.0]]]), {})
    assert transformed.flatten().tolist() == [1.0, 1.0, 1.0, 1.0]
    assert transforms.inverse(torch.ones(1, 3, 1), state).flatten().tolist() == [6.0, 7.0, 8.0]
    twice = named_transforms(["difference", "difference"], 1)
    transformed, state = twice.start(torch.tensor([[[1.0], [4.0], [9.0], [16.0]]]), {})
    assert transformed.flatten().tolist() == [2.0, 2.0]
    assert twice.inverse(torch.full((1, 3, 1), 2.0), state).flatten().tolist() == [25.0, 36.0, 49.0]


def test_statistics_are_those_of_numpy_over_all_series() -> None:
    pieces = [torch.randn(length, 3) * torch.tensor([1.0, 50.0, 1e-3]) + 1e4 for length in (7, 100, 31)]
    transform = Standardize(3)
    transform.fit(iter(pieces))
    together = np.concatenate([piece.double().numpy() for piece in pieces])
    np.testing.assert_allclose(transform.mean.numpy(), together.mean(0), rtol=1e-6)
    np.testing.assert_allclose(transform.scale.numpy()[:2], together.std(0)[:2], rtol=1e-5)
    series = named_transforms(["log", "difference", "standardize"], 2)
    given_series = [positive(20, 2, seed=seed).float() for seed in (3, 4)]
    series.fit(given_series)
    changes = np.concatenate([np.diff(np.log(values.double().numpy()), axis=0) for values in given_series])
    last = series.parts[2]
    assert isinstance(last, Standardize)
    np.testing.assert_allclose(last.mean.numpy(), changes.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last.scale.numpy(), changes.std(0), rtol=1e-5)


def test_the_context_is_standardized_by_its_own_statistics() -> None:
    values = positive(3, 40, 2)
    transformed, _ = fitted(("standardize_context",)).start(values, {})
    array = values.numpy()
    expected = (array - array.mean(1, keepdims=True)) / array.std(1, keepdims=True)
    np.testing.assert_allclose(transformed.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 7.0, -0.25, 1e6])
@pytest.mark.parametrize(("name", "part"), [("standardize", 1.0), ("standardize_context", 1e-2)])
def test_a_constant_series_is_scaled_by_its_magnitude(name: str, part: float, constant: float) -> None:
    scale = part * abs(constant) or 1.0
    transforms, values = named_transforms([name], 1), torch.full((1, 30, 1), constant)
    transforms.fit([values[0]])
    transformed, state = transforms.start(values, {})
    torch.testing.assert_close(transformed, torch.zeros(1, 30, 1))
    ahead = transforms.inverse(torch.ones(1, 1, 1), state)
    assert ahead.item() == pytest.approx(constant + scale)


@pytest.mark.parametrize("wrong", [0.0, -3.0])
def test_log_refuses_what_has_no_logarithm(wrong: float) -> None:
    values = torch.tensor([[[2.0], [wrong], [1.0]]])
    with pytest.raises(InputError, match=rf"values above 0, and the smallest is {wrong:g}"):
        named_transforms(["log"], 1).start(values, {})


def test_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="unknown transform 'sqrt'; there are log, difference"):
        named_transforms(["sqrt"], 1)


def test_a_million_steps_are_summed_without_drift() -> None:
    steps = torch.full((1, 1_000_000, 1), 0.1)
    summed = Difference().inverse(steps, (torch.zeros(1, 1, 1),))
    # 0.1 in float32 is 0.100000001490; a sum in float32 is off by hundreds.
    assert summed[0, -1, 0].item() == pytest.approx(100_000.00149, abs=0.01)


def test_statistics_of_a_million_steps_are_exact() -> None:
    """Summed in double precision: in float32 the squares of the values drown their variance."""
    values = torch.arange(1_000_000, dtype=torch.float32)[:, None] % 2 * 2 + 5000.0
    for pieces in ([values], [torch.zeros(1, 1), values]):
        transform = Standardize(1)
        transform.fit(pieces)
        together = torch.cat(pieces).double().numpy()
        assert transform.mean.item() == pytest.approx(together.mean(), rel=1e-7)
        assert transform.scale.item() == pytest.approx(together.std(), rel=1e-6)


@pytest.mark.parametrize("names", CHAINS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 1000))
def test_gaps_are_imputed_by_what_is_put_into_them(names: tuple[str, ...], seed: int) -> None:
    """With the true changes put in, the true values come back from the first known one on, and the state."""
    transforms, values = fitted(names), positive(2, 25, 2, seed=seed)
    whole, state_of_whole = transforms.start(values, {})
    holed = values.clone()
    lost = transforms.num_lost + 1
    holed[:, lost:][torch.rand(2, 25 - lost, 2, generator=torch.Generator().manual_seed(seed)) < 0.4] = (
        torch.nan
    )
    if "standardize_context" in names:  # its scale is that of what is known
        state = transforms.start(holed, {})[1]
        whole = torch.full_like(whole, 0.5)
    transformed, _ = transforms.start(holed, {})
    put_in = torch.where(transformed.isnan(), whole, transformed)
    imputed, state = transforms.imputed(holed, put_in, None, {})
    assert bool(imputed.isfinite().all())
    assert torch.equal(imputed[~holed.isnan()], holed[~holed.isnan()])
    if "standardize_context" not in names:
        torch.testing.assert_close(imputed, values, rtol=1e-9, atol=1e-9)
        again = (transforms.inverse(whole[:, :5], each) for each in (state, state_of_whole))
        torch.testing.assert_close(*again, rtol=1e-9, atol=1e-9)


def test_a_difference_is_unknown_beside_a_gap_and_levels_go_on_over_it() -> None:
    nan = torch.nan
    transforms = named_transforms(("difference",), 1)
    values = torch.tensor([nan, 1.0, nan, nan, 9.0, nan]).view(1, 6, 1)
    transformed, _ = transforms.start(values, {})
    assert transformed.isnan().all()
    imputed, state = transforms.imputed(values, torch.full((1, 5, 1), 2.0), None, {})
    torch.testing.assert_close(
        imputed.flatten(), torch.tensor([nan, 1.0, 3.0, 5.0, 9.0, 11.0]), equal_nan=True
    )
    assert transforms.inverse(torch.full((1, 2, 1), 2.0), state).flatten().tolist() == [13.0, 15.0]
    following, state = transforms.imputed(
        torch.tensor([nan, 20.0]).view(1, 2, 1), torch.full((1, 2, 1), 2.0), state, {}
    )
    assert following.flatten().tolist() == [13.0, 20.0]
    assert transforms.inverse(torch.ones(1, 1, 1), state).item() == 21.0


def test_statistics_are_those_of_the_known_values() -> None:
    transforms = named_transforms(("standardize",), 2)
    pieces = [
        torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]]),
        torch.tensor([[3.0, 7.0], [5.0, torch.nan]]),
    ]
    transforms.fit(pieces)
    (standardize,) = transforms.parts
    assert standardize.mean.tolist() == [3.0, 7.0]
    assert standardize.scale.tolist() == [pytest.approx((8 / 3) ** 0.5), 7.0]


def test_a_context_without_scale_of_its_own_takes_that_of_the_training_split() -> None:
    transforms = named_transforms(("standardize_context",), 1)
    transforms.fit([torch.tensor([[100.0], [140.0]])])
    contexts = torch.tensor([[0.0, 0.0], [torch.nan, torch.nan], [6.0, torch.nan]])[..., None]
    _, ((mean, scale),) = transforms.start(contexts, {})
    assert mean.flatten().tolist() == [0.0, 120.0, 6.0]
    # Of the last one a sixth of the magnitude, as in training, or if that is more a tenth of the deviation.
    assert scale.flatten().tolist() == [20.0, 20.0, pytest.approx(2.0)]
    _, ((_, scale),) = transforms.start(
        torch.full((1, 2, 1), 600.0).masked_fill(torch.eye(2)[:1, :, None] > 0, torch.nan), {}
    )
    assert scale.item() == pytest.approx(100.0)


def test_from_three_known_values_on_a_context_has_a_scale_of_its_own() -> None:
    transforms, nan = named_transforms(("standardize_context",), 1), torch.nan
    transforms.fit([torch.tensor([[100.0], [140.0]])])
    contexts = torch.tensor([[nan, 10.0, nan, 30.0, nan], [nan, 10.0, 20.0, 30.0, nan]])[..., None]
    _, ((_, scale),) = transforms.start(contexts, {})
    deviation = (200 / 3) ** 0.5
    assert scale.flatten().tolist() == [pytest.approx(20 / 6), pytest.approx(deviation)]


def test_a_transform_is_given_the_traits_of_the_series() -> None:
    class Unit(Transform):
        state_size = 1

        def start(self, context: Tensor, traits: Traits) -> TransformState:
            return (traits["unit"][:, None, None],)

        def forward(self, values: Tensor, state: TransformState) -> tuple[Tensor, TransformState]:
            return values / state[0], state

        def inverse(self, transformed: Tensor, state: TransformState) -> Tensor:
            return transformed * state[0]

    transforms, traits = Transforms([Difference(), Unit()]), {"unit": torch.tensor([1.0, 10.0])}
    values = torch.tensor([[0.0, 1.0, 3.0, torch.nan], [0.0, 10.0, 30.0, torch.nan]])[..., None]
    transformed, _ = transforms.start(values, traits)
    assert transformed[:, :2, 0].tolist() == [[1.0, 2.0], [1.0, 2.0]]
    imputed, state = transforms.imputed(values, torch.full((2, 3, 1), 3.0), None, traits)
    assert imputed[:, 3, 0].tolist() == [6.0, 60.0]
    assert transforms.inverse(torch.ones(2, 2, 1), state)[..., 0].tolist() == [[7.0, 8.0], [70.0, 80.0]]
    assert (transforms.num_lost, transforms.state_sizes) == (1, [1, 1])


def test_what_follows_a_constant_context_is_not_blown_up() -> None:
    """Of calm and lively series, a shop that is closed and one that sells the same every day."""
    transforms = named_transforms(("standardize_context",), 1)
    transforms.fit([level + level / 3 * torch.randn(200, 1).double() for level in (5.0, 50.0, 5000.0)])
    contexts = torch.tensor([0.0, 50.0, 1e-3])[:, None, None].expand(3, 24, 1)
    _, state = transforms.start(contexts, {})
    following, _ = transforms(torch.full((3, 10, 1), 50.0), state)
    assert float(following[0].abs().max()) < 10
    assert torch.equal(following[1], torch.zeros(10, 1))
    assert float(following[2].abs().max()) < 1000
    assert float(transforms(torch.zeros(3, 10, 1), state)[0].abs().max()) < 50
    # The free run of a closed shop stays within what shops of its kind show.
    assert float(transforms.inverse(torch.full((3, 1, 1), 3.0), state)[0]) < 100


@pytest.mark.parametrize("unit", [1e-28, 1e-10, 1e10, 1e30])
@pytest.mark.parametrize("names", [("standardize",), ("standardize_context",), ("difference", "standardize")])
def test_the_unit_of_the_values_is_of_no_meaning(names: tuple[str, ...], unit: float) -> None:
    """Squares of the values would leave the range of float32."""
    values, found = positive(3, 40, 2).float() - 15.0, []
    for factor in (1.0, unit):
        transforms = named_transforms(names, 2)
        transforms.fit([factor * series for series in values])
        transformed, state = transforms.start(factor * values, {})
        back = transforms.inverse(torch.ones(3, 4, 2), state) / factor
        found.append((transformed, back))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_twofold_differences_are_imputed_from_the_first_known_one_on() -> None:
    nan = torch.nan
    values = torch.tensor([nan, 1.0, 2.0, 4.0, nan, 11.0])[None, :, None]
    transforms = named_transforms(["difference", "difference"], 1)
    imputed, _ = transforms.imputed(values, torch.ones(1, 4, 1), None, {})
    torch.testing.assert_close(
        imputed.flatten(), torch.tensor([nan, 1.0, 2.0, 4.0, 7.0, 11.0]), equal_nan=True
    )


def test_the_least_scale_of_a_context_is_a_tenth_of_that_of_calm_series() -> None:
    """Calm ones are those of which nine tenths move more."""
    series = [torch.tensor([[-1.0], [1.0]]) * size for size in range(1, 21)]
    part = StandardizeContext(1)
    part.fit(series)
    calm = torch.arange(1.0, 21.0).quantile(0.1)
    assert part.floor.item() == pytest.approx(0.1 * calm.item())
