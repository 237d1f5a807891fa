"""Forward mode by dual numbers, cut graphs for pulls, and the refusal of reverse mode."""

from fgbench.core.autodiff import (
    jvp_rules as jvp_rules,  # registers the rules wherever Dual is used
)
