"""A recurrence in C for the CPU, forward, backward and with its output fed back, as an operator of PyTorch."""
