"""The network and its closed loop: plain PyTorch that knows nothing of tables, files or the Trainer."""
