"""The noise of sampled paths."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.pretrained.seasonal import Network

COVARIANCE_TOLERANCE = 1e-6
"""Negative eigenvalues down to this part of the largest variance are rounding errors of float32."""

NO_COVARIANCE = "noise must be a covariance: symmetric, without negative eigenvalues."


def generators(seed: int, series_index: Iterable[int]) -> list[np.random.Generator]:
    """A generator for each series: its noise depends on the seed and the index of the series alone."""
    return [np.random.default_rng([seed % 2**64, index]) for index in series_index]


class Innovations:
    """The innovations of a rollout, drawn in order of time: a longer horizon begins with a shorter one."""

    def __init__(
        self,
        network: Network,
        batch_size: int,
        num_samples: int | None,
        noise: Tensor | None,
        generator: np.random.Generator | Sequence[np.random.Generator] | None,
    ) -> None:
        self.like, self.num_features = network.readout.weight, network.num_features
        self.batch_size, self.num_samples = batch_size, num_samples
        if num_samples is None:
            if noise is not None or generator is not None:
                raise InputError("noise and generator are those of sampled paths: give num_samples as well.")
            return
        self.covariance = _checked(network.residual_covariance if noise is None else noise, self.num_features)
        if generator is None:
            generator = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        self.generators = [generator] if isinstance(generator, np.random.Generator) else list(generator)
        if len(self.generators) not in (1, batch_size):
            raise InputError(
                f"{len(self.generators)} generators for {batch_size} series: give one, or one for each."
            )

    def draw(self, num_steps: int) -> Tensor:
        """The next innovations, ``(sample * batch, time, feature)``."""
        if self.num_samples is None:
            return self.like.new_zeros(self.batch_size, num_steps, self.num_features)
        size = (num_steps, self.batch_size // len(self.generators), self.num_samples)
        mean, tolerance = np.zeros(self.num_features), COVARIANCE_TOLERANCE * self.covariance.diagonal().max()
        settings = {"tol": tolerance, "method": "eigh", "check_valid": "raise"}
        try:
            drawn = [
                generator.multivariate_normal(mean, self.covariance, size, **settings)
                for generator in self.generators
            ]
        except ValueError as error:
            raise InputError(NO_COVARIANCE) from error
        return torch.from_numpy(np.concatenate(drawn, 1)).permute(2, 1, 0, 3).flatten(0, 1).to(self.like)


def _checked(covariance: Tensor, num_features: int) -> np.ndarray:
    if covariance.shape != (num_features, num_features) or not bool(covariance.isfinite().all()):
        raise InputError(
            "sampled paths need the covariance of their noise, and the network holds none: fit it with "
            "validation data (`val_fraction` above 0), or give noise as a finite (feature, feature) "
            "tensor."
        )
    if not torch.allclose(covariance, covariance.T):
        raise InputError(NO_COVARIANCE)
    return covariance.detach().double().cpu().numpy()
