"""``python -m rnn_lightning``."""

from rnn_lightning.cli.main import main

if __name__ == "__main__":
    main()
