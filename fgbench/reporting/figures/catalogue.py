"""Every figure by its name: what it shows, what it needs, what makes that, and which function draws it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from fgbench.errors import UsageError


class Figure(NamedTuple):
    """A figure, described without importing the module that draws it.

    Args:
        shows: what it shows, in a few words.
        needs: what a folder must hold for it, as the end of "no ... in this folder".
        made_by: the command that writes this, such as ``fgbench train``.
        function: ``module:name`` of its `fgbench.reporting.figures.files.Writer` in this package.

    Example:
        >>> FIGURES["layers"].made_by
        'fgbench measure'
    """

    shows: str
    needs: str
    made_by: str
    function: str

    def module(self) -> Any:
        """Import the module that draws the figure, with matplotlib and pandas."""
        return import_module(f"{__package__}.{self.function.partition(':')[0]}")

    def draw(self) -> Any:
        """Return the `fgbench.reporting.figures.files.Writer` of the figure."""
        return getattr(self.module(), self.function.partition(":")[2])

    def missing(self, folder: Path, needs: str = "") -> UsageError:
        """Return the error for a folder that does not hold what the figure needs.

        Args:
            folder: what was read.
            needs: what is missing, where more is known about it than `needs` says.

        Returns:
            An error of one line that names the command to run.

        Example:
            >>> print(FIGURES["layers"].missing(Path("records")))
            no variance measured at sites in 'records'; run fgbench measure
        """
        return UsageError(f"no {needs or self.needs} in {str(folder)!r}; run {self.made_by}")


FIGURES = {
    "advantage": Figure(
        "relative variance of weight directions over that of activity directions, beside theory",
        "pair of methods (FG-A and FG-W, LG-FG-A and LG-FG-W) measured alike",
        "fgbench sweep variance-fan-in",
        "advantage:draw",
    ),
    "alignment": Figure(
        "cosine of estimate and true gradient at every site, from input to loss",
        "cosine measured at sites",
        "fgbench measure",
        "alignment:draw",
    ),
    "batch": Figure(
        "relative variance against the batch size",
        "method measured with two batch sizes",
        "fgbench sweep variance-batch",
        "scaling:draw_batch",
    ),
    "bias": Figure(
        "bias of every site, with the smallest bias that the test would detect",
        "bias measured at sites",
        "fgbench measure",
        "bias:draw",
    ),
    "channel_groups": Figure(
        "relative variance against the number of channel groups, each with a loss of its own",
        "method measured with two numbers of groups",
        "fgbench sweep variance-groups",
        "scaling:draw_channel_groups",
    ),
    "cosine": Figure(
        "cosine of estimate and true gradient, from the start of training on",
        "method measured at two moments of training",
        "fgbench measure METHOD... --moments 0,1,5,20",
        "cosine:draw",
    ),
    "cost": Figure(
        "test error against time and memory of a step, with the Pareto front",
        "method both trained and timed on one network and data",
        "fgbench train and fgbench speed with the same --arch and --data",
        "cost:draw",
    ),
    "directions": Figure(
        "relative variance against the number of directions averaged",
        "method measured with two numbers of directions",
        "fgbench sweep variance-directions",
        "scaling:draw_directions",
    ),
    "distance": Figure(
        "relative variance of a site against the number of modules between it and its loss",
        "method measured at two distances between a site and its loss",
        "fgbench sweep variance-distance",
        "distance:draw",
    ),
    "efficiency": Figure(
        "efficiency of each estimate against its cost in forward passes",
        "measured efficiency",
        "fgbench measure",
        "efficiency:draw",
    ),
    "fan_in": Figure(
        "relative variance against the number of inputs of a unit",
        "method measured with two sizes of inputs",
        "fgbench sweep variance-fan-in",
        "scaling:draw_fan_in",
    ),
    "fusion": Figure(
        "time and memory of replicated and fused losses against the number of groups",
        "fused losses",
        "fgbench fusion -o",
        "fusion:draw",
    ),
    "gap_against_efficiency": Figure(
        "test error above the reference's at equal compute, against efficiency at initialisation",
        "method both compared and measured at initialisation on one network and data",
        "fgbench compare, and fgbench measure with the same --arch and --data",
        "gap_against_efficiency:draw",
    ),
    "groups": Figure(
        "train and test error against the number of channel groups (the paper's figure 7)",
        "method trained with two numbers of groups",
        "fgbench sweep paper-figure7 --only digits",
        "groups:draw",
    ),
    "history": Figure(
        "every tracked number over the commits, with change points, from results of asv",
        "number tracked over commits",
        "asv run, its results are in .asv/results",
        "history:draw",
    ),
    "layers": Figure(
        "relative variance of every site, from input to loss",
        "variance measured at sites",
        "fgbench measure",
        "layers:draw",
    ),
    "learning_curves": Figure(
        "test error against epochs, mean over seeds with a band",
        "learning curve",
        "fgbench train",
        "learning_curves:draw",
    ),
    "local_losses": Figure(
        "test error against the placement of local losses (the paper's figure 6)",
        "method trained with losses in two places and with scores kept apart in two ways",
        "fgbench sweep paper-figure6 --only digits",
        "local_losses:draw",
    ),
    "parameters": Figure(
        "relative variance against the number of parameters",
        "method measured with two sizes of networks",
        "fgbench sweep variance-size",
        "scaling:draw_parameters",
    ),
    "patches": Figure(
        "relative variance against the number of patches of an image",
        "method measured with two numbers of patches",
        "fgbench sweep variance-patches",
        "scaling:draw_patches",
    ),
    "profiles": Figure(
        "performance profiles, interquartile means and optimality gaps of the methods",
        "workload on which BP has been trained beside another method",
        "fgbench train BP and others, with several seeds, on the same networks and data",
        "profiles:draw",
    ),
    "progress": Figure(
        "test error against epochs, seconds and forward passes",
        "learning curve",
        "fgbench train",
        "progress:draw",
    ),
    "relative_variance": Figure(
        "relative variance of each method's estimate, measured beside theory",
        "measured variance",
        "fgbench measure",
        "relative_variance:draw",
    ),
    "size": Figure(
        "relative variance against the width at one depth, and against the depth at one width",
        "method measured with two widths or depths",
        "fgbench sweep variance-size",
        "scaling:draw_size",
    ),
    "split": Figure(
        "variance of every site, split between batches and perturbations",
        "variance split between batches and perturbations",
        "fgbench measure",
        "split:draw",
    ),
    "stop_gradient": Figure(
        "contrastive loss and test error with and without stop-gradient (the paper's figure 4)",
        "contrastive loss with and without its stop-gradient",
        "fgbench sweep paper-figure4 --only digits",
        "stop_gradient:draw",
    ),
    "table1": Figure(
        "variance of one layer's estimates, measured beside the paper's table 1",
        "grid of table 1",
        "fgbench table1 -o",
        "table1:draw",
    ),
    "time_and_memory": Figure(
        "memory against time of a step, beside all that exact backprop can do",
        "timed step",
        "fgbench speed -o",
        "time_and_memory:draw",
    ),
    "time_to_target": Figure(
        "share of runs that have reached a target error, against epochs, seconds and forward passes",
        "workload on which BP has been trained beside another method",
        "fgbench train BP and others, on the same network and data",
        "time_to_target:draw",
    ),
    "trials": Figure(
        "best validation error against the number of trials, and error against the learning rate",
        "two trials of a method with examples held out",
        "fgbench sweep paper-table3, or another sweep that tunes",
        "trials:draw",
    ),
    "variance_and_learning": Figure(
        "test error above backprop's against the relative variance of the estimate",
        "method both measured with noise and trained beside BP on one network and data",
        "fgbench measure and fgbench train with the same --arch and --data, BP among those trained",
        "variance_and_learning:draw",
    ),
}
"""Name of a figure to its description, in alphabetical order."""
