"""Forward mode by dual numbers, cut graphs for pulls, and the refusal of reverse mode."""

from fgbench.core.autodiff import (  # these register what a Dual answers to calls of torch
    composites as composites,
)
from fgbench.core.autodiff import (
    jvp_rules as jvp_rules,
)
