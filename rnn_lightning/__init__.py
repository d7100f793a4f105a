"""Recurrent networks trained on sequences by teacher-forced next-step prediction, which then generate.

Glossary: a *series* is one full recording, ``(time, feature)``; a *feature* is a measured channel that is
predicted. A *window* is cut from a series for training: a *context* that warms the state up, then the
*scored* steps. A *rollout* is free-running generation of *horizon* steps from a context; its *origin* is the
last known step. The *state* is the recurrent memory, always passed and returned. The *closed loop* is the
network with its output fed back.
"""

import lazy_loader

try:
    import _interpreters
except ImportError:  # Python 3.11 and 3.12
    import _xxsubinterpreters as _interpreters  # type: ignore[import-not-found, no-redef]

__version__ = "0.1.0"

if _interpreters.get_current() != _interpreters.get_main():  # PyTorch would wait without an end there
    raise ImportError("rnn_lightning does not run in subinterpreters: use threads or processes.")

# The public names stand in __init__.pyi; each is imported when it is first used, so that this import is
# instant.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
