"""How noisy is each estimate, and does theory agree?

The relative variance E|e − Ee|² / |g|² of an estimate e of the gradient g. Noise on the weights (FG-W, WP)
costs as much as there are weights, noise on the activities (FG-A, NP) as much as there are units; losses of
their own per module take out what lies between a unit and its loss (LG-...).
"""

from gallery import design_of, legend, look, measure, panel, records, save, whole_body

METHODS = ["BP", "FG-W", "FG-A", "LG-FG-W", "LG-FG-A"]

found = records(
    __file__, lambda folder: measure(folder, METHODS, ["mlp-3x256"], draws=512, batches=4)
)
table = whole_body(found.measures(), "relative_variance").set_index("method").loc[METHODS[1:]]

fig, ax = panel("Noise of one estimate, mlp-3x256 on digits", "relative variance", "")
for method, row in table[::-1].iterrows():
    ends = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
    ax.errorbar(row["value"], method, xerr=ends, ls="", **look(method))
    ax.plot(row["predicted"], method, "k|", ms=16)
    ax.annotate(f"{row['value']:,.0f}", (row["value"], method), (0, 12), textcoords="offset points",
                ha="center")  # fmt: skip
ax.set_xscale("log")
ax.margins(y=0.2)
legend(ax, theory="k|", loc="lower right")
note = f"{design_of(table)}; | closed form. BP: 0"
save(__file__, fig, table.reset_index(), note)
