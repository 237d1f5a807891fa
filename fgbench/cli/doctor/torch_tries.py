"""Tries of torch: its devices, and the forward-mode derivatives on which estimates rest.

A *trap* is a call that loses a tangent without a word. Where torch has one, what fgbench does about it is
tried too.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from fgbench.cli.doctor.finding import ABSENT, FAIL, OK, WARN, Finding, pip
from fgbench.errors import TangentLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

NEWER = pip("--upgrade", "torch")
AGAIN = pip("--force-reinstall", "torch")
CLOSE = 1e-9  # relative difference of two derivatives in float64


def tries() -> dict[str, Callable[[], Finding | list[Finding]]]:
    """Return the tries in order; the first one imports torch.

    Example:
        >>> list(tries())[:3]
        ['torch', 'gpu', 'forward mode']
    """
    return {
        "torch": installed,
        "gpu": gpu,
        "forward mode": directional,
        "under no_grad": under_no_grad,
        "many directions": many_directions,
        "inference mode": inference_mode,
        "custom operations": custom_operation,
        "attention": attention,
        "recurrent layers": recurrent,
        "an estimate": estimate,
    }


def installed() -> Finding:
    """Check that torch can be imported and multiplies matrices.

    Returns:
        The finding.

    Example:
        >>> installed().state
        'ok'
    """
    try:
        import torch
    except BaseException as error:
        return Finding("torch", FAIL, f"cannot be imported: {type(error).__name__}: {error}", AGAIN)
    built = "CPUs only"
    if torch.version.cuda:
        built = f"CUDA {torch.version.cuda}"
    elif torch.version.hip:
        built = f"ROCm {torch.version.hip}"
    ones = torch.ones(3, 3)
    if (ones @ ones).tolist() != 3 * [3 * [3.0]]:
        return Finding("torch", FAIL, f"{torch.__version__} multiplies matrices wrongly", AGAIN)
    return Finding("torch", OK, f"{torch.__version__}, built for {built}")


def gpu() -> Finding:
    """Check that torch computes on every GPU that the system has.

    Returns:
        The finding.

    Example:
        >>> gpu().what
        'gpu'
    """
    import torch

    driver = _driver()
    if not torch.cuda.is_available():
        if not driver:
            return Finding("gpu", ABSENT, "none; runs use the CPU")
        kind = "is built for CPUs" if torch.version.cuda is None else "cannot use it"
        return Finding(
            "gpu", WARN, f"{driver}; this torch {kind}, so runs use the CPU",
            pip("--force-reinstall", "torch", "--index-url", "https://download.pytorch.org/whl/cu126"),
        )  # fmt: skip
    names = []
    for i in range(torch.cuda.device_count()):
        try:
            ones = torch.ones(64, 64, device=f"cuda:{i}")
            right = (ones @ ones).eq(64).all().item()
        except RuntimeError as error:
            return Finding(
                "gpu", FAIL, f"cuda:{i} cannot be used: {error}", "export CUDA_VISIBLE_DEVICES="
            )
        if not right:
            return Finding("gpu", FAIL, f"cuda:{i} multiplies wrongly", AGAIN)
        names.append(torch.cuda.get_device_name(i))
    return Finding("gpu", OK, f"{', '.join(names)}; {driver or 'driver not known'}")


def _driver() -> str:
    """Return the driver of the first GPU, as its own tool tells, "" where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    asked = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    first = done.stdout.strip().partition("\n")[0]
    name, _, version = first.partition(",")
    return f"{name}, driver {version.strip()}" if done.returncode == 0 and version else ""


def _drawn(*shape: int) -> Tensor:
    """Return fixed normal numbers in float64."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _problem() -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """Return a loss of weights, the weights, and a direction."""
    import torch

    x, first, second = _drawn(5, 4), _drawn(3, 4), _drawn(2, 3)

    def loss(w: Tensor) -> Tensor:
        hidden = torch.nn.functional.layer_norm(torch.tanh(x @ w.T), (3,))
        return torch.nn.functional.cross_entropy(hidden @ second.T, torch.tensor([0, 1, 1, 0, 1]))

    return loss, first, _drawn(6, 4)[3:]


def _agree(name: str, found: Any, wanted: Any, mend: str = AGAIN) -> Finding:
    """Return whether a slope is the one that reverse mode gives."""
    off = float((found - wanted).abs().max() / wanted.abs().max())
    if not off < CLOSE:
        return Finding(
            name, FAIL, f"derivatives are off by {off:.2g}, relative to reverse mode", mend
        )
    return Finding(name, OK, f"derivatives equal reverse mode's to {max(off, 1e-16):.1g}")


def directional() -> Finding:
    """Check a slope of ``torch.func.jvp`` against reverse mode.

    Returns:
        The finding.

    Example:
        >>> directional().state
        'ok'
    """
    import torch

    loss, w, v = _problem()
    slope = torch.func.jvp(loss, (w,), (v,))[1]
    return _agree("forward mode", slope, (torch.func.grad(loss)(w) * v).sum())


def under_no_grad() -> Finding:
    """Check that dual numbers keep their tangents in a ``no_grad`` block, where estimates are made.

    Returns:
        The finding.

    Example:
        >>> under_no_grad().state
        'ok'
    """
    import torch
    from torch.autograd import forward_ad

    loss, w, v = _problem()
    wanted = (torch.func.grad(loss)(w) * v).sum()
    with torch.no_grad(), forward_ad.dual_level():
        slope = forward_ad.unpack_dual(loss(forward_ad.make_dual(w, v))).tangent
    if slope is None:
        return Finding("under no_grad", FAIL, "dual numbers lose their tangents there", NEWER)
    return _agree("under no_grad", slope, wanted)


def many_directions() -> Finding:
    """Check ``vmap`` of ``jvp``, which answers calls for which fgbench has no rule.

    Returns:
        The finding.

    Example:
        >>> many_directions().state
        'ok'
    """
    import torch

    loss, w, _ = _problem()
    along = _drawn(4, *w.shape)
    slopes = torch.func.vmap(lambda v: torch.func.jvp(loss, (w,), (v,))[1])(along)
    return _agree("many directions", slopes, (torch.func.grad(loss)(w) * along).sum((1, 2)))


def inference_mode() -> Finding:
    """Check what becomes of tangents in ``inference_mode``, and that fgbench refuses to estimate there.

    Returns:
        The finding.

    Example:
        >>> inference_mode().state
        'ok'
    """
    import torch
    from torch.autograd import forward_ad

    name = "inference mode"
    x, t = _drawn(3), torch.ones(3, dtype=torch.float64)
    with torch.inference_mode():
        with forward_ad.dual_level():
            lost = forward_ad.unpack_dual(forward_ad.make_dual(x, t)).tangent is None
        slope = torch.func.jvp(torch.sin, (x,), (t,))[1]
    traps = ["make_dual loses tangents"] * lost
    traps += ["torch.func.jvp gives 0"] * (not torch.allclose(slope, torch.cos(x)))
    if not traps:
        return Finding(name, OK, "keeps tangents")
    with torch.inference_mode():
        refused = _refused(_linear())
    text = f"trap: {' and '.join(traps)} there, silently"
    if not refused:
        return Finding(name, FAIL, f"{text}, and fgbench estimates all the same", NEWER)
    return Finding(name, OK, f"{text}; fgbench refuses to estimate there")


def custom_operation() -> Finding:
    """Check ``jvp`` through a ``custom_op`` with a backward of its own, and that fgbench refuses it.

    Returns:
        The finding.

    Example:
        >>> custom_operation().state
        'ok'
    """
    import torch

    name = "custom operations"
    square = torch.library.custom_op(
        "fgbench_doctor::square", lambda x: x * x, mutates_args=(), schema="(Tensor x) -> Tensor"
    )
    square.register_autograd(
        lambda ctx, grad: 2 * ctx.saved_tensors[0] * grad,
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
    )
    x, t = _drawn(3), torch.ones(3, dtype=torch.float64)
    try:
        slope = torch.func.jvp(square, (x,), (t,))[1]
    except (RuntimeError, NotImplementedError):
        return Finding(name, OK, "torch.func.jvp refuses a custom_op with a backward of its own")
    if torch.allclose(slope, 2 * x):
        return Finding(name, OK, "torch.func.jvp differentiates a custom_op")

    class Squared(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = _linear()

        def forward(self, x: Tensor) -> Tensor:
            squared: Tensor = square(self.first(x))
            return squared

    trap = "trap: torch.func.jvp gives 0 at a custom_op with a backward of its own, silently"
    if not _refused(Squared()):
        return Finding(name, FAIL, f"{trap}, and so does fgbench", NEWER)
    return Finding(name, OK, f"{trap}; fgbench refuses it until a rule is registered")


def _linear() -> Any:
    """Return a layer in float64."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return torch.nn.Linear(4, 3, dtype=torch.float64)


def _refused(model: Any) -> bool:
    """Return whether fgbench refuses to estimate the gradient of a module, in one line."""
    import fgbench

    x, y = _drawn(8, 4), _drawn(8, 3)
    try:
        fgbench.estimate("fg_w/end", model=model, batch=(x, y), loss="mse")
    except (fgbench.UsageError, TangentLost):
        return True
    return False


def attention() -> Finding:
    """Check forward mode through fused attention, and that fgbench's own rule gives the slope.

    Returns:
        The finding.

    Example:
        >>> attention().state
        'ok'
    """
    import torch
    from torch.nn import functional
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from fgbench.core.autodiff.dual import Dual

    q, t = _drawn(1, 2, 5, 4), _drawn(3, 2, 5, 4)[2:]

    def attend(x: Any) -> Any:
        return functional.scaled_dot_product_attention(x, x, x)

    with sdpa_kernel(SDPBackend.MATH):
        wanted = torch.func.jvp(attend, (q,), (t,))[1]
    found = _agree("attention", attend(Dual(q, t[None])).tangents[0], wanted, NEWER)
    try:
        fused = torch.func.jvp(attend, (q,), (t,))[1]
        trap = "" if torch.allclose(fused, wanted) else "trap: wrong in torch.func.jvp; "
    except (RuntimeError, NotImplementedError):
        trap = "fused kernels have no forward mode; "
    return Finding("attention", found.state, f"{trap}by fgbench {found.finding}", found.mend)


def recurrent() -> Finding:
    """Check forward mode through an LSTM, for which fgbench has a rule of its own.

    Returns:
        The finding.

    Example:
        >>> recurrent().state
        'ok'
    """
    import torch

    from fgbench.core.autodiff.dual import Dual

    with torch.random.fork_rng(devices=[]):
        net = torch.nn.LSTM(4, 3, dtype=torch.float64)
    x, t = _drawn(5, 2, 4), _drawn(6, 2, 4)[1:]
    step = 1e-6
    with torch.no_grad():
        ahead, behind = net(x + step * t)[0], net(x - step * t)[0]
        found = net(Dual(x, t[None]))[0].tangents[0]
    off = float((found - (ahead - behind) / (2 * step)).abs().max())
    if not off < 1e-7:
        return Finding(
            "recurrent layers", FAIL, f"the derivative of an LSTM is off by {off:.2g}", NEWER
        )
    return Finding(
        "recurrent layers", OK, f"the derivative of an LSTM equals differences to {off:.1g}"
    )


def estimate() -> Finding:
    """Check that the two engines give the same number for one estimate.

    Returns:
        The finding.

    Example:
        >>> estimate().state
        'ok'
    """
    import fgbench

    numbers = []
    for engine in ("dual", "cotangent"):
        measured = fgbench.measure(
            "FG-A", arch="mlp-1x4", data="synthetic[train=64,test=32]", draws=8, batches=1, batch=8,
            dtype="float64", engine=engine,
        )[0]  # fmt: skip
        if measured.status != "ok":
            return Finding("an estimate", FAIL, f"{measured.status}: {measured.reason}", AGAIN)
        numbers.append(measured.relative_variance.value)
    off = abs(numbers[0] / numbers[1] - 1)
    if not off < CLOSE:
        return Finding("an estimate", FAIL, f"the engines differ by {off:.2g}", AGAIN)
    return Finding("an estimate", OK, f"forward mode and cotangents agree to {max(off, 1e-16):.1g}")
