"""Does it train?

Test error against epochs on the embedded digits, by the shipped recipe of the architecture; mean over seeds,
with the seeds as a band from the smallest to the largest.
"""

from gallery import look, panel, records, save

import fgbench

METHODS = ["BP", "DFA", "FG-W", "FG-A", "LG-FG-A"]


def make(folder):
    """Train every method with three seeds."""
    for seed in range(3):
        fgbench.run_all("train", METHODS, arch="mlp-3x64", data="digits", seed=seed, threads=1,
                        records=folder)  # fmt: skip


curves = records(__file__, make).curves()
table = curves[curves["split"].eq("test")]
table = table.groupby(["method", "epoch"], as_index=False)["error"].agg(
    ["mean", "min", "max", "count"]
)

fig, ax = panel("Learning, mlp-3x64 on digits", "epoch", "test error, %")
for method in METHODS:
    rows = table[table["method"].eq(method)]
    ax.plot(rows["epoch"], 100 * rows["mean"], markevery=5, label=method, **look(method))
    ends = 100 * rows["min"], 100 * rows["max"]
    ax.fill_between(rows["epoch"], *ends, color=look(method)["color"], alpha=0.2, lw=0)
ax.axhline(90, color="0.5", ls=":", lw=1)
ax.annotate("guessing", (1, 90), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize=8)  # fmt: skip
ax.set_yscale("log")
ax.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
ax.minorticks_off()
fig.legend(loc="outside right center", frameon=False)
save(__file__, fig, table, f"mean of {table['count'].max()} seeds; band: smallest to largest")
