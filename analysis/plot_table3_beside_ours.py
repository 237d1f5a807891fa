"""Do the methods of the founding paper reach its test errors here?

Table 3 of Ren, Kornblith, Liao, Hinton (ICLR 2023) on MNIST beside our runs of the same networks. The records
are those of the sweep ``paper-table3``; its page is ``analysis/reproduction/paper.md``.
"""

import subprocess
import sys

import pandas as pd
from gallery import HERE, panel, save

if "--run" in sys.argv:  # 85 minutes on two cores, and it goes on after any end
    into = HERE / "reproduction"
    sweep = ["sweep", "paper-table3", "--only", "mnist", "-o", str(into / "records")]
    page = ["paper", str(into / "records"), "-o", str(into / "paper.md")]
    for command in (sweep, page):
        subprocess.run([sys.executable, "-m", "fgbench", *command], check=True)

table = pd.read_csv(HERE / "reproduction" / "paper" / "table3_mnist.csv")
networks = list(dict.fromkeys(table["panel"]))

fig, _ = panel("", "", "", (6.4, 3.4))
fig.clear()
axes = fig.subplots(1, len(networks), sharey=True, sharex=True)
for ax, network in zip(axes, networks, strict=True):
    rows = table[table["panel"].eq(network)][::-1]
    centre = rows["test_error_percent"]
    ends = [centre - rows["low_percent"], rows["high_percent"] - centre]
    ax.errorbar(centre, rows["method"], xerr=ends, fmt="o", color="#0072b2", label="ours")
    ax.plot(rows["published_percent"], rows["method"], "kx", label="published")
    ax.set_title(network, loc="left")
    ax.set_xlabel("test error, %")
    ax.set_xscale("log")
    ax.set_xticks([2, 3, 5, 10], ["2", "3", "5", "10"])
    ax.minorticks_off()
axes[1].legend(frameon=False, loc="upper right")
seeds = f"mean of {table['n'].max():.0f} seeds, bars: 95 % interval of the mean (t)"
save(__file__, fig, table, seeds)
