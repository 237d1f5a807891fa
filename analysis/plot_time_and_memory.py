"""Is a step faster or leaner than all that exact backprop can do?

Time of a step over that of the faster of plain and compiled backprop, and peak memory over that of plain
backprop. Backprop that computes activities again (BP-CKPT), or takes the batch in parts (BP-ACC), gives the
same gradient from less memory: in the grey region one of them is as fast and as lean.
"""

from gallery import folder_of, save

import fgbench

DATA = "synthetic[size=32,channels=3,train=256,test=32]"
EXACT = ["BP", "BP-CKPT", "BP-ACC", "bp[parts=4,recompute=2]"]
METHODS = ["DFA", "FG-W", "FG-A", "LG-FG-W", "LG-FG-A", "fg_a[law=rademacher]/local-pg"]

folder = folder_of(
    __file__,
    lambda folder: fgbench.run_all(
        "speed",
        EXACT + METHODS,
        arch="localmixer-xs/8/16",
        data=DATA,
        batch=64,
        rounds=15,
        threads=1,
        records=folder,
    ),
)
drawing = fgbench.figure("time_and_memory", folder, width=5.0)
rounds = drawing.table["n"].max()
note = f"{DATA}; one CPU thread; median of {rounds:.0f} interleaved rounds, bars: 95 % interval"
save(__file__, drawing.figure, drawing.table, note)
