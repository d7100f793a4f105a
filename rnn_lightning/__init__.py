"""Recurrent networks trained on sequences by teacher-forced next-step prediction, which then generate.

Glossary: a *series* is one full recording, ``(time, feature)``; a *feature* is a measured channel that is
predicted. A *window* is cut from a series for training: a *context* that warms the state up, then the
*scored* steps. A *rollout* is free-running generation of *horizon* steps from a context; its *origin* is the
last known step. The *state* is the recurrent memory, always passed and returned. The *closed loop* is the
network with its output fed back.
"""

import lazy_loader

__version__ = "0.1.0"

# The public names stand in __init__.pyi; each is imported when it is first used, so that this import is
# instant.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
