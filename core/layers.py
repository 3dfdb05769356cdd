"""Layers and losses that several experiments share: MLPs, convolutions, LSTMs.

Axes: B batch, T steps, D width, F input features, C classes, V rows of a table,
H and W pixels, G gates, D4 = 4 D gates of an LSTM.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

glorot = nnx.initializers.glorot_uniform()
State = tuple[Float[Array, '*B D'], Float[Array, '*B D']]  # hidden, cell


class MLP(nnx.Module):
  """Linear layers with ReLU between them; the last one is linear.

  Args:
    widths: width of the input and of the output of each layer.
    dropout: dropout rate after each hidden layer; () for no dropout. It applies
      only to calls with a key.
  """

  def __init__(
    self,
    widths: Sequence[int],
    *,
    dropout: Sequence[float] = (),
    dtype=jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.layers = nnx.List(
      Linear(a, b, kernel_init=glorot, dtype=dtype, rngs=rngs)
      for a, b in zip(widths[:-1], widths[1:], strict=True)
    )
    self.dropout = tuple(dropout)

  def __call__(
    self, x: Float[Array, '*B D'], key: jax.Array | None = None
  ) -> Float[Array, '*B D2']:
    """Apply the layers; a key enables dropout."""
    *hidden, last = self.layers
    for index, layer in enumerate(hidden):
      x = jax.nn.relu(layer(x))
      if key is not None and self.dropout and self.dropout[index]:
        x = dropout(jax.random.fold_in(key, index), x, self.dropout[index])
    return last(x)


class Linear(nnx.Linear):
  """A linear layer that trains faster on CPUs for inputs with many axes.

  For inputs with more than two axes, JAX computes the kernel gradient as a
  product with both operands transposed, which takes XLA's CPU backend up to
  twice as long. On CPUs, this layer therefore flattens the leading axes. Other
  devices keep JAX's form, because on TPUs the flattened product takes 1.5 times
  as long.
  """

  def __call__(self, x: Float[Array, '*B D']) -> Float[Array, '*B D2']:
    """Apply the layer."""
    return jax.lax.platform_dependent(
      x, cpu=self._by_rows, default=super().__call__
    )

  def _by_rows(self, x):
    bias = self.bias[...] if self.use_bias else None
    x, kernel, bias = self.promote_dtype(
      (x, self.kernel[...], bias), dtype=self.dtype
    )
    y = x.reshape(-1, x.shape[-1]) @ kernel
    y = y if bias is None else y + bias[None]
    return y.reshape(*x.shape[:-1], y.shape[-1])


class Conv(nnx.Conv):
  """A convolution of images with 'SAME' padding that is fast in loops on CPUs.

  On CPUs, the layer gathers patches with slices and computes one product.
  Training runs updates in a loop, where XLA's CPU convolution takes 14 times as
  long. `strides` must be one number. Padding, dilation, feature groups, and the
  mask must keep the defaults of nnx.Conv.
  """

  def __call__(self, x: Float[Array, 'B H W F']) -> Float[Array, 'B H2 W2 D']:
    """Apply the layer."""
    return jax.lax.platform_dependent(
      x, cpu=self._by_patches, default=super().__call__
    )

  def _by_patches(self, x):
    bias = self.bias[...] if self.use_bias else None
    x, kernel, bias = self.promote_dtype(
      (x, self.kernel[...], bias), dtype=self.dtype
    )
    rows, columns, *_ = kernel.shape
    size, stride = x.shape[1:3], self.strides
    pads = jax.lax.padtype_to_pads(
      size, (rows, columns), (stride, stride), 'SAME'
    )
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = (-(-n // stride) * stride for n in size)
    patches = [
      x[:, i : i + height : stride, j : j + width : stride]
      for i in range(rows)
      for j in range(columns)
    ]
    kernel = kernel.reshape(-1, kernel.shape[-1])
    y = jnp.concatenate(patches, -1) @ kernel
    return y if bias is None else y + expand_left(bias, y.ndim)


class LSTM(nnx.Module):
  """An LSTM with one kernel for input and state, and a forget bias of 1.

  Args:
    width: width D of the state.
    input_width: width F of the inputs. None selects D.
  """

  def __init__(
    self, width: int, input_width: int | None = None, *, rngs: nnx.Rngs
  ):
    rows = (input_width or width) + width
    self.kernel = nnx.Param(glorot(rngs.params(), (rows, 4 * width)))
    self.bias = nnx.Param(jnp.zeros(4 * width))

  @staticmethod
  def update(gates, cell):
    """Return the new (hidden, cell), '*B D', from the gates '*B 4D'."""
    input_, candidate, forget, output = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(forget + 1) * cell
    cell += jax.nn.sigmoid(input_) * jnp.tanh(candidate)
    return jax.nn.sigmoid(output) * jnp.tanh(cell), cell

  def zeros(self, *batch: int) -> State:
    """Return the state before the first input, '*B D'."""
    zeros = jnp.zeros((*batch, len(self.bias[...]) // 4))
    return zeros, zeros

  def step(self, x: Float[Array, 'B F'], state: State) -> State:
    """Return the state after one input."""
    return self.step_gates(self.gates(x), state)

  def gates(self, inputs: Float[Array, '*B F']) -> Float[Array, '*B D4']:
    """Return the contribution of inputs and bias to the gates."""
    from_input = self.kernel[...][: inputs.shape[-1]]
    return inputs @ from_input + expand_left(self.bias[...], inputs.ndim)

  def step_gates(self, gates: Float[Array, '*B D4'], state: State) -> State:
    """Return the state after one input, from its contribution to the gates."""
    from_hidden = self.kernel[...][-state[0].shape[-1] :]
    return self.update(gates + state[0] @ from_hidden, state[1])

  def scan(
    self,
    inputs: Float[Array, 'B T F'],
    start: State,
    mask: Bool[Array | np.ndarray, 'B T'] | None = None,
  ) -> tuple[Float[Array, 'B T D'], State]:
    """Return the hidden state after each input, and the last state.

    Inputs whose mask is False do not change the state.
    """
    # The contribution of the inputs is one product for all steps.
    return self.scan_gates(self.gates(inputs), start, mask)

  def scan_gates(
    self,
    gates: Float[Array, '*B T D4'],
    start: State,
    mask: Bool[Array | np.ndarray, '*B T'] | None = None,
  ) -> tuple[Float[Array, '*B T D'], State]:
    """Scan over the contributions of inputs to the gates; see `scan`."""
    is_input = None if mask is None else jnp.moveaxis(mask, -1, 0)[..., None]
    hidden, end = lstm_scan(
      self._masked_update,
      self.kernel[...][-start[0].shape[-1] :],
      jnp.moveaxis(gates, -2, 0),
      start,
      is_input,
    )
    return jnp.moveaxis(hidden, 0, -2), end

  @classmethod
  def _masked_update(cls, state, gates, is_input, constants):
    """Update the state, but keep it where `is_input` is False."""
    del constants
    new = cls.update(gates, state[1])
    if is_input is None:
      return new
    return tuple(map(functools.partial(jnp.where, is_input), new, state))


def _scan(step, kernel, gates, start, inputs, constants):
  def body(state, xs):
    gates, inputs = xs
    state = step(state, gates + state[0] @ kernel, inputs, constants)
    return state, state[0]

  end, states = jax.lax.scan(body, start, (gates, inputs))
  return states, end


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def lstm_scan(step, kernel, gates, start, inputs=None, constants=None):
  """Scan over gates that depend on the state through a kernel.

  The gradient of the kernel is one product for all steps. By default, JAX would
  accumulate a small product at each step. Forward-mode derivatives (`jax.jvp`)
  are not defined.

  Args:
    step: maps (state, gates, inputs, constants) to the next state; it must
      not close over arrays.
    kernel: [D, G].
    gates: 'T *B G'. Each step adds the product of the first array of the state,
      '*B D', and `kernel`.
    start: the first state, a tuple of arrays.
    inputs: further arrays, 'T ...', with one slice per step.
    constants: arrays that are the same at all steps; they receive gradients.

  Returns:
    The first array of the state after each step, 'T *B D', and the last state.
  """
  return _scan(step, kernel, gates, start, inputs, constants)


def _lstm_scan_forward(step, kernel, gates, start, inputs, constants):
  # `pull_back` treats the kernel as a constant; the backward pass adds its
  # gradient.
  (states, end), pull_back = jax.vjp(
    functools.partial(_scan, step, kernel), gates, start, inputs, constants
  )
  before = jnp.concatenate([start[0][None], states])[:-1]
  return (states, end), (before, pull_back)


def _lstm_scan_backward(step, residuals, cotangent):
  del step
  before, pull_back = residuals
  d_gates, *d_rest = pull_back(cotangent)
  d_kernel = jnp.einsum('...d,...g->dg', before, d_gates)
  return d_kernel, d_gates, *d_rest


lstm_scan.defvjp(_lstm_scan_forward, _lstm_scan_backward)


def cross_entropy(
  logits: Float[Array, '... C'], targets: Int[Array, '...']
) -> Float[Array, '...']:
  """Return -log p(target) in nats; the gradient needs no scatter.

  `targets` are broadcast to the leading axes of `logits`.
  """
  chosen = jax.nn.one_hot(targets, logits.shape[-1])
  chosen = expand_left(chosen, logits.ndim)
  return -(jax.nn.log_softmax(logits) * chosen).sum(-1)


def expand_left(x: jax.Array | np.ndarray, ndim: int) -> jax.Array | np.ndarray:
  """Add axes of size 1 in front of an array until it has `ndim` axes.

  The tests forbid the implicit rank promotion that this replaces.
  """
  return x.reshape((1,) * (ndim - x.ndim) + x.shape)


def symmetric_uniform(scale: float):
  """Return an initializer that draws uniformly from -scale to scale."""

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -scale, scale)

  return init


def dropout(key: jax.Array, x: Float[Array, '*B'], rate: float):
  """Set each element of `x` to 0 with probability `rate`; scale the rest."""
  kept = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(kept, x / (1 - rate), 0)


@jax.custom_vjp
def embedding_lookup(
  table: Float[Array, 'V D'], rows: Int[Array, '*B']
) -> Float[Array, '*B D']:
  """Return rows of a table; the gradient is a matrix product, not a scatter."""
  return table[rows]


def _embedding_lookup_backward(residuals, cotangent):
  rows, num_rows = residuals
  one_hot = jax.nn.one_hot(rows, num_rows, dtype=cotangent.dtype)
  return jnp.einsum('...v,...d->vd', one_hot, cotangent), None


embedding_lookup.defvjp(
  lambda table, rows: (table[rows], (rows, len(table))),
  _embedding_lookup_backward,
)
