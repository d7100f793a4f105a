"""The weights of the package: a seasonal network that was trained on the prior and on nothing else."""

from pathlib import Path

import torch
from torch import Tensor

from rnn_lightning.pretrained.season_features import NUM_INPUTS
from rnn_lightning.pretrained.seasonal import SeasonalNetwork

WEIGHTS = Path(__file__).with_name("weights.pt")

NOISE = "residual_covariance"
"""What the file holds beside weights: the variance of one-step errors."""


def bundled_network(num_features: int = 1, num_covariates: int = 0) -> SeasonalNetwork:
    """The bundled network, the same for every feature; covariates change nothing before training."""
    weights: dict[str, Tensor] = torch.load(WEIGHTS, map_location="cpu", weights_only=True)
    network = SeasonalNetwork(num_features, weights["recurrent.weight_hh_l0"].shape[1], num_covariates)
    own = network.state_dict()
    with torch.no_grad():
        own[NOISE].copy_(torch.eye(num_features) * weights.pop(NOISE))
        of_features = weights.pop("recurrent.weight_ih_l0")
        own["recurrent.weight_ih_l0"][:, :NUM_INPUTS].copy_(of_features)
        for name, value in weights.items():
            own[name].copy_(value)
    network.transforms.fitted.fill_(True)
    return network
