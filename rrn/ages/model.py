"""Networks for age arithmetic (Palm et al. 2018, section 3.4).

The nodes of the recurrent relational network are the eight facts, each with the
question. The baselines are the relation network, which runs one step, and an
MLP.

Axes: B batch, T steps, N facts, F features, W sines and cosines, C classes (the
ages 0 to 99; 99 never occurs, but the authors' network has it).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import UserError
from rrn import graph_readout
from rrn.ages import data

_PERSONS, _CLASSES = len(data.PERSONS), data.MAX_AGE + 2
_FACT = 2 * _PERSONS + data.NUM_KINDS + _CLASSES
# Scales of the initial weights with Fourier initialization, relative to the
# usual ones; tuned by hand.
_INPUT_SCALE, _OUTPUT_SCALE = 3.0, 0.5
_PERSON_SCALE = 3.0  # for the input weights of people


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Settings of the network; the defaults are the paper's.

  Attributes:
    network: 'recurrent_relational_network', 'relation_network' (the same
      network with one step), or 'mlp'.
    num_steps: number of message passing steps in training; 1 for the baselines.
    width: width of all layers, messages, and states.
    input_layers: number of ReLU layers in the MLP that embeds nodes.
    message_layers: number of ReLU layers in the message function.
    node_layers: number of ReLU layers in the node function.
    output_layers: number of ReLU layers in the readout.
    edge_width: 2 adds the authors' constant inputs, which are 0, to the message
      function.
    dropout: dropout rate before the last layer.
    fourier_init: number of sines, and of cosines, whose combinations are the
      initial weights of numbers and ages (ours). Adding numbers then means
      adding angles. 0 selects the usual initialization. An 'mlp' ignores it.
    fact_loss: weight of the loss of the ages in each fact (ours), see
      `rrn.ages.task.AgesTask.loss`. 0 selects the paper's loss.
    answer_loss: weight of the loss of the answers, if fact_loss > 0.
  """

  network: str = 'recurrent_relational_network'
  num_steps: int = 8
  width: int = 128
  input_layers: int = 3
  message_layers: int = 3
  node_layers: int = 3
  output_layers: int = 3
  edge_width: int = 0
  dropout: float = 0.5
  fourier_init: int = 0
  fact_loss: float = 0.0
  answer_loss: float = 1.0

  def __post_init__(self):
    if self.network in ('relation_network', 'mlp') and self.num_steps != 1:
      raise UserError(
        f'config.model.network={self.network} has one step, but'
        f' config.model.num_steps={self.num_steps}; use'
        f' --config=configs/rrn/ages.py:network={self.network}'
      )
    if self.network == 'mlp' and self.fact_loss:
      raise UserError(
        f'config.model.fact_loss={self.fact_loss}: an mlp has no states of'
        ' facts; set it to 0'
      )


class FactNetwork(nnx.Module):
  """A network whose nodes are the facts, on a complete graph."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    self.answer = graph_readout.GraphReadoutNetwork(
      _FACT + _PERSONS,
      _PERSONS,
      _CLASSES,
      width=config.width,
      input_layers=config.input_layers,
      message_layers=config.message_layers,
      node_layers=config.node_layers,
      output_layers=config.output_layers,
      edge_width=config.edge_width,
      lstm=True,
      dropout=config.dropout,
      dtype=dtype,
      rngs=rngs,
    )
    if config.fact_loss:
      self.fact_output = layers.Linear(config.width, 2 * _CLASSES, rngs=rngs)
    if config.fourier_init:
      self._set_fourier_weights(config, rngs)

  def _set_fourier_weights(self, config, rngs: nnx.Rngs):
    """Make the initial weights of numbers combinations of sines and cosines."""
    waves = _fourier_features(config.fourier_init)

    def mix(scale, *shape):
      return scale * layers.glorot(rngs.params(), shape)

    first = self.answer.input_mlp.layers[0].kernel
    rows = slice(_FACT - _CLASSES, _FACT)
    mixed = waves @ mix(_INPUT_SCALE, waves.shape[1], config.width)
    scaled = first[...].at[: 2 * _PERSONS].multiply(_PERSON_SCALE)
    first[...] = scaled.at[rows].set(mixed)
    last = self.answer.output.layers[-1].kernel
    last[...] = mix(_OUTPUT_SCALE, config.width, waves.shape[1]) @ waves.T
    if config.fact_loss:
      mixed = mix(_OUTPUT_SCALE, config.width, 2 * waves.shape[1])
      parts = [part @ waves.T for part in jnp.split(mixed, 2, axis=1)]
      self.fact_output.kernel[...] = jnp.concatenate(parts, axis=1)

  def __call__(
    self,
    facts: Int[Array, 'B N 4'],
    question: Int[Array, ' B'],
    *,
    num_steps: int,
    key: jax.Array | None = None,
  ) -> Float[Array, 'T B C']:
    """Return the logits after each step.

    Args:
      facts: facts as in `rrn.ages.data`.
      question: person whose age is asked for.
      num_steps: number of steps T.
      key: key for dropout. None disables dropout.
    """
    states = self._states(facts, question, num_steps)
    return self.answer.read_out(states, key)

  def infer_facts(
    self,
    facts: Int[Array, 'B N 4'],
    question: Int[Array, ' B'],
    *,
    num_steps: int,
    key: jax.Array | None = None,
  ) -> tuple[Float[Array, 'T B C'], Float[Array, 'T B N 2 C']]:
    """Return the logits of the answer and of both people's ages in each fact.

    `__call__` describes the arguments.
    """
    states = self._states(facts, question, num_steps)
    ages = self.fact_output(states).astype(jnp.float32)
    ages = ages.reshape(*ages.shape[:-1], 2, _CLASSES)
    return self.answer.read_out(states, key), ages

  def _states(self, facts, question, num_steps):
    asked = jax.nn.one_hot(question, _PERSONS)[:, None]
    asked = jnp.broadcast_to(asked, (*facts.shape[:2], _PERSONS))
    nodes = jnp.concatenate([_one_hot(facts), asked], -1)
    return self.answer.states(nodes, num_steps=num_steps)


class MultilayerPerceptron(nnx.Module):
  """An MLP of all facts and the question (ours), as for Pretty-CLEVR."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    inputs = _PERSONS * _FACT + _PERSONS
    self.mlp = layers.MLP(
      [inputs, *[2 * config.width] * 4, _CLASSES],
      dropout=(0.0, 0.0, 0.0, config.dropout),
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(
    self,
    facts: Int[Array, 'B N 4'],
    question: Int[Array, ' B'],
    *,
    num_steps: int,
    key: jax.Array | None = None,
  ) -> Float[Array, 'T B C']:
    """Return the logits, equal at every step; see `FactNetwork.__call__`."""
    parts = [_one_hot(facts).reshape(len(facts), -1)]
    parts.append(jax.nn.one_hot(question, _PERSONS))
    logits = self.mlp(jnp.concatenate(parts, -1), key).astype(jnp.float32)
    return jnp.broadcast_to(logits, (num_steps, *logits.shape))


def make_model(
  config: ModelConfig, *, dtype, rngs: nnx.Rngs
) -> FactNetwork | MultilayerPerceptron:
  """Build the network that the config selects.

  Raises:
    UserError: `config.network` is unknown.
  """
  if config.network == 'mlp':
    return MultilayerPerceptron(config, dtype=dtype, rngs=rngs)
  if config.network in ('recurrent_relational_network', 'relation_network'):
    return FactNetwork(config, dtype=dtype, rngs=rngs)
  raise UserError(
    f'config.model.network={config.network!r} is unknown; expected'
    ' recurrent_relational_network, relation_network, or mlp'
  )


def _one_hot(facts: Int[Array, 'B N 4']) -> Float[Array, 'B N F']:
  """Return both people, the kind, and the value of each fact, one-hot."""
  widths = _PERSONS, _PERSONS, data.NUM_KINDS, _CLASSES
  # Unlike an embedding lookup, a product with one-hot vectors needs no scatter
  # in the backward pass. It takes 1 % of the network's time.
  return jnp.concatenate(
    [jax.nn.one_hot(facts[..., k], n) for k, n in enumerate(widths)], -1
  )


def _fourier_features(count: int) -> Float[Array, 'C W']:
  """Return `count` sines and `count` cosines of each value.

  The longest wavelength is 2 C. Amplitudes are proportional to wavelengths, so
  that close numbers have similar features.
  """
  order = 1 + jnp.arange(count, dtype=jnp.float32)[None]
  value = jnp.arange(_CLASSES, dtype=jnp.float32)[:, None]
  angles = jnp.pi / _CLASSES * value * order
  amplitudes = 1 / order
  amplitudes *= jnp.sqrt(count / jnp.square(amplitudes).sum())
  waves = [amplitudes * jnp.sin(angles), amplitudes * jnp.cos(angles)]
  return jnp.concatenate(waves, -1)
