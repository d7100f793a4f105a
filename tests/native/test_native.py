"""The native kernel equals ``torch.nn`` stepped by hand: values and gradients, on every instruction set."""

import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnn_lightning.native import library
from rnn_lightning.native.layers import MAX_HIDDEN, kernel_weights, runs
from rnn_lightning.native.operator import Recurred, recurrence
from rnn_lightning.recurrent import recur

KERNEL = library.find() if os.environ.get(library.SWITCH) != "0" else None
pytestmark = pytest.mark.skipif(KERNEL is None, reason="the native kernel was not built, or is switched off")

CELLS = ["rnn_tanh", "rnn_relu", "gru", "lstm"]
SIZES = [(units, rows) for units in (1, 7, 8, 9, 33) for rows in (1, 4, 15, 16, 17, 21)]


def layers(cell: str, num_inputs: int, units: int, num_layers: int, dtype: torch.dtype) -> nn.RNNBase:
    kinds: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}
    activation = {"nonlinearity": cell.removeprefix("rnn_")} if cell.startswith("rnn") else {}
    made: nn.RNNBase = kinds[cell](num_inputs, units, num_layers, batch_first=True, **activation).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(0.7)  # a free run that forgets: rounding does not grow
    return made


def by_steps(
    recurrent: nn.RNNBase,
    readout: nn.Linear | None,
    inputs: Tensor,
    state: Sequence[Tensor],
    feedback: str,
    begin: Tensor | None,
) -> Recurred:
    """The definition, one call of the module a step."""
    outputs, fed = [], []
    num_outputs = 0 if readout is None else readout.out_features
    for index, step in enumerate(inputs.unbind(1)):
        values = step[:, :num_outputs]
        if readout is not None and feedback == "fill":
            values = torch.where(values.isnan(), readout(state[0][-1]).detach(), values)
        elif readout is not None and feedback == "free":
            values = readout(state[0][-1]) + values
        step = torch.cat([values, step[:, num_outputs:]], 1)[:, None]
        _, after = recurrent(step, tuple(state) if len(state) == 2 else state[0])
        state = after if len(state) == 2 else (after,)
        if begin is not None:
            state = [torch.where((begin <= index)[:, None], part, torch.zeros_like(part)) for part in state]
        outputs.append(state[0][-1] if readout is None else readout(state[0][-1]))
        fed.append(values)
    return Recurred(torch.stack(fed if feedback == "free" else outputs, 1), torch.stack(fed, 1), tuple(state))


def assert_near(ours: Tensor | None, expected: Tensor | None, tolerance: float) -> None:
    """Relative to the largest value, of each tensor."""
    if expected is None or expected.numel() == 0:
        assert ours is None or not ours.any()
        return
    assert ours is not None
    assert ours.shape == expected.shape
    ours, expected = ours.detach(), expected.detach()
    assert float((ours - expected).abs().max()) <= tolerance * float(expected.abs().max().clamp_min(1e-2))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("feedback", ["given", "fill", "free"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
@pytest.mark.parametrize("cell", CELLS)
def test_values_and_gradients_are_those_of_the_definition(
    cell: str, dtype: torch.dtype, tolerance: float, feedback: Any
) -> None:
    """Over odd sizes, with and without readout, covariates, state, late rows and outputs."""
    some = range(CELLS.index(cell) % 3, len(SIZES), 3)  # all sizes in every three cells
    for case, (units, rows) in ((index, SIZES[index]) for index in some):
        generator = torch.Generator().manual_seed(case)
        torch.manual_seed(case)
        num_layers, num_steps = 1 + case % 3, (1, 5, 70)[case // 2 % 3]
        num_outputs, num_covariates = 1 + case % 2, case // 3 % 3
        recurrent = layers(cell, num_outputs + num_covariates, units, num_layers, dtype)
        readout = nn.Linear(units, num_outputs).to(dtype) if feedback != "given" or case % 2 else None
        weights = kernel_weights(recurrent, readout)
        inputs = torch.randn(rows, num_steps, num_outputs + num_covariates, generator=generator).to(dtype)
        if feedback == "fill":
            gaps = torch.rand(rows, num_steps, num_outputs, generator=generator) < 0.3
            inputs[..., :num_outputs][gaps] = torch.nan
        begin = torch.randint(num_steps + 1, (rows,), generator=generator) if case % 3 == 0 else None
        first = 0 if feedback == "free" else case % (num_steps + 1)
        shape = (num_layers, rows, units)
        state = [torch.randn(shape, generator=generator).to(dtype) for _ in range(1 + (cell == "lstm"))]
        if case % 4 == 0:
            state = [torch.zeros_like(part) for part in state]
        wanted = [part.requires_grad_() for part in (*weights, *state, inputs)]
        expected = by_steps(recurrent, readout, inputs, state, feedback, begin)
        given = None if case % 4 == 0 else state
        ours = recurrence(cell, inputs, given, weights, feedback=feedback, begin=begin, first=first)
        with torch.no_grad():
            again = recurrence(cell, inputs, given, weights, feedback=feedback, begin=begin, first=first)
        outputs = expected.outputs[:, first:]
        assert_near(ours.outputs, outputs, tolerance)
        assert torch.equal(ours.outputs, again.outputs)
        assert all(map(torch.equal, ours.state, again.state))
        for part, expected_part in zip(ours.state, expected.state, strict=True):
            assert_near(part, expected_part, tolerance)
        if feedback == "fill":
            assert_near(ours.filled, expected.filled, tolerance)
        along = [torch.randn(part.shape, generator=generator).to(dtype) for part in (outputs, *state)]
        gradients, expected_gradients = (
            torch.autograd.grad(
                torch.stack(
                    [(part * way).sum() for part, way in zip((values, *after), along, strict=True)]
                ).sum(),
                wanted,
                allow_unused=True,
            )
            for values, after in ((ours.outputs, ours.state), (outputs, expected.state))
        )
        for position, (one, other) in enumerate(zip(gradients, expected_gradients, strict=True)):
            if given is not None or not len(weights) <= position < len(wanted) - 1:
                assert_near(one, other, tolerance)


def test_the_gradient_of_float32_is_as_near_to_float64_as_that_of_torch() -> None:
    for cell in CELLS:
        torch.manual_seed(0)
        recurrent = layers(cell, 3, 33, 2, torch.float32)
        inputs, target = torch.randn(17, 50, 3), torch.randn(17, 50, 33)
        exact = layers(cell, 3, 33, 2, torch.float64)
        exact.load_state_dict(recurrent.state_dict())
        expected = torch.autograd.grad(
            (exact(inputs.double())[0] * target.double()).sum(), list(exact.parameters())
        )
        ours = torch.autograd.grad((recur(recurrent, inputs)[0] * target).sum(), list(recurrent.parameters()))
        torchs = torch.autograd.grad((recurrent(inputs)[0] * target).sum(), list(recurrent.parameters()))
        error, error_of_torch = (
            max(
                float((one - other).abs().max() / other.abs().max())
                for one, other in zip(some, expected, strict=True)
            )
            for some in (ours, torchs)
        )
        assert error < max(3 * error_of_torch, 1e-5)


@pytest.mark.parametrize("feedback", ["given", "free"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradcheck(cell: str, feedback: Any) -> None:
    torch.manual_seed(1)
    recurrent, readout = layers(cell, 2, 3, 2, torch.float64), nn.Linear(3, 1).double()
    state = [torch.randn(2, 2, 3).double().requires_grad_() for _ in range(1 + (cell == "lstm"))]
    inputs = torch.randn(2, 4, 2).double().requires_grad_()

    def function(inputs: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        of_state, weights = others[: len(state)], others[len(state) :]
        recurred = recurrence(cell, inputs, of_state, weights, feedback=feedback)
        return recurred.outputs, *recurred.state

    assert torch.autograd.gradcheck(function, (inputs, *state, *kernel_weights(recurrent, readout)))


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(2)
    recurrent, inputs = layers("gru", 2, 33, 2, torch.float32), torch.randn(101, 40, 2)
    results = []
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        outputs, (hidden,) = recur(recurrent, inputs)
        results.append([outputs, hidden, *torch.autograd.grad(outputs.sum(), list(recurrent.parameters()))])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_rows_do_not_depend_on_each_other() -> None:
    """NaN stays in its row, for good from its step on, and no other row sees it."""
    torch.manual_seed(3)
    recurrent, inputs = layers("lstm", 2, 9, 2, torch.float64), torch.randn(18, 6, 2).double()
    with torch.no_grad():
        clean, _ = recur(recurrent, inputs)
        inputs[4, 2, 0] = inputs[17, 3, 1] = torch.nan
        outputs, (hidden, _) = recur(recurrent, inputs)
    assert outputs.isnan().any(-1).nonzero().tolist() == [
        *([4, t] for t in range(2, 6)),
        *([17, t] for t in range(3, 6)),
    ]
    assert hidden.isnan().any(-1).any(0).nonzero().flatten().tolist() == [4, 17]
    others = [row for row in range(18) if row not in (4, 17)]
    assert torch.equal(outputs[others], clean[others])


def test_views_and_empty_batches() -> None:
    torch.manual_seed(4)
    recurrent = layers("gru", 3, 8, 2, torch.float32)
    wide = torch.randn(30, 5, 12)
    view = wide.transpose(0, 1)[:, ::2, 1:10:3]
    assert not view.is_contiguous()
    outputs, state = recur(recurrent, view)
    expected, expected_state = recurrent(view)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(state[0], expected_state)
    ones = torch.ones((), requires_grad=True).expand_as(outputs)
    torch.testing.assert_close(
        torch.autograd.grad(outputs, list(recurrent.parameters()), ones),
        torch.autograd.grad(expected.sum(), list(recurrent.parameters())),
        rtol=1e-4,
        atol=1e-4,
    )
    for rows, steps in ((0, 5), (2, 0)):
        state = (torch.randn(2, rows, 8, requires_grad=True),)
        outputs, after = recur(recurrent, torch.randn(rows, steps, 3), state)
        assert outputs.shape == (rows, steps, 8)
        (after[0].sum() + outputs.sum()).backward()
        if steps == 0:
            torch.testing.assert_close(after, state)
        assert all(
            not parameter.grad.any() for parameter in recurrent.parameters() if parameter.grad is not None
        )


def test_tanh_and_sigmoid_are_within_their_errors() -> None:
    assert KERNEL is not None
    x = torch.cat(
        [torch.linspace(-12, 12, 1 << 21), torch.logspace(-30, 0, 1 << 14), torch.tensor([torch.inf] * 16)]
    )
    ours = torch.empty(2, len(x))
    for level in (0, 1, 2):
        has_fused = KERNEL.rnn_instruction_set(level) != b"baseline"
        KERNEL.rnn_activations(len(x), x.data_ptr(), ours[0].data_ptr(), ours[1].data_ptr())
        tanh, sigmoid = torch.tanh(x.double()), torch.sigmoid(x.double())
        of_tanh, of_sigmoid = (3e-7, 2e-7) if has_fused else (4e-7, 2.5e-7)  # without fused multiply-add
        assert float(((ours[0] - tanh) / tanh.where(tanh != 0, 1.0)).abs().max()) < of_tanh
        assert float((ours[1] - sigmoid).abs().max()) < of_sigmoid
    KERNEL.rnn_instruction_set(-1)


def test_the_operator_is_an_ordinary_one() -> None:
    recurrent, readout = layers("lstm", 2, 4, 2, torch.float32), nn.Linear(4, 1)
    weights = [weight.detach() for weight in kernel_weights(recurrent, readout)]
    inputs, state = torch.randn(3, 5, 2), torch.randn(2, 3, 4)
    operators = torch.ops.rnn_lightning
    tests = ("test_schema", "test_faketensor")
    for keep in (False, True):
        arguments = (inputs, state, state, weights, torch.tensor([0, 1, 2]), "lstm", "fill", 1, keep)
        torch.library.opcheck(operators.recurrence.default, arguments, test_utils=tests)
    saved = operators.recurrence(*arguments)[-1]
    backward = (saved, weights, None, torch.randn(3, 4, 1), None, state, [3, 5, 2], "lstm", "fill", 1, True)
    torch.library.opcheck(operators.recurrence_backward.default, backward, test_utils=tests)


@pytest.mark.filterwarnings("ignore")
def test_it_compiles_into_one_graph() -> None:
    recurrent, inputs = layers("gru", 2, 8, 1, torch.float32), torch.randn(3, 6, 2)
    weights = kernel_weights(recurrent)

    def loss(inputs: Tensor) -> Tensor:
        return recurrence("gru", inputs * 2, None, weights).outputs.square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    ours = torch.autograd.grad(compiled(inputs), weights)
    torch.testing.assert_close(ours, torch.autograd.grad(loss(inputs), weights))


def test_there_is_no_second_derivative() -> None:
    recurrent = layers("gru", 1, 4, 1, torch.float32)
    outputs, _ = recur(recurrent, torch.randn(2, 3, 1))
    with pytest.raises(RuntimeError, match=f"no second derivative.*{library.SWITCH}=0"):
        torch.autograd.grad(outputs.sum(), list(recurrent.parameters()), create_graph=True)


def test_weights_that_changed_since_are_refused() -> None:
    recurrent = layers("gru", 1, 4, 1, torch.float32)
    outputs, _ = recur(recurrent, torch.randn(2, 3, 1))
    with torch.no_grad():
        recurrent.weight_hh_l0.add_(1.0)  # type: ignore[operator]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"cell": "rnn"}, ValueError, "cell must be of"),
        ({"feedback": "closed"}, ValueError, "feedback of"),
        ({"inputs": torch.zeros(3, 5)}, ValueError, "must be .batch, time, input."),
        ({"inputs": torch.zeros(3, 5, 4)}, ValueError, "must have the shapes"),
        ({"inputs": torch.zeros(3, 5, 2).double()}, TypeError, "float32, or all float64"),
        ({"inputs": torch.zeros(3, 5, 2).half()}, TypeError, "float32, or all float64"),
        ({"state": (torch.zeros(2, 3, 4),)}, ValueError, "has 2 tensors"),
        ({"state": (torch.zeros(2, 4, 4),) * 2}, ValueError, "must have the shapes"),
        ({"state": (torch.zeros(3), torch.zeros(3))}, ValueError, "must have the shapes"),
        ({"begin": torch.zeros(4, dtype=torch.int64)}, ValueError, "must have the shapes"),
        ({"begin": torch.zeros(3)}, TypeError, "begin must be int64"),
        ({"first": 6}, ValueError, "first must be from 0 to the 5 steps"),
        ({"feedback": "free", "first": 1}, ValueError, "0 in a free run"),
        ({"weights": 8, "feedback": "free"}, ValueError, "free needs a readout"),
        ({"weights": 7}, ValueError, "four for each layer"),
        ({"weights": 0}, ValueError, "four for each layer"),
    ],
)
def test_bad_input_is_an_error(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    weights = kernel_weights(layers("lstm", 2, 4, 2, torch.float32), nn.Linear(4, 1))
    good = {"cell": "lstm", "inputs": torch.zeros(3, 5, 2), "state": None, "weights": weights}
    recurrence(**good)  # type: ignore[arg-type]
    if "weights" in changed:
        changed = {**changed, "weights": weights[: changed["weights"]]}
    with pytest.raises(error, match=message):
        recurrence(**{**good, **changed})


@pytest.mark.parametrize(("cell", "rows"), [("lstm", 67), ("gru", 300)])
def test_blocks_in_a_team_are_as_alone_and_as_in_torch(cell: str, rows: int) -> None:
    """The weights are too large for the second-level cache: four blocks share each reading of them."""
    torch.manual_seed(0)
    recurrent = layers(cell, 2, 200, 1, torch.float64)
    inputs, along = torch.randn(rows, 6, 2).double(), torch.randn(rows, 6, 200).double()
    found, num_threads = [], torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        outputs = recur(recurrent, inputs)[0]
        found.append([outputs, *torch.autograd.grad(outputs, list(recurrent.parameters()), along)])
    torch.set_num_threads(num_threads)
    outputs = recurrent(inputs)[0]
    expected = [outputs, *torch.autograd.grad(outputs, list(recurrent.parameters()), along)]
    for ours, of_threads, of_torch in zip(*found, expected, strict=True):
        assert_near(ours, of_torch, 1e-11)
        assert torch.equal(ours, of_threads)
    assert torch.equal(recur(recurrent, inputs[16:32])[0], found[0][0][16:32])


def test_what_the_kernel_cannot_do_runs_in_torch() -> None:
    recurrent = nn.GRU(1, 4, 2, dropout=0.5, batch_first=True)
    inputs = torch.randn(2, 3, 1)
    assert not runs(recurrent, inputs)  # dropout between layers
    recurrent.eval()
    assert runs(recurrent, inputs)
    assert not runs(recurrent, inputs.half())
    for kind in (nn.GRU, nn.LSTM):
        assert runs(kind(1, MAX_HIDDEN), inputs)
        assert not runs(kind(1, MAX_HIDDEN + 1), inputs)
    assert not runs(recurrent, inputs.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not runs(recurrent, inputs)


def test_the_environment_variable_chooses_torch() -> None:
    program = [sys.executable, "-m", "rnn_lightning", "--version"]
    for value, expected in (("1", "native CPU kernel"), ("0", "PyTorch operators on the CPU")):
        environment = {**os.environ, library.SWITCH: value}
        said = subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout
        assert expected in said


def test_without_a_kernel_one_warning_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(library.SWITCH, raising=False)
    monkeypatch.setattr(library, "__file__", str(Path(library.__file__).parent / "elsewhere" / "library.py"))
    library.find.cache_clear()
    library.load.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert [runs(nn.GRU(1, 2), torch.zeros(1, 1, 1)) for _ in range(3)] == [False] * 3
        (warning,) = caught
        assert "Install a C compiler (such as gcc)" in str(warning.message)
        assert "not built" in library.describe()
    finally:
        monkeypatch.undo()
        library.find.cache_clear()
        library.load.cache_clear()
