"""How does the noise grow with the width of the network?

Along the weights the relative variance is the number of weights plus one, so it grows with the square of the
width; along the activities it grows with the number of units, and with a loss at every module more slowly.
"""

from gallery import design_of, intervals, legend, measure, panel, records, save, whole_body

METHODS = ["FG-W", "FG-A", "LG-FG-A"]
WIDTHS = [16, 32, 64, 128, 256]

found = records(
    __file__,
    lambda folder: measure(
        folder, METHODS, [f"mlp-3x{w}" for w in WIDTHS], draws=64, inits=5, batches=1
    ),
)
table = whole_body(found.measures(), "relative_variance")
table = table.assign(width=table["arch"].str.extract(r"x(\d+)$", expand=False).astype(int))

fig, ax = panel("Noise against width, mlp-3x… on digits", "units per layer", "relative variance")
for method in METHODS:
    intervals(ax, table[table["method"].eq(method)], "width", method)
ax.set_xscale("log", base=2)
ax.set_xticks(WIDTHS, map(str, WIDTHS))
ax.set_yscale("log")
legend(ax)
save(__file__, fig, table, f"{design_of(table)}; dashed: closed form")
