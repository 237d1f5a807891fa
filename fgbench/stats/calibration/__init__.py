"""Coverage, size and power of every statistic, by simulating laws whose answers are known.

``laws`` draws what `measure` keeps of a point, ``studies`` hands it to the functions `measure` and the
comparisons use and says what each must reach, ``simulate`` repeats them and counts, ``page`` writes the
table. Nothing here loads torch; the studies on a network are in
``fgbench.measurement.studies.coverage``.
"""
