"""What does depth cost, and what do local losses save?

Noise at a unit reaches the final loss through every module above it, and each one adds its units. A loss at
every module ends that: the noise of LG-FG-A does not grow with depth.
"""

from gallery import design_of, intervals, legend, measure, panel, records, save, whole_body

METHODS = ["FG-W", "FG-A", "LG-FG-A"]
DEPTHS = [1, 2, 4, 6]

found = records(
    __file__,
    lambda folder: measure(
        folder, METHODS, [f"mlp-{d}x32" for d in DEPTHS], draws=64, inits=5, batches=1
    ),
)
table = whole_body(found.measures(), "relative_variance")
table = table.assign(depth=table["arch"].str.extract(r"mlp-(\d+)x", expand=False).astype(int))

fig, ax = panel("Noise against depth, mlp-…x32 on digits", "hidden layers", "relative variance")
for method in METHODS:
    intervals(ax, table[table["method"].eq(method)], "depth", method)
ax.set_yscale("log")
ax.set_xticks(DEPTHS)
legend(ax)
save(__file__, fig, table, f"{design_of(table)}; dashed: closed form")
