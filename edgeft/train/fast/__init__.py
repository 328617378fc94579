"""Packed training at speed: one function a decoder layer, attention by sequence, loss without logits."""

from edgeft.train.fast.attention import can_attend
from edgeft.train.fast.model import accelerate_model, packed_loss, plain_layers

__all__ = ["accelerate_model", "can_attend", "packed_loss", "plain_layers"]
