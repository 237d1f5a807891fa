"""Noise, scale and step time of four methods on one small network; lower is better."""

METHODS = ["FG-W", "FG-A", "LG-FG-W", "LG-FG-A"]
CASE = {"arch": "mlp-2x32", "data": "digits", "threads": 1}
REPEATS = range(7)


def setup_cache():
    """Measure all methods once, and time them several times."""
    design = {"draws": 64, "inits": 1, "batches": 1, "batch": 32, "dtype": "float64"}
    options = {"batch": 128, "rounds": 20, "reference": "plain"}
    times = [run("speed", seed=repeat, **options) for repeat in REPEATS]
    return {"estimates": run("measure", seed=0, **design), "times": times}


setup_cache.timeout = 1800.0


def run(verb, **options):
    """Run a verb for all methods; a commit that does not know an option runs without it."""
    from fgbench.api import run_all
    from fgbench.errors import UsageError

    try:
        found = run_all(verb, METHODS, **CASE, **options)
    except UsageError:
        options.pop("reference", None)
        found = run_all(verb, METHODS, **CASE, **options)
    return dict(zip(METHODS, found, strict=True))


def value(record, name):
    """Return a number of a record."""
    found = record[name]
    return float(found["value"] if isinstance(found, dict) else found)


class Estimate:
    """Noise and scale of estimates in float64 with fixed noise: equal code gives equal numbers."""

    version = "1"
    timeout = 600.0
    param_names = ("method",)
    params = (METHODS,)

    def track_relative_variance(self, cache, method):
        """Return the relative variance of an estimate."""
        return value(cache["estimates"][method], "relative_variance")

    def track_scale_error(self, cache, method):
        """Return the distance of the scale from 1."""
        return 1 + abs(value(cache["estimates"][method], "scale") - 1)

    track_relative_variance.unit = "relative variance"
    track_scale_error.unit = "1 + |scale - 1|"


class Step:
    """Time of a step over that of plain backprop, the median of seven repeats."""

    version = "1"
    unit = "x backprop"
    timeout = 600.0
    param_names = ("method",)
    params = (METHODS,)

    def track_time_ratio(self, cache, method):
        """Return the ratio of every repeat."""
        samples = [value(records[method], "ratio_to_bp") for records in cache["times"]]
        return {"samples": samples, "number": 1}
