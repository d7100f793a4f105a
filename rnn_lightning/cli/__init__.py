"""The command line: the LightningCLI and what surrounds it."""
