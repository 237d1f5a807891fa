"""Which estimates are biased, and by how much?

The norm of Ee − g over that of g, against the gradient of the method's own objectives. Where no bias is found
the open mark shows the bias that the test would have found.
"""

from gallery import design_of, look, measure, panel, records, save, whole_body

METHODS = ["FG-A", "LG-FG-A", "NP", "FA", "DFA"]

found = records(
    __file__,
    lambda folder: measure(folder, METHODS, ["mlp-2x32"], draws=512, inits=1, batches=4),
)
table = whole_body(found.measures(), "bias").set_index("method").loc[METHODS]

fig, ax = panel("Bias of one estimate, mlp-2x32 on digits", "|Ee − g| / |g|", "")
for method, row in table[::-1].iterrows():
    rejected = row["p_value"] < 0.05 or row["detectable"] == 0
    if rejected:
        ends = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        ax.errorbar(row["value"], method, xerr=ends, ls="", **look(method))
    else:
        ax.plot([row["detectable"]], [method], ls="", **look(method), mfc="white")
        text = f"none found; a bias of {row['detectable']:.2g} would have been"
        ax.annotate(text, (row["detectable"], method), (10, -3), textcoords="offset points")
ax.set_xlim(left=0)
ax.margins(y=0.2)
save(__file__, fig, table.reset_index(), f"{design_of(table)}; test over draws, level 5 %")
