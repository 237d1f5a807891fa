"""Does a larger batch make the estimate less noisy?

With one direction for the weights the noise does not depend on the batch. Noise on the activities is drawn
for every example anew, so it averages out over the batch.
"""

from gallery import design_of, intervals, legend, measure, panel, records, save, whole_body

METHODS = ["FG-W", "FG-A", "LG-FG-A"]
SIZES = [8, 32, 128, 512]


def make(folder):
    """Measure every method at every size of the batch."""
    for size in SIZES:
        measure(folder, METHODS, ["mlp-3x32"], draws=64, inits=5, batches=1, batch=size)


table = whole_body(records(__file__, make).measures(), "relative_variance")

fig, ax = panel("Noise against batch size, mlp-3x32 on digits", "examples per batch",
                "relative variance")  # fmt: skip
for method in METHODS:
    intervals(ax, table[table["method"].eq(method)], "batch", method)
ax.set_xscale("log", base=2)
ax.set_xticks(SIZES, map(str, SIZES))
ax.set_yscale("log")
legend(ax)
note = design_of(table).replace(" of 512", "")
save(__file__, fig, table, f"{note}; dashed: closed form")
