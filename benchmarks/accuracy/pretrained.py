"""Checkpoints of ``configs/pretrain.yaml`` compared on series of the prior; the best goes into the package.

    for seed in 0 1 2; do
        rnn-lightning fit --config configs/pretrain.yaml --seed_everything $seed --data.seed $seed
    done
    python benchmarks/accuracy/pretrained.py runs/pretrain/fit_*/checkpoints/last.ckpt --write

The series are drawn with a seed that no pretraining uses; no real table is looked at.
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.pretrained.bundled import NOISE, WEIGHTS
from rnn_lightning.pretrained.prior import MAX_FREE_RUN, draw_series, draw_shape
from rnn_lightning.pretrained.seasonal import SeasonalNetwork
from rnn_lightning.pretrained.seasonal_loss import MAX_VALUE, geometric_error
from rnn_lightning.transforms import Traits

SEED, NUM_BATCHES, NUM_SERIES = 987_654, 200, 24


def loaded(path: str) -> SeasonalNetwork:
    """The network of a checkpoint."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    weights = {name.removeprefix("network."): value for name, value in state.items()}
    network = SeasonalNetwork(hidden_size=weights["recurrent.weight_hh_l0"].shape[1])
    network.load_state_dict({name: weights.get(name, value) for name, value in network.state_dict().items()})
    return network.eval()


def batch(number: int) -> tuple[Traits, Tensor, Tensor]:
    """Draw the traits, contexts and targets ``(series, time, 1)`` of a batch."""
    rng = np.random.default_rng([SEED, number])
    season, context_length, horizon = draw_shape(rng)
    horizon = min(horizon, MAX_FREE_RUN)
    values = torch.from_numpy(draw_series(rng, NUM_SERIES, context_length + horizon, season))[..., None]
    traits = {"season": torch.full((NUM_SERIES,), season)}
    return traits, values[:, :context_length], values[:, context_length:]


@torch.inference_mode()
def error(network: SeasonalNetwork) -> float:
    """Return the geometric mean of the absolute errors of free runs, in season scales of the contexts."""
    logarithms = []
    for number in range(NUM_BATCHES):
        traits, context, target = batch(number)
        transformed, state = network.transforms.start(context, traits)
        wanted, _ = network.transforms(target, state)
        far = (torch.cat([transformed, wanted], 1).abs() > MAX_VALUE).any(1, keepdim=True)
        after = network.encode(transformed, None, traits).state
        generated, _ = network.free_run(torch.zeros_like(wanted), after, traits)
        total, count = geometric_error(generated, wanted.masked_fill(far, torch.nan))
        logarithms.append(float(total / count.clamp_min(1)))
    return float(np.exp(np.mean(logarithms)))


@torch.inference_mode()
def noise(network: SeasonalNetwork) -> Tensor:
    """Return the variance of one-step errors after contexts, in units of their scale; extremes are cut."""
    squares = []
    for number in range(NUM_BATCHES):
        traits, context, target = batch(number)
        transformed, state = network.transforms.start(context, traits)
        wanted, _ = network.transforms(target[:, :1], state)
        encoded = network.encode(transformed, None, traits)
        errors = (wanted - encoded.predictions[:, -1:]) / network.noise_scale(encoded.state)
        squares.append(errors.clamp(-5, 5).square().flatten())
    return torch.cat(squares).mean().reshape(1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--write", action="store_true", help=f"write the best one to {WEIGHTS.name}")
    arguments = parser.parse_args()
    errors = {}
    for path in arguments.checkpoints:
        errors[path] = error(loaded(path))
        print(f"{path}: {errors[path]:.4f} season scales", flush=True)
    if arguments.write:
        network = loaded(min(errors, key=lambda path: errors[path]))
        weights = {
            name: value.detach().clone() for name, value in network.named_parameters() if value.numel()
        }
        torch.save({**weights, NOISE: noise(network)}, WEIGHTS)
        print(f"{WEIGHTS}: {WEIGHTS.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
