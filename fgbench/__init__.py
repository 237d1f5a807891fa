"""fgbench: how biased, noisy and costly is a gradient estimate, and does it train?

The stable entry is :func:`fgbench.api.run`; estimators build on :mod:`fgbench.estimator`. Importing this
package imports no torch.
"""

__version__ = "0.1.0"
