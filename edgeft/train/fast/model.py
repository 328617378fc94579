"""Makes a model train on packed batches, fast where it is quantized, of the Llama kind, and has a LoRA adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch

from edgeft import hf
from edgeft.resources import has_fast_layers
from edgeft.train.fast import ops
from edgeft.train.fast.attention import PACKED, Packing, packed_attention
from edgeft.train.fast.layer import Batch, LayerParts, run_layer
from edgeft.train.fast.loss import LogitShape, linear_cross_entropy, plain_cross_entropy
from edgeft.train.fast.matrices import Group, Workspace
from edgeft.train.fast.resident import ResidentMatrices
from edgeft.train.fast.rotary import HeadNorms, Heads
from edgeft.train.fast.sharding import ShardedCodes
from edgeft.train.neftune import add_noise


def accelerate_model(
    model: torch.nn.Module,
    *,
    recompute: bool = False,
    resident: bool = False,
    sharded: bool = False,
    fast: bool = True,
) -> bool:
    """Prepares a model, with or without an adapter, for packed batches, in place; parameters keep their names.

    Every model gets attention by sequence. Where `layer.py` computes what the layers do, they are replaced by it, and
    True is returned; they stay as they are for other families, for all but plain LoRA over double-quantized NF4,
    with dropout, with a norm weight that is zero, and without `fast`. With `recompute` each layer keeps its input
    alone; with `resident` the weights of replaced layers stay dequantized; with `sharded` the processes that train
    together share their codes out. What is computed is the same, to the bit.
    """
    causal = hf.causal_model(model)
    hf.register_attention(PACKED, packed_attention)
    causal.set_attn_implementation(PACKED)
    decoder = causal.model
    workspace = Workspace(causal.dtype, causal.device)
    fast = fast and has_fast_layers(causal.config.to_dict())
    found = [_layer_parts(layer, workspace) for layer in decoder.layers] if fast else [None]
    parts = [part for part in found if part is not None]
    if len(parts) < len(decoder.layers):
        if recompute:
            causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return False
    if sharded:
        parts = _spread(parts)
    for place, (layer, part) in enumerate(zip(list(decoder.layers), parts, strict=True)):
        decoder.layers[place] = _FastLayer(layer, part, recompute)
    if resident:
        matrices = ResidentMatrices([group for part in parts for group in part.groups])
        decoder.register_forward_pre_hook(lambda *_: matrices.refresh())
    decoder.norm = _FastNorm(decoder.norm)
    return True


def _spread(parts: Sequence[LayerParts]) -> list[LayerParts]:
    codes = ShardedCodes([part.groups for part in parts])
    torch.cuda.empty_cache()  # what the whole weights took
    return [replace(part, gather=partial(codes.gather, place)) for place, part in enumerate(parts)]


@contextmanager
def plain_layers(model: torch.nn.Module) -> Iterator[None]:
    """Puts the layers of transformers back inside the block, over the same weights, so that the model can generate."""
    causal = hf.causal_model(model)
    decoder = causal.model
    layers, norm = list(decoder.layers), decoder.norm
    for place, layer in enumerate(layers):
        decoder.layers[place] = layer.plain[0].train(layer.training) if isinstance(layer, _FastLayer) else layer
    decoder.norm = norm.plain[0] if isinstance(norm, _FastNorm) else norm
    causal.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        causal.set_attn_implementation(PACKED)
        decoder.norm = norm
        for place, layer in enumerate(layers):
            decoder.layers[place] = layer


def packed_loss(
    model: torch.nn.Module,
    batch: Mapping[str, Any],
    divisor: torch.Tensor | int | None = None,
    *,
    neftune_alpha: float | None = None,
) -> torch.Tensor:
    """Returns the loss of a packed batch (see `packing.py`): the trained tokens' sum over `divisor`, or their mean.

    With `neftune_alpha` there is noise on the embeddings (see `neftune.py`).
    """
    causal = hf.causal_model(model)
    with torch.autocast(causal.device.type, torch.bfloat16, enabled=causal.device.type == "cuda"):
        inputs = {"input_ids": batch["input_ids"]}
        if neftune_alpha is not None:
            embeddings = causal.get_input_embeddings()(batch["input_ids"])
            inputs = {"inputs_embeds": add_noise(embeddings, batch["boundaries"], neftune_alpha)}
        hidden = causal.model(
            **inputs,
            position_ids=batch["position_ids"],
            cu_seq_lens_q=batch["boundaries"],
            cu_seq_lens_k=batch["boundaries"],
            max_length_q=batch["longest"],
            max_length_k=batch["longest"],
            use_cache=False,
        ).last_hidden_state[0]
    count = len(batch["targets"]) if divisor is None else divisor
    over = torch.as_tensor(count, dtype=torch.float32).to(hidden.device, non_blocking=True).reshape(1)
    head = causal.get_output_embeddings()
    shape = LogitShape.of(causal.config.get_text_config())
    if type(head) is not torch.nn.Linear or head.weight.requires_grad or shape != LogitShape():
        return plain_cross_entropy(hidden, head, shape, batch["places"], batch["targets"], over)
    return linear_cross_entropy(hidden.to(head.weight.dtype), head.weight, batch["places"], batch["targets"], over)


class _FastLayer(torch.nn.Module):
    """Stands where a decoder layer stood and holds its modules under their names."""

    def __init__(self, layer: torch.nn.Module, parts: LayerParts, recompute: bool) -> None:
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, child)
        self.plain = (layer,)  # in a tuple, so that its weights are not counted twice
        self._parts = parts
        self._recompute = recompute

    def train(self, mode: bool = True) -> _FastLayer:
        """Changes its own mode alone. The modules inside compute nothing here, and at every pass it would take 23 ms
        to go through those of 80 layers; `plain_layers`, where they do compute, sets theirs."""
        self.training = mode
        return self

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        cu_seq_lens_q: torch.Tensor,
        max_length_q: int,
        **_: Any,
    ) -> torch.Tensor:
        """(1, tokens, width) to the same."""
        cos, sin = position_embeddings
        batch = Batch(Packing(cu_seq_lens_q, max_length_q), cos[0], sin[0])
        return run_layer(hidden_states, self._parts, batch, recompute=self._recompute)


class _FastNorm(torch.nn.Module):
    """RMSNorm with a frozen weight."""

    def __init__(self, norm: torch.nn.Module) -> None:
        super().__init__()
        self.plain = (norm,)
        self.weight = norm.weight
        self._eps = cast(float, norm.variance_epsilon)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(1, tokens, width) to the same."""
        result = _Norm.apply(hidden_states, self.weight, self._eps)  # type: ignore[no-untyped-call]
        assert isinstance(result, torch.Tensor)
        return result


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        out = torch.empty_like(x)
        rstd = ops.rms_norm(x[0], weight, eps, out[0])
        ctx.save_for_backward(out, weight, rstd)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        out, weight, rstd = ctx.saved_tensors
        result = torch.empty_like(out)
        ops.rms_norm_backward(grad[0], out[0], weight, rstd, None, result[0])
        return result, None, None


def _group(modules: Sequence[torch.nn.Module], workspace: Workspace) -> Group | None:
    linears = []
    for module in modules:
        linear = hf.adapted_linear(module)
        if linear is None or linear.shape[1] % linear.state.blocksize:
            return None
        linears.append(linear)
    return Group(linears, workspace)


def _layer_parts(layer: Any, workspace: Workspace) -> LayerParts | None:
    attention, mlp = layer.self_attn, layer.mlp
    modules: list[list[torch.nn.Module]] = [
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    ]
    groups = [_group(part, workspace) for part in modules]
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    heads = _heads(attention)
    if any(group is None for group in groups) or heads is None or not all(_invertible(norm) for norm in norms):
        return None
    qkv, output, gate_up, down = cast(list[Group], groups)
    before, after = ((norm.weight, float(norm.variance_epsilon)) for norm in norms)
    return LayerParts(qkv, output, gate_up, down, before, after, heads, float(attention.scaling))


def _heads(attention: Any) -> Heads | None:
    dim = int(attention.head_dim)
    n_query, n_kv = (module.out_features // dim for module in (attention.q_proj, attention.k_proj))
    if dim & (dim - 1):
        return None
    if not hasattr(attention, "q_norm"):
        return Heads(n_query, n_kv, dim)
    if not _invertible(attention.q_norm) or not _invertible(attention.k_norm):
        return None
    norms = HeadNorms(attention.q_norm.weight, attention.k_norm.weight, float(attention.q_norm.variance_epsilon))
    return Heads(n_query, n_kv, dim, norms)


def _invertible(norm: torch.nn.Module) -> bool:
    return bool(cast(torch.Tensor, norm.weight).ne(0).all())
