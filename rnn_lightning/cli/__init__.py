"""The command line: a LightningCLI with run folders, checkpoints and one-line errors."""
