"""Tangents of the calls that model code makes, as rules for :class:`fgbench.core.autodiff.dual.Dual`.

Importing this module registers them. A call without a rule is right all the same, but slower.
"""

from fgbench.core.autodiff import (
    rules_images as rules_images,
)
from fgbench.core.autodiff import (
    rules_losses as rules_losses,
)
from fgbench.core.autodiff import (
    rules_norms as rules_norms,
)
from fgbench.core.autodiff import (
    rules_pointwise as rules_pointwise,
)
from fgbench.core.autodiff import (
    rules_products as rules_products,
)
from fgbench.core.autodiff import (
    rules_reduce as rules_reduce,
)
from fgbench.core.autodiff import (
    rules_shape as rules_shape,
)
