"""Triton kernels of the fast path. `ops.py` launches them and has the plain torch twin of each.

All compute in float32 and store in the type of the output. Widths need not be powers of two; `block` is the next one.
"""

import triton
import triton.language as tl


@triton.jit
def rms_norm_forward(x, weight, y, rstd, x_stride, y_stride, width, eps, block: tl.constexpr):
    """One program a row: y = x / rms(x) * weight."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    values = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.sqrt(tl.sum(values * values, 0) / width + eps)
    scale = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + row * y_stride + columns, (values * inverse * scale).to(y.dtype.element_ty), mask=inside)
    tl.store(rstd + row, inverse)


@triton.jit
def rms_norm_backward(
    grad, y, weight, rstd, residual, out, grad_stride, y_stride, residual_stride, out_stride, width, block: tl.constexpr
):
    """One program a row: out = residual + gradient through the norm, from its output y instead of its input."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    dy = tl.load(grad + row * grad_stride + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(weight + columns, mask=inside, other=1.0).to(tl.float32)
    normed = tl.load(y + row * y_stride + columns, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(dy * normed, 0) / width
    dx = tl.load(rstd + row) * (dy * scale - normed / scale * mean)
    dx += tl.load(residual + row * residual_stride + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_stride + columns, dx.to(out.dtype.element_ty), mask=inside)


@triton.jit
def swiglu_forward(gate_up, out, in_stride, out_stride, width, block: tl.constexpr):
    """out = silu(gate) * up; gate and up are the two halves of a row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    source = gate_up + row * in_stride + columns
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    result = gate * tl.sigmoid(gate) * up
    tl.store(out + row * out_stride + columns, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def swiglu_backward(gate_up, grad, in_stride, grad_stride, width, block: tl.constexpr):
    """In place: gate and up become their gradients, and the gradient becomes silu(gate) * up again."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    source = gate_up + row * in_stride + columns
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    target = grad + row * grad_stride + columns
    dy = tl.load(target, mask=inside, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    silu = gate * sigmoid
    tl.store(source, (dy * up * sigmoid * (1.0 + gate - silu)).to(gate_up.dtype.element_ty), mask=inside)
    tl.store(source + width, (dy * silu).to(gate_up.dtype.element_ty), mask=inside)
    tl.store(target, (silu * up).to(grad.dtype.element_ty), mask=inside)


@triton.jit
def rope_forward(
    qkv, cos, sin, q_weight, k_weight, rstd, qkv_stride, angle_stride, n_q, n_rotated, eps,
    normed: tl.constexpr, half: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program a token: every query and key head is normalized (where `normed`) and rotated, in place."""
    token = tl.program_id(0).to(tl.int64)
    heads = tl.arange(0, block)[:, None]
    places = tl.arange(0, half)[None, :]
    inside = (heads < n_rotated) & (places >= 0)
    first = qkv + token * qkv_stride + heads * (2 * half) + places
    low = tl.load(first, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(first + half, mask=inside, other=0.0).to(tl.float32)
    if normed:
        inverse = 1.0 / tl.sqrt((tl.sum(low * low, 1) + tl.sum(high * high, 1)) / (2 * half) + eps)
        rows = tl.arange(0, block)
        tl.store(rstd + token * n_rotated + rows, inverse, mask=rows < n_rotated)
        is_query = heads < n_q
        w_low = tl.where(is_query, tl.load(q_weight + places), tl.load(k_weight + places)).to(tl.float32)
        w_high = tl.where(is_query, tl.load(q_weight + half + places), tl.load(k_weight + half + places)).to(tl.float32)
        low = low * inverse[:, None] * w_low
        high = high * inverse[:, None] * w_high
    c = tl.load(cos + token * angle_stride + places).to(tl.float32)
    s = tl.load(sin + token * angle_stride + places).to(tl.float32)
    tl.store(first, (low * c - high * s).to(qkv.dtype.element_ty), mask=inside)
    tl.store(first + half, (high * c + low * s).to(qkv.dtype.element_ty), mask=inside)


@triton.jit
def rope_backward(
    dq, dk, dv, qkv, cos, sin, q_weight, k_weight, rstd, out, qkv_stride, out_stride, angle_stride, n_q, n_kv,
    normed: tl.constexpr, half: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program a token: gradients of the rotated queries, keys and of the values -> one row of gradients."""
    token = tl.program_id(0).to(tl.int64)
    heads = tl.arange(0, block)[:, None]
    places = tl.arange(0, half)[None, :]
    whole = places >= 0
    is_query = (heads < n_q) & whole
    is_key = (heads >= n_q) & (heads < n_q + n_kv) & whole
    is_value = (heads >= n_q + n_kv) & (heads < n_q + 2 * n_kv) & whole
    at_q = (token * n_q + heads) * (2 * half) + places
    at_k = (token * n_kv + heads - n_q) * (2 * half) + places
    at_v = at_k - n_kv * (2 * half)
    low = tl.load(dq + at_q, mask=is_query, other=0.0) + tl.load(dk + at_k, mask=is_key, other=0.0)
    high = tl.load(dq + at_q + half, mask=is_query, other=0.0) + tl.load(dk + at_k + half, mask=is_key, other=0.0)
    c = tl.load(cos + token * angle_stride + places).to(tl.float32)
    s = tl.load(sin + token * angle_stride + places).to(tl.float32)
    g_low = low.to(tl.float32) * c + high.to(tl.float32) * s
    g_high = high.to(tl.float32) * c - low.to(tl.float32) * s
    if normed:
        rotated = is_query | is_key
        source = qkv + token * qkv_stride + heads * (2 * half) + places
        r_low = tl.load(source, mask=rotated, other=0.0).to(tl.float32)
        r_high = tl.load(source + half, mask=rotated, other=0.0).to(tl.float32)
        y_low = r_low * c + r_high * s
        y_high = r_high * c - r_low * s
        w_low = tl.where(heads < n_q, tl.load(q_weight + places), tl.load(k_weight + places)).to(tl.float32)
        w_high = tl.where(heads < n_q, tl.load(q_weight + half + places), tl.load(k_weight + half + places)).to(
            tl.float32
        )
        mean = (tl.sum(g_low * y_low, 1) + tl.sum(g_high * y_high, 1)) / (2 * half)
        rows = tl.arange(0, block)
        inverse = tl.load(rstd + token * (n_q + n_kv) + rows, mask=rows < n_q + n_kv, other=0.0)[:, None]
        g_low = inverse * (g_low * w_low - y_low / w_low * mean[:, None])
        g_high = inverse * (g_high * w_high - y_high / w_high * mean[:, None])
    g_low += tl.load(dv + at_v, mask=is_value, other=0.0).to(tl.float32)
    g_high += tl.load(dv + at_v + half, mask=is_value, other=0.0).to(tl.float32)
    target = out + token * out_stride + heads * (2 * half) + places
    there = (heads < n_q + 2 * n_kv) & whole
    tl.store(target, g_low.to(out.dtype.element_ty), mask=there)
    tl.store(target + half, g_high.to(out.dtype.element_ty), mask=there)


@triton.jit
def cross_entropy(logits, targets, losses, divisor, stride, n_vocab, block: tl.constexpr):
    """One program a row: its loss; the logits become their gradient, divided by `divisor`."""
    row = tl.program_id(0).to(tl.int64)
    line = logits + row * stride
    columns = tl.arange(0, block)
    largest = tl.full([block], float("-inf"), tl.float32)
    total = tl.zeros([block], tl.float32)
    for start in range(0, n_vocab, block):
        values = tl.load(line + start + columns, mask=start + columns < n_vocab, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(largest, values)
        # A lane that has seen nothing has -inf twice, whose difference is not a number.
        moved = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(largest - moved) + tl.exp(values - moved)
        largest = higher
    top = tl.max(largest, 0)
    normalizer = top + tl.log(tl.sum(total * tl.exp(largest - top), 0))
    target = tl.load(targets + row)
    tl.store(losses + row, normalizer - tl.load(line + target).to(tl.float32))
    tl.debug_barrier()
    share = 1.0 / tl.load(divisor)
    for start in range(0, n_vocab, block):
        inside = start + columns < n_vocab
        values = tl.load(line + start + columns, mask=inside, other=float("-inf")).to(tl.float32)
        slope = tl.exp(values - normalizer) - tl.where(start + columns == target, 1.0, 0.0)
        tl.store(line + start + columns, (slope * share).to(logits.dtype.element_ty), mask=inside)


@triton.jit
def fill_matrix(
    packed, absmax, absmax_code, absmax_scale, absmax_offset, code, a, b, out,
    n_blocks, n_out, n_in, stride, first_row, group_out, rank, first_rank, group_rank, scaling, weight_programs,
    b_programs,
    blocksize: tl.constexpr, absmax_blocksize: tl.constexpr, blocks: tl.constexpr, b_rows: tl.constexpr,
    b_columns: tl.constexpr, a_block: tl.constexpr,
):  # fmt: skip
    """Writes one linear layer into its group's matrix: dequantized weights, scaled B beside them, A below them."""
    program = tl.program_id(0)
    if program < weight_programs:
        block = program * blocks + tl.arange(0, blocks)
        there = block < n_blocks
        step = tl.load(absmax + block, mask=there, other=0).to(tl.int32)
        scale = tl.load(absmax_code + step) * tl.load(absmax_scale + block // absmax_blocksize, mask=there, other=0.0)
        scale += tl.load(absmax_offset)
        start = block.to(tl.int64) * blocksize
        byte = tl.arange(0, blocksize // 2)
        pairs = tl.load(packed + (start // 2)[:, None] + byte[None, :], mask=there[:, None], other=0).to(tl.int32)
        values = tl.join(tl.load(code + (pairs >> 4)), tl.load(code + (pairs & 15)))
        values = tl.reshape(values, (blocks, blocksize)) * scale[:, None]
        target = out + (first_row + start // n_in) * stride + start % n_in
        target = target[:, None] + tl.arange(0, blocksize)[None, :]
        tl.store(target, values.to(out.dtype.element_ty), mask=there[:, None])
    elif program < weight_programs + b_programs:
        b_row = ((program - weight_programs) * b_rows + tl.arange(0, b_rows))[:, None].to(tl.int64)
        b_column = tl.arange(0, b_columns)[None, :]
        own = (b_row < n_out) & (b_column >= first_rank) & (b_column < first_rank + rank)
        b_values = tl.load(b + b_row * rank + b_column - first_rank, mask=own, other=0.0).to(tl.float32) * scaling
        b_target = out + (first_row + b_row) * stride + n_in + b_column
        tl.store(b_target, b_values.to(out.dtype.element_ty), mask=(b_row < n_out) & (b_column < group_rank))
    else:
        place = (program - weight_programs - b_programs) * a_block + tl.arange(0, a_block)
        inside = place < rank * n_in
        a_values = tl.load(a + place, mask=inside, other=0.0)
        a_row = (group_out + first_rank + place // n_in).to(tl.int64)
        tl.store(out + a_row * stride + place % n_in, a_values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def copy_adapters(table, any_matrix, block: tl.constexpr):
    """Copies float32 adapters, scaled, to their places in matrices of the type of `any_matrix`; see `resident.py`."""
    line = table + tl.program_id(0) * 6
    source = tl.load(line).to(tl.pointer_type(tl.float32))
    target = tl.load(line + 1).to(tl.pointer_type(any_matrix.dtype.element_ty))
    rows = tl.load(line + 2)
    columns = tl.load(line + 3)
    stride = tl.load(line + 4)
    scaling = tl.load(line + 5).to(tl.int32).to(tl.float32, bitcast=True)
    place = tl.program_id(1) * block + tl.arange(0, block)
    inside = place < rows * columns
    values = tl.load(source + place, mask=inside, other=0.0) * scaling
    tl.store(target + (place // columns) * stride + place % columns, values.to(target.dtype.element_ty), mask=inside)
