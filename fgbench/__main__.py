"""Run the command line: ``python -m fgbench`` is ``fgbench``."""

from fgbench.cli.main import main

if __name__ == "__main__":
    main()
