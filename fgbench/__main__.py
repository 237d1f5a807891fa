"""``python -m fgbench`` is ``fgbench``."""

from fgbench.cli import main

main()
