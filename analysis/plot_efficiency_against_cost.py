"""What does a forward pass buy?

Efficiency is the share of the estimate's squared length that points along the gradient, in [0, 1]; no
rescaling improves it. A method that costs more forward passes has to be more efficient by as much.
"""

from gallery import design_of, legend, look, measure, panel, records, save, whole_body

COUNTS = [1, 4, 16]
METHODS = {"FG-W": "fg_w[directions={n}]/end", "FG-A": "fg_a[directions={n}]/end"}
METHODS |= {"LG-FG-A": "fg_a[directions={n}]/local-pg", "NP": "np[directions={n}]/end"}
TYPED = [text.format(n=n) for text in METHODS.values() for n in COUNTS]

found = records(
    __file__,
    lambda folder: measure(folder, TYPED, ["mlp-3x64"], draws=64, inits=3, batches=1),
)
table = whole_body(found.measures(), "efficiency")

fig, ax = panel("Efficiency against cost, mlp-3x64 on digits",
                "cost of one estimate, in forward passes", "efficiency")  # fmt: skip
for method, text in METHODS.items():
    estimator, _, locality = text.partition("/")
    name = estimator.partition("[")[0]
    mine = table["estimator"].str.partition("[")[0].eq(name) & table["locality"].eq(locality)
    rows = table[mine].sort_values("forwards")
    ends = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    line = ":" if method == "NP" else "-"  # NP lies on FG-A
    ax.errorbar(rows["forwards"], rows["value"], ends, ls=line, label=method, **look(method))
ax.set_xscale("log")
ax.set_xticks([3, 6, 12, 24], ["3", "6", "12", "24"])
ax.minorticks_off()
ax.set_yscale("log")
legend(ax, theory="")
save(__file__, fig, table, f"{design_of(table)}; 1, 4 and 16 directions")
