"""Run the command line as ``python -m fgbench``."""

from fgbench.cli.main import main

main()
