"""Starting weights for training from nothing.

Attention starts as what it will have to become, a search for what is alike (mimetic initialisation,
arXiv:2305.09828): queries and keys share one projection, so a click's token looks at the click's place and
a tracked object's features look at those in memory. Heads start small, so that first losses do too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam2track.network.hiera import PooledAttention
from sam2track.network.layers import Attention
from sam2track.network.memory_attention import MemoryLayer
from sam2track.network.memory_encoder import ConvNextBlock
from sam2track.network.variants import Network


def initialise(network: Network, seed: int) -> None:
    """Fill ``network`` with starting weights."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, parameter in network.named_parameters():
        if any(part in name for part in ("token", "labels", "no_m", "no_object", "position", "slot_code")):
            nn.init.trunc_normal_(parameter, std=0.5 if "labels" in name or "token" in name.split(".")[1] else 0.02)
    with torch.no_grad():
        _attentions(network)
        _heads(network)
        network.prompt_encoder.frequencies.normal_()
        network.mask_decoder.frequencies.copy_(network.prompt_encoder.frequencies)


def _attentions(network: Network) -> None:
    for module in network.modules():
        if isinstance(module, Attention):
            share = orthogonal(module.q_proj.weight, gain=2.0)
            module.q_proj.weight.copy_(share)
            module.k_proj.weight.copy_(share)
        elif isinstance(module, PooledAttention):
            q, k, _ = module.qkv.weight.chunk(3)
            share = orthogonal(q, gain=1.0)
            q.copy_(share)
            k.copy_(share)
        elif isinstance(module, MemoryLayer):
            for projections in (module.self_attention, module.cross_attention):
                width = len(projections.q_proj.weight)
                projections.q_proj.weight.copy_(torch.eye(width) * 1.5)
            module.self_attention.k_proj.weight.copy_(module.self_attention.q_proj.weight)
            # A memory token is a projection of the features (and of the mask): undo it, so that like finds like.
            out = network.memory_encoder.out_proj
            if isinstance(out, nn.Conv2d):
                out.weight.copy_(orthogonal(out.weight.flatten(1), gain=1.0)[..., None, None])
                module.cross_attention.k_proj.weight.copy_(1.5 * out.weight.flatten(1).t())
    network.memory_encoder.feature_proj.weight.copy_(torch.eye(network.sizes.width)[..., None, None])


def _heads(network: Network) -> None:
    decoder = network.mask_decoder
    for head in [*decoder.mask_heads, decoder.score_head, decoder.iou_head]:
        head.layers[-1].weight.mul_(0.3)
    for block in network.modules():
        if isinstance(block, ConvNextBlock):
            block.scale.fill_(0.1)


def orthogonal(like: Tensor, gain: float) -> Tensor:
    """A (semi-)orthogonal matrix of the shape of ``like``, times ``gain``."""
    weight = torch.empty_like(like)
    nn.init.orthogonal_(weight, gain)
    return weight
