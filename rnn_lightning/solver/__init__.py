"""Training: variable projection, reservoirs, the choice of a solver, final fits and carried states."""
