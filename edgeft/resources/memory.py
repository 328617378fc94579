"""The most GPU memory that a training step takes, term by term; docs/memory.md holds it to what was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from edgeft.resources import layers
from edgeft.resources.shape import ModelShape

Engine = Literal["fast", "plain", "padded"]
"""`fast`: the those of train/fast/layer.py; `plain`: transformers', packed; `padded`: transformers', padded."""

LOGITS_ROWS = 2048
"""Logits of this many tokens exist at a time in packed training: 0.5 GB of bfloat16 at 128,256 ids."""

_CODE_BYTES = 0.5
_SCALE_BYTES = 1 / 64 + 4 / (64 * 256)
"""Of a weight in 4 bits: one byte of scale for 64 of them, and a float32 for 256 scales (double quantization)."""
_ADAPTER_BYTES = 16
"""Of a trained number: float32, its gradient, and AdamW's two moments."""
_FLOAT32 = 4
_LOGIT_BYTES_PADDED = 10
"""Of each logit of a padded batch: its rounded value or gradient, and two float32 of the softmax's backward pass."""
_BATCH_BYTES = 64
"""Of a token: ids, labels, positions, places and targets, 8 bytes each, and room for the batch that comes next."""
_CUBLAS_BYTES = 2 * 32 * 2**20
"""cuBLAS's workspaces on a Hopper card, one for the thread of the forward pass and one for the backward pass."""


@dataclass(frozen=True)
class Job:
    """What is trained, and by which code.

    Attributes:
        number_bytes: of an activation, 2 on CUDA (bfloat16), 4 on a CPU.
        shards: processes that share the weights' codes out; the fast layers only.
    """

    shape: ModelShape
    rank: int
    targets: frozenset[str]
    engine: Engine
    number_bytes: int = 2
    shards: int = 1


@dataclass(frozen=True)
class Strategy:
    """How the memory is used.

    Attributes:
        tokens: the most in one forward pass, padding included.
        longest: tokens of the longest record.
        recompute: each layer keeps its input alone.
        resident: weights stay dequantized; the fast layers only.
    """

    tokens: int
    longest: int
    recompute: bool
    resident: bool = False


@dataclass(frozen=True)
class Need:
    """Bytes of the peak by what they are for. The loss and the backward pass do not happen at once: `moment` is the
    larger of what they hold beside the rest. `loading` is what is there beyond all that before weights are shared out.
    """

    weights: int
    embeddings: int
    dequantized: int
    adapter: int
    activations: int
    moment: int
    workspaces: int
    loading: int = 0

    @property
    def total(self) -> int:
        """The peak."""
        return sum(asdict(self).values())


def predict(job: Job, strategy: Strategy) -> Need:
    """Returns what a step needs at most, without what the allocator cannot use (see `choice.RESERVE`)."""
    shape, number = job.shape, job.number_bytes
    adapter = shape.adapter_weights(job.rank, job.targets)
    copies = number if job.engine != "fast" and number < _FLOAT32 else 0  # autocast keeps the adapter rounded, too
    embedding_number = _FLOAT32 if job.engine == "padded" else number
    kept = _kept_input(job) if strategy.recompute else _kept(job, strategy)
    backward = _working(job) + (_kept(job, strategy) if strategy.recompute else 0)
    need = Need(
        weights=_weights(job),
        embeddings=embedding_number * (shape.weights - shape.linear_weights),
        dequantized=_dequantized(job, strategy.resident),
        adapter=(_ADAPTER_BYTES + copies) * adapter,
        activations=(shape.n_layers * kept + _ends(job) + _BATCH_BYTES) * strategy.tokens,
        moment=max(_loss_bytes(job, strategy), backward * strategy.tokens),
        workspaces=_CUBLAS_BYTES if number < _FLOAT32 else 0,
    )
    whole = _weights(replace(job, shards=1)) + need.embeddings
    return replace(need, loading=max(0, whole - need.total))


def _weights(job: Job) -> int:
    codes, scales = (size * job.shape.linear_weights for size in (_CODE_BYTES, _SCALE_BYTES))
    gathered = 2 * codes / job.shape.n_layers if job.shards > 1 else 0.0
    return round(codes / job.shards + gathered + scales)


def _kept(job: Job, strategy: Strategy) -> int:
    """Bytes a token that one layer keeps."""
    if job.engine == "fast":
        return layers.fast_kept(job.shape, job.rank, job.targets, job.number_bytes)
    padded_to = strategy.longest if job.engine == "padded" else 0
    return layers.plain_kept(job.shape, job.rank, job.targets, job.number_bytes, padded_to)


def _kept_input(job: Job) -> int:
    """Bytes a token that one layer keeps when it is computed again."""
    if job.engine == "fast":
        return layers.fast_input(job.shape, job.rank, job.targets, job.number_bytes)
    return (_FLOAT32 if job.engine == "padded" else job.number_bytes) * job.shape.width


def _working(job: Job) -> int:
    if job.engine == "fast":
        return layers.fast_working(job.shape, job.rank, job.targets, job.number_bytes)
    return layers.plain_working(job.shape, job.number_bytes, padded=job.engine == "padded")


def _dequantized(job: Job, resident: bool) -> int:
    """Bytes of the weights that are dequantized at a time: all of them, or the largest matrix."""
    if job.engine == "fast":
        matrices = [group.matrix for group in layers.groups(job.shape, job.rank, job.targets)]
        return job.number_bytes * (job.shape.n_layers * sum(matrices) if resident else max(matrices))
    return job.number_bytes * max(n_in * n_out for n_in, n_out in job.shape.linears.values())


def _ends(job: Job) -> int:
    """Bytes a token that is kept outside the layers: the last norm's, and the angles of the positions."""
    norm = job.number_bytes * job.shape.width
    if job.engine != "fast":
        norm += _FLOAT32 * (job.shape.width + 1)
    return norm + 2 * job.number_bytes * job.shape.head_dim


def _loss_bytes(job: Job, strategy: Strategy) -> int:
    """Bytes that the loss holds for a moment."""
    shape, number = job.shape, job.number_bytes
    if job.engine == "padded":
        return _LOGIT_BYTES_PADDED * shape.n_vocab * strategy.tokens
    # The logits of one chunk are there until the next one's are computed; a CPU adds float32 copies of them.
    rows = min(LOGITS_ROWS, strategy.tokens)
    chunks = (2 if strategy.tokens > LOGITS_ROWS else 1) * number + (2 * _FLOAT32 if number == _FLOAT32 else 0)
    return rows * (chunks * shape.n_vocab + 2 * number * shape.width) + number * shape.width * strategy.tokens
