"""Draw every committed picture again, from the committed records.

The scripts of this folder, the figures of the variance laboratory (those whose numbers lie there as CSV)
and the page of the paper's tables. ``make pictures`` runs it; it takes two minutes of one core.
"""

import runpy
import subprocess
import sys
from pathlib import Path

import fgbench

HERE = Path(__file__).parent
REPRODUCTION = HERE / "reproduction"

if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.argv = sys.argv[:1]
    for script in sorted(HERE.glob("plot_*.py")):
        runpy.run_path(str(script))
    for numbers in sorted((REPRODUCTION / "variance").glob("*/*.csv")):
        folder = numbers.parent
        drawing = fgbench.figure(numbers.stem, folder, folder, formats=["png"])
        print("wrote", ", ".join(file.name for file in drawing.files))
    page = ["paper", str(REPRODUCTION / "records"), "-o", str(REPRODUCTION / "paper.md")]
    subprocess.run([sys.executable, "-m", "fgbench", *page], check=True)
