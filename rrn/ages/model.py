"""The networks that infer ages (Palm et al. 2018, section 3.4).

A recurrent relational network whose nodes are the eight facts, each read with
the question; the relation network, which is one step of it; and a plain MLP.

Axes: B batch, T steps, N facts, F features, W waves, C classes (the ages 0 to
99, of which 99 never occurs: the authors' network has it).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from core import layers
from core.errors import UserError
from rrn import answer
from rrn.ages import data

_PERSONS, _CLASSES = len(data.PERSONS), data.MAX_AGE + 2
_FACT = 2 * _PERSONS + data.IS + 1 + _CLASSES
# Of first weights that are mixed of waves, 1 for the usual size; by trial.
_INPUT_SCALE, _OUTPUT_SCALE = 3.0, 0.5
_PERSON_SCALE = 3.0  # of the first weights of persons, beside those


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Sizes; the defaults are the paper's.

  Attributes:
    network: 'recurrent_relational_network'; 'relation_network', the same with
      one step; or 'mlp'.
    num_steps: message passing steps in training; the other networks have one.
    width: of all layers, messages and states.
    pre_layers, message_layers, node_layers, output_layers: ReLU layers before
      each last one.
    edge_width: 2 adds the authors' dead columns to the message function.
    dropout: rate before the last layer.
    num_waves: 0, or of how many sines and as many cosines the first weights of
      numbers and ages are mixed (ours): sums of numbers are sums of angles. An
      'mlp' has none.
    fact_loss, answer_loss: weights of two losses (ours), see
      `rrn.ages.task.AgesTask.loss`; fact_loss=0: the paper's loss alone.
  """

  network: str = 'recurrent_relational_network'
  num_steps: int = 8
  width: int = 128
  pre_layers: int = 3
  message_layers: int = 3
  node_layers: int = 3
  output_layers: int = 3
  edge_width: int = 0
  dropout: float = 0.5
  num_waves: int = 0
  fact_loss: float = 0.0
  answer_loss: float = 1.0

  def __post_init__(self):
    if self.network in ('relation_network', 'mlp') and self.num_steps != 1:
      raise UserError(
        f'config.model.network={self.network} has one step: ask for it by'
        f' --config=configs/rrn/ages.py:network={self.network}'
      )
    if self.network == 'mlp' and self.fact_loss:
      raise UserError(
        f'config.model.fact_loss={self.fact_loss}: an mlp has no facts; 0'
        ' expected'
      )


class FactNetwork(nnx.Module):
  """Facts are nodes, and all of them are joined."""

  def __init__(self, config: ModelConfig, *, dtype, rngs: nnx.Rngs):
    self.answer = answer.AnswerNetwork(
      _FACT + _PERSONS,
      _PERSONS,
      _CLASSES,
      width=config.width,
      pre_layers=config.pre_layers,
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
    if config.num_waves:
      self._start_with_waves(config, rngs)

  def _start_with_waves(self, config, rngs: nnx.Rngs):
    """Makes sums of angles of the first weights of numbers and of ages."""
    waves = _waves(config.num_waves)

    def mix(scale, *shape):
      return scale * layers.glorot(rngs.params(), shape)

    first = self.answer.pre.layers[0].kernel
    rows = slice(_FACT - _CLASSES, _FACT)
    mixed = waves @ mix(_INPUT_SCALE, waves.shape[1], config.width)
    persons = first[...].at[: 2 * _PERSONS].multiply(_PERSON_SCALE)
    first[...] = persons.at[rows].set(mixed)
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
    """Returns the logits of each step; `key`: for dropout, None: without."""
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
    """As called, and the logits of the ages of both persons of each fact."""
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
  """An MLP of all facts and the question (ours; Pretty-CLEVR's layers)."""

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
    """As `FactNetwork`, with the same logits at every step."""
    parts = [_one_hot(facts).reshape(len(facts), -1)]
    parts.append(jax.nn.one_hot(question, _PERSONS))
    logits = self.mlp(jnp.concatenate(parts, -1), key).astype(jnp.float32)
    return jnp.broadcast_to(logits, (num_steps, *logits.shape))


def make_model(
  config: ModelConfig, *, dtype, rngs: nnx.Rngs
) -> FactNetwork | MultilayerPerceptron:
  """Builds the network that the config names.

  Raises:
    UserError: there is none.
  """
  if config.network == 'mlp':
    return MultilayerPerceptron(config, dtype=dtype, rngs=rngs)
  if config.network in ('recurrent_relational_network', 'relation_network'):
    return FactNetwork(config, dtype=dtype, rngs=rngs)
  raise UserError(
    f'config.model.network={config.network!r}: recurrent_relational_network,'
    ' relation_network or mlp expected'
  )


def _one_hot(facts: Int[Array, 'B N 4']) -> Float[Array, 'B N F']:
  """Both persons, the kind and the value of each fact."""
  widths = _PERSONS, _PERSONS, data.IS + 1, _CLASSES
  # A product with a kernel, not a look-up: its transpose is no scatter, and it
  # is 1 % of the network's work.
  return jnp.concatenate(
    [jax.nn.one_hot(facts[..., k], n) for k, n in enumerate(widths)], -1
  )


def _waves(count: int) -> Float[Array, 'C W']:
  """Sines and cosines of each value, of wavelengths from 2 C down.

  Of amplitudes as their wavelengths, so that near numbers are most alike.
  """
  order = 1 + jnp.arange(count)[None]
  angles = jnp.pi / _CLASSES * jnp.arange(_CLASSES)[:, None] * order
  amplitudes = 1 / order
  amplitudes *= jnp.sqrt(count / jnp.square(amplitudes).sum())
  waves = [amplitudes * jnp.sin(angles), amplitudes * jnp.cos(angles)]
  return jnp.concatenate(waves, -1)
