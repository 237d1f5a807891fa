"""How many directions buy how much?

Directions are independent, so averaging n of them divides the variance by n. Orthogonal directions would do
better near n = d.
"""

from gallery import design_of, intervals, legend, measure, panel, records, save, whole_body

COUNTS = [1, 4, 16, 64]
METHODS = {"FG-W": "fg_w", "FG-A": "fg_a"}
TYPED = [f"{name}[directions={n}]/end" for name in METHODS.values() for n in COUNTS]

found = records(
    __file__,
    lambda folder: measure(folder, TYPED, ["mlp-3x32"], draws=64, inits=5, batches=1),
)
table = whole_body(found.measures(), "relative_variance")
table = table.assign(directions=table["directions"].astype(int))

fig, ax = panel("Noise against directions, mlp-3x32 on digits", "directions per estimate",
                "relative variance")  # fmt: skip
for method, estimator in METHODS.items():
    intervals(ax, table[table["estimator"].str.startswith(estimator)], "directions", method)
ax.set_xscale("log", base=2)
ax.set_xticks(COUNTS, map(str, COUNTS))
ax.set_yscale("log")
legend(ax)
save(__file__, fig, table, f"{design_of(table)}; dashed: closed form")
