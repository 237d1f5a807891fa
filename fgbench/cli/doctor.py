"""The lines of ``fgbench doctor``: versions, devices, data files and plug-ins that fail to import."""

from __future__ import annotations

import os
from typing import Any


def findings(data_dir: str | None = None) -> list[tuple[str, str]]:
    """Return the state of the installation, the devices, the data files and the plug-ins.

    Args:
        data_dir: folder of data files; if None, FGBENCH_DATA or the user's cache.

    Returns:
        (what, finding) pairs, one line each; nothing is downloaded.

    Example:
        >>> [what for what, _ in findings("nowhere")][:5]
        ['fgbench', 'python', 'torch', 'cpu', 'gpu']
    """
    import torch

    import fgbench
    from fgbench import registry
    from fgbench.data.files.cache import data_root
    from fgbench.records import provenance

    environment: dict[str, Any] = provenance.environment()
    root = data_root(data_dir)
    lines = [
        ("fgbench", f"{fgbench.__version__} {provenance.commit()[:12]}".strip()),
        ("python", str(environment["python"])),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        ("cpu", f"{environment['device_name']}, {os.cpu_count()} cores"),
        (
            "gpu",
            torch.cuda.get_device_name() if torch.cuda.is_available() else "none; runs use the CPU",
        ),
        ("data folder", str(root)),
    ]
    layouts = {
        "mnist": "MNIST/raw",
        "fashion_mnist": "FashionMNIST/raw",
        "cifar10": "cifar-10-batches-bin",
    }
    for name, folder in layouts.items():
        present = (root / folder).is_dir()
        absent = f"not found; downloaded to {root / folder} at first use"
        lines.append((name, "found" if present else absent))
    tree = root / "imagenet"
    present = all((tree / split).is_dir() for split in ("train", "val"))
    absent = f"not found; imagefolder reads train/ and val/ with class folders in {tree}"
    lines.append(("imagenet", "found" if present else absent))
    for kind in registry.FOLDERS:
        broken = [e for e in registry.entries(kind).values() if e.error]
        lines += [(f"{kind[:-1]} {e.name}", f"{e.owner} {e.error}") for e in broken]
    return lines
