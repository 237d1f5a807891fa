"""The rules of calls: registered wherever a Dual is used, and by nothing else."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch.nn import functional as F

from fgbench.core.autodiff.dual import Dual, fallbacks, part
from fgbench.core.noise.keyed import Noise


def test_rules_are_registered_wherever_a_dual_is_used() -> None:
    """In a fresh process that imports the class alone: no call of a layer falls back."""
    code = (
        "import sys, fgbench\n"
        "assert 'torch' not in sys.modules\n"
        "import fgbench.core\n"
        "assert 'torch' not in sys.modules\n"
        "from fgbench.core.autodiff.dual import Dual, fallbacks\n"
        "import torch\n"
        "x = Dual(torch.ones(2, 3), torch.ones(4, 2, 3))\n"
        "torch.nn.functional.layer_norm(torch.relu(x @ torch.ones(3, 3)), (3,))\n"
        "print(sum(fallbacks.values()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_call_answered_as_a_whole_meets_its_jvp() -> None:
    noise = Noise(0, dtype=torch.float64)
    x, t = noise.normal("x", (2, 6, 3)), noise.normal("t", (1, 2, 6, 3))
    before = fallbacks.total()
    found = part(F.group_norm(Dual(x, t), 2))  # type: ignore[arg-type]
    assert fallbacks.total() == before
    want = torch.func.jvp(lambda at: F.group_norm(at, 2), (x,), (t[0],))[1]
    assert found is not None
    torch.testing.assert_close(found[0], want)
