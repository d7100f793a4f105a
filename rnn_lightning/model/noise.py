"""The noise that drives sampled paths."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rnn_lightning.errors import InputError
from rnn_lightning.model.network import RecurrentNetwork


class Innovations:
    """The innovations of a rollout, drawn in order of time, so that a short horizon is the beginning of a long one."""

    def __init__(
        self,
        network: RecurrentNetwork,
        batch_size: int,
        num_samples: int | None,
        noise: Tensor | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
    ) -> None:
        self.like, self.num_features = network.readout.weight, network.num_features
        self.batch_size, self.num_samples, self.factor = batch_size, num_samples, None
        if num_samples is None:
            if noise is not None or generator is not None:
                raise InputError("noise and generator are those of sampled paths: give num_samples as well.")
            return
        covariance = network.residual_covariance if noise is None else noise
        if covariance.shape != (self.num_features, self.num_features) or not bool(
            covariance.isfinite().all()
        ):
            raise InputError(
                "sampled paths need the covariance of their noise, and the network holds none: fit it with validation "
                "data (--data.val_fraction above 0), or give noise as a finite (feature, feature) tensor."
            )
        variances, axes = torch.linalg.eigh(covariance.double().cpu())
        if bool(variances.min() < -1e-6 * variances.abs().max()) or not torch.allclose(
            covariance, covariance.T
        ):
            raise InputError("noise must be a covariance: symmetric, without negative eigenvalues.")
        self.factor = (axes * variances.clamp_min(0).sqrt()).T
        self.generators: list[torch.Generator | None] = (
            [generator] if generator is None or isinstance(generator, torch.Generator) else list(generator)
        )
        if len(self.generators) not in (1, batch_size):
            raise InputError(
                f"{len(self.generators)} generators for {batch_size} series: give one, or one for each."
            )

    def draw(self, num_steps: int) -> Tensor:
        """The next innovations, ``(sample * batch, time, feature)``."""
        if self.factor is None:
            return self.like.new_zeros(self.batch_size, num_steps, self.num_features)
        assert self.num_samples is not None
        width = self.batch_size // len(self.generators)
        shape = (num_steps, width, self.num_samples, self.num_features)
        # Uniform numbers come one by one from a generator, normal ones in blocks that depend on how many are
        # asked for.
        uniform = [
            torch.rand(shape, generator=generator, dtype=torch.float64) for generator in self.generators
        ]
        normal = torch.special.ndtri(torch.cat(uniform, 1).clamp_min(torch.finfo(torch.float64).tiny))
        return (normal @ self.factor).permute(2, 1, 0, 3).flatten(0, 1).to(self.like)
