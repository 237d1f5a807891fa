"""Networks that know nothing of fgbench, used as they are.

:func:`wrap` makes a chain of any module: one traced pass finds the calls in which parameters meet data, and
every later pass of the module's own forward method is tapped there.
"""

from __future__ import annotations

from fgbench.core.wrapping.buffers import buffers_kept
from fgbench.core.wrapping.chain import WrappedChain
from fgbench.core.wrapping.network import Network, wrap

__all__ = ["Network", "WrappedChain", "buffers_kept", "wrap"]
