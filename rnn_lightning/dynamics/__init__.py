"""Learned dynamics: canonical systems as series, metrics of attractors, Lyapunov exponents."""
