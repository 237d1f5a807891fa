"""Transformers: over tokens (``gpt``) and over image patches (``vit``)."""

from __future__ import annotations

from fgbench.architectures.transformer.gpt import gpt
from fgbench.architectures.transformer.vit import vit

__all__ = ["gpt", "vit"]
