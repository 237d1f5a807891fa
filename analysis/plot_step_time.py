"""What does one training step cost beside backprop?

Median of the ratio of step times to the plain PyTorch step of the same model, round by round in one process;
bars show the interval of the median over rounds.
"""

from gallery import look, panel, records, save

import fgbench

METHODS = ["BP", "DFA", "FG-W", "FG-A", "LG-FG-A"]

found = records(
    __file__,
    lambda folder: fgbench.run_all(
        "speed",
        METHODS,
        arch="mlp-3x256",
        data="digits",
        reference="plain",
        rounds=40,
        threads=1,
        records=folder,
    ),
)
speeds = found.speeds()
table = speeds[speeds["quantity"].eq("ratio_to_bp")].set_index("method").loc[METHODS]

fig, ax = panel(
    "Time of a step, mlp-3x256 on digits, batch 128", "step time / plain backprop step", ""
)
for method, row in table[::-1].iterrows():
    ends = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
    ax.errorbar(row["value"], method, xerr=ends, ls="", **look(method))
ax.axvline(1, color="0.5", ls=":", lw=1)
ax.set_xlim(left=0)
ax.margins(y=0.2)
note = f"one CPU thread; median of {table['n'].max():.0f} interleaved rounds, bars: 95 % interval"
save(__file__, fig, table.reset_index(), note)
