"""Where in the network is the noise?

FG-A and FG-W are noisier the farther a site is from the loss, FG-W everywhere by far. LG-FG-A, with a loss
beside every site, differs by a factor of four from site to site.
"""

from gallery import design_of, legend, look, measure, panel, records, save

METHODS = ["FG-W", "FG-A", "LG-FG-A"]

found = records(
    __file__,
    lambda folder: measure(folder, METHODS, ["mlp-6x32"], draws=64, inits=5, batches=1),
)
table = found.measures()
table = table[table["quantity"].eq("relative_variance") & table["place"].ne("all")]
sites = list(dict.fromkeys(table["place"]))

fig, ax = panel("Noise along the network, mlp-6x32 on digits", "site, from input to loss",
                "relative variance")  # fmt: skip
for method in METHODS:
    rows = table[table["method"].eq(method)].set_index("place").loc[sites]
    ends = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    ax.errorbar(range(len(sites)), rows["value"], ends, label=method, **look(method))
    ax.plot(range(len(sites)), rows["predicted"], "k--", lw=1)
ax.set_xticks(range(len(sites)), sites)
ax.set_yscale("log")
legend(ax)
save(__file__, fig, table, f"{design_of(table)}; dashed: closed form")
