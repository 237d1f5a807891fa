"""Tiny networks of timm and transformers with random weights: the code of others, as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.makers.wrapped import Subject, squared_error, token_cross_entropy, tokens

Make = Callable[[], Subject]


def without_operations() -> None:
    """Let torchvision be imported where its compiled operations do not fit the torch there is.

    timm imports it for transforms that no model calls. The wheel of PyPI is compiled against torch with CUDA;
    beside torch for the CPU alone its operations are not loaded, and the import fails at the first of two.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)


_kept: list[torch.library.Library] = []


def images(side: int, classes: int = 5, channels: int = 1) -> tuple[Any, Any]:
    """Two images with labels."""
    return torch.randn(2, channels, side, side), torch.randint(classes, (2,))


def frozen(module: nn.Module) -> nn.Module:
    """Put a network into ``eval()``, with statistics in its batch norms that are not the first ones."""
    module.eval()
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return module


def grouped(module: nn.Module) -> nn.Module:
    """Put a group norm in the place of every batch norm."""
    for name, part in list(module.named_children()):
        if isinstance(part, _BatchNorm):
            n = part.num_features
            groups = (
                2 if n % 8 == 0 else 1
            )  # of 4 channels or more, of which one pixel has several values
            after = [a for a in (getattr(part, "act", None),) if a is not None]
            setattr(module, name, nn.Sequential(nn.GroupNorm(groups, n), *after))
        else:
            grouped(part)
    return module


def _resnet() -> nn.Module:
    from timm.models.resnet import BasicBlock, ResNet

    return ResNet(
        BasicBlock, [1, 1, 1, 1], num_classes=5, in_chans=1, channels=(4, 4, 4, 8), stem_width=2,
        zero_init_last=False,
    )  # fmt: skip


def _timm(
    make: Callable[[], nn.Module], side: int, cut: Any, **more: Any
) -> Callable[[str], Subject]:
    def subject(name: str) -> Subject:
        return Subject(name, make(), *images(side), cut=cut, **more)

    return subject


def _vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=16, patch_size=8, in_chans=1, num_classes=5, embed_dim=8, depth=2, num_heads=2,
        init_values=0.5,
    )  # fmt: skip


def _deit() -> nn.Module:
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(
        img_size=16, patch_size=8, in_chans=1, num_classes=5, embed_dim=8, depth=2, num_heads=2
    ).eval()


def _mixer() -> nn.Module:
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(img_size=16, patch_size=8, in_chans=1, num_classes=5, embed_dim=8, num_blocks=2)


def _convnext() -> nn.Module:
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(
        in_chans=1, num_classes=5, depths=(1, 1, 1, 1), dims=(4, 4, 8, 8), ls_init_value=0.5
    )


def _swin() -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=16, patch_size=2, in_chans=1, num_classes=5, embed_dim=8, depths=(2, 2),
        num_heads=(1, 2), window_size=4,
    )  # fmt: skip


def _densenet() -> nn.Module:
    from timm.models.densenet import DenseNet

    return frozen(DenseNet(growth_rate=4, block_config=(2, 2), in_chans=1, num_classes=5))


def _convmixer() -> nn.Module:
    from timm.models.convmixer import ConvMixer

    return frozen(ConvMixer(8, 2, kernel_size=3, patch_size=4, in_chans=1, num_classes=5))


def _poolformer() -> nn.Module:
    from timm.models.metaformer import MetaFormer, Pooling

    return MetaFormer(in_chans=1, num_classes=5, depths=(1, 1), dims=(4, 8), token_mixers=Pooling)


def _resmlp() -> nn.Module:
    from functools import partial

    from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock

    return MlpMixer(
        img_size=16, patch_size=8, in_chans=1, num_classes=5, embed_dim=8, num_blocks=2,
        mlp_ratio=2,
        block_layer=partial(ResBlock, init_values=0.5), norm_layer=Affine,
    )  # fmt: skip


def words(t: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens, and the same shifted by one; none is a padding, whose embedding has no gradient."""
    x, y = tokens(2, t, 9)
    return x + 2, y + 2


def _language(make: Callable[[], nn.Module], cut: Any, **more: Any) -> Callable[[str], Subject]:
    def subject(name: str) -> Subject:
        x, y = words(4)
        return Subject(name, make(), {"input_ids": x}, y, token_cross_entropy, cut, **more)

    return subject


def gpt2(dropout: float = 0.0, attention: str = "sdpa") -> nn.Module:
    """A GPT-2 of two layers, its head tied to its embedding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2, resid_pdrop=dropout,
        embd_pdrop=dropout, attn_pdrop=dropout, attn_implementation=attention, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def _adapted_gpt2() -> nn.Module:
    from tests.makers.wrapped import Adapted

    model = gpt2(attention="eager").requires_grad_(False)
    for block in model.transformer.h:
        block.mlp.c_fc, block.mlp.c_proj = Adapted(8, 32), Adapted(32, 8)
    return model


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=11, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=8, use_cache=False,
            bos_token_id=0, eos_token_id=0, pad_token_id=None,
        )
    )  # fmt: skip


def _opt() -> nn.Module:
    from transformers import OPTConfig, OPTForCausalLM

    return OPTForCausalLM(
        OPTConfig(
            vocab_size=11, hidden_size=8, ffn_dim=16, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=8, word_embed_proj_dim=8, dropout=0.0,
            activation_function="gelu", use_cache=False,
            pad_token_id=1, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


def _neox() -> nn.Module:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=11, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=8, use_cache=False, bos_token_id=0,
            eos_token_id=0,
        )
    )  # fmt: skip


def _bert(kind: str) -> Callable[[str], Subject]:
    def subject(name: str) -> Subject:
        import transformers

        common = {
            "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 16, "num_labels": 3,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        }  # fmt: skip
        cut: Any = "bert.encoder.layer"
        if kind == "Albert":
            common |= {"embedding_size": 4, "classifier_dropout_prob": 0.0}
            layer = "albert.encoder.albert_layer_groups.0.albert_layers.0"
            cut = (f"{layer}@1", f"{layer}@2")
        config = getattr(transformers, f"{kind}Config")(**common)
        module = getattr(transformers, f"{kind}ForSequenceClassification")(config)
        x, _ = words(5)
        mask = torch.ones(2, 5, dtype=torch.int64)
        mask[1, 3:] = 0
        inputs = {"input_ids": x, "attention_mask": mask}
        return Subject(name, module, inputs, torch.tensor([0, 2]), cut=cut)

    return subject


def _t5(name: str) -> Subject:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=7, d_model=6, d_kv=3, d_ff=8, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    x, _ = tokens(2, 4, 7)
    target = torch.randn(2, 4, 6)
    return Subject(
        name, T5EncoderModel(config), {"input_ids": x}, target, squared_error, "encoder.block",
        tolerance=1e-6,
    )  # fmt: skip


ZOO: dict[str, Callable[[str], Subject]] = {
    "timm ResNet, batch norm in eval": _timm(lambda: frozen(_resnet()), 8, r"layer\d"),
    "timm ResNet, group norm": _timm(lambda: grouped(_resnet()), 8, r"layer\d"),
    "timm ViT": _timm(_vit, 16, "blocks"),
    "timm DeiT": _timm(_deit, 16, "blocks"),
    "timm MLP-Mixer": _timm(_mixer, 16, "blocks"),
    "timm ResMLP": _timm(_resmlp, 16, "blocks"),
    "timm ConvNeXt": _timm(_convnext, 32, "stages"),
    "timm Swin": _timm(_swin, 16, "layers"),
    "timm DenseNet": _timm(_densenet, 16, r"features\.denseblock\d"),
    "timm ConvMixer": _timm(_convmixer, 8, "blocks"),
    "timm PoolFormer": _timm(_poolformer, 16, "stages"),
    "GPT-2": _language(gpt2, "transformer.h"),
    "GPT-2, dropout 0.3": _language(lambda: gpt2(0.3).train(), "transformer.h"),
    "GPT-2 with low-rank adapters": _language(_adapted_gpt2, "transformer.h"),
    "LLaMA": _language(_llama, "model.layers", tolerance=1e-6),
    "OPT": _language(_opt, "model.decoder.layers"),
    "GPT-NeoX": _language(_neox, "gpt_neox.layers"),
    "BERT": _bert("Bert"),
    "ALBERT, one layer applied twice": _bert("Albert"),
    "T5 encoder": _t5,
}


def tiny(name: str) -> Subject:
    """Make a subject by its name."""
    without_operations()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ZOO[name](name)
