"""What this machine and this installation can do."""

from __future__ import annotations

import os
from typing import Any


def findings(data_dir: str | None = None) -> list[tuple[str, str]]:
    """Look at the installation, the devices, the data and the registry.

    Args:
        data_dir: folder of data files; FGBENCH_DATA or the cache where None.

    Returns:
        (what, finding) pairs, one line each; nothing is downloaded.
    """
    import torch

    import fgbench
    from fgbench import registry
    from fgbench.data.files.cache import data_root
    from fgbench.records import provenance

    environment: dict[str, Any] = provenance.environment()
    root = data_root(data_dir)
    found = [
        ("fgbench", f"{fgbench.__version__} {provenance.commit()[:12]}".strip()),
        ("python", str(environment["python"])),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        ("cpu", f"{environment['device_name']}, {os.cpu_count()} cores"),
        (
            "gpu",
            torch.cuda.get_device_name()
            if torch.cuda.is_available()
            else "none; everything runs on CPU",
        ),
        ("data folder", str(root)),
    ]
    layouts = {
        "mnist": "MNIST/raw",
        "fashion_mnist": "FashionMNIST/raw",
        "cifar10": "cifar-10-batches-bin",
    }
    for name, folder in layouts.items():
        there = (root / folder).is_dir()
        found.append(
            (name, "there" if there else f"not there; downloaded to {root / folder} when asked for")
        )
    tree, there = root / "imagenet", all((root / "imagenet" / s).is_dir() for s in ("train", "val"))
    absent = f"not there; imagefolder reads train/ and val/ with class folders in {tree}"
    found.append(("imagenet", "there" if there else absent))
    for kind in registry.FOLDERS:
        broken = [e for e in registry.entries(kind).values() if e.error]
        found += [(f"{kind[:-1]} {e.name}", f"{e.owner} {e.error}") for e in broken]
    return found
