"""Training with a solved readout: variable projection, and its corner, the reservoir."""
