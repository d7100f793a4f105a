"""A recurrence in C for the CPU, forward, backward and in closed loop, as an operator of PyTorch."""
