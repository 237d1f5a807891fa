"""``python -m fgbench`` is ``fgbench``."""

from fgbench.cli.main import main

main()
