"""Plain forms of the two Sudoku networks, and counts of their operations.

A plain form has the same parameters and results as our network, but computes
one message per edge, as the equations are written. `rrn_sudoku.py` measures how
much time our rearrangements save.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rrn import reference
from rrn.sudoku import data, model, task


class PlainCells(model.SudokuNetwork):
  """The network on cells, computed as the paper writes its equations."""

  def __call__(self, puzzles, *, num_steps, burn_in=0):
    """Return the logits of every step."""
    assert not burn_in
    row, column = np.divmod(np.arange(puzzles.shape[1]), 9)
    position = jnp.concatenate(
      [self.row_embedding[row], self.column_embedding[column]], -1
    )
    position = jnp.broadcast_to(position, (*puzzles.shape, position.shape[-1]))
    digits = self.digit_embedding[puzzles]
    inputs = self.input_mlp(jnp.concatenate([digits, position], -1))
    states = reference.pass_messages(
      self.network, inputs, self.graph, num_steps=num_steps
    )
    return self.output(states)


class PlainCandidates(model.SudokuCandidates):
  """The network on candidates, with a message for each pair in a group."""

  def advance(self, puzzles, states, *, num_steps):
    """Return the states after `num_steps` more steps, and their logits."""
    shape, network = states.shape, self.network
    given = self._given(puzzles).reshape(len(puzzles), -1)
    members = list_members(self.groups)
    kernels, biases = (
      jnp.split(x[...], len(members), -1)
      for x in (network.send.kernel, network.send.bias)
    )

    def update(states, _):
      received = [states]
      for groups, kernel, bias in zip(members, kernels, biases, strict=True):
        size = groups.shape[1]
        # Messages between members, [B, G, receiver, sender, M].
        sent = states[:, groups] @ kernel + bias[None, None, None]
        is_other = 1 - jnp.eye(size)[None, None, :, :, None]
        sent = jax.nn.relu(sent)[:, :, None] * is_other / (size - 1) ** 0.5
        zeros = jnp.zeros((*states.shape[:2], sent.shape[-1]))
        received.append(zeros.at[:, groups].add(sent.sum(3)))
      hidden = network.hidden(jnp.concatenate(received, -1))
      hidden += network.inputs[...][given.astype(int)]
      states += network.update(jax.nn.relu(hidden))
      states *= jax.lax.rsqrt(jnp.square(states).mean(-1, keepdims=True) + 1e-6)
      return states, self.output(states)[..., 0]

    flat = states.reshape(len(puzzles), -1, shape[-1])
    states, logits = jax.lax.scan(update, flat, length=num_steps)
    logits = logits.reshape(num_steps, *shape[:-1])
    # Class 0, an empty cell, is never the answer.
    logits = jnp.pad(logits, [(0, 0)] * 3 + [(1, 0)], constant_values=-1e9)
    return states.reshape(shape), logits


def list_members(groups, num_symbols: int = 9) -> list[np.ndarray]:
  """Return the candidates [groups, members] of the groups of each kind."""
  num_positions = groups.kinds[0].shape[1]
  candidates = np.arange(num_positions * num_symbols).reshape(-1, num_symbols)
  lists = [candidates]
  for kind in groups.kinds:
    members = [candidates[positions].T for positions in kind]
    lists.append(np.concatenate(members))
  return lists


PLAIN = {'cells': PlainCells, 'candidates': PlainCandidates}


class PlainTask(task.SudokuTask):
  """The task with the plain form of the network."""

  def make_model(self, rngs):
    """Build the network."""
    make = PLAIN[self.model_config.network]
    return make(self.model_config, dtype=self.dtype, rngs=rngs)


def count_flops(config: model.ModelConfig, *, is_plain: bool) -> int:
  """Count the operations of the matrix products for one board.

  A multiplication and an addition count as two operations. The backward pass
  has two products for each product of the forward pass: one for the gradient of
  the inputs, and one for that of the kernel. The count excludes the embedding
  of the digits, the products of two kernels, which all boards share, and
  everything that is not a matrix product.
  """
  if config.network == 'candidates':
    return _count_candidates(config, is_plain=is_plain)
  neighbors = data.neighbors(config.box_height, config.box_width)
  num_nodes, degree = neighbors.shape
  width, side = config.width, config.box_height * config.box_width
  square = width**2
  before = 3 * config.embedding_width * width + config.input_layers * square
  if is_plain:
    messages = degree * (config.message_layers + 2) * square
    node = (config.node_layers + 2) * square
  else:
    before += square  # the part of the node function that all steps share
    messages = (2 + degree * (config.message_layers - 1)) * square
    node = config.node_layers * square
  each_step = messages + node + 8 * square + width * (side + 1)
  return 3 * 2 * num_nodes * (before + config.num_steps * each_step)


def _count_candidates(config, *, is_plain: bool) -> int:
  """Count the operations of the network on candidates; see `count_flops`.

  In our form, sums over groups are products with constant matrices.
  """
  groups = make_groups(config)
  lists = list_members(groups)
  num_symbols = lists[0].shape[1]
  num_nodes = lists[0].size
  width, messages = config.width, config.message_width
  hidden = config.hidden_width
  num_senders = num_nodes * len(lists)
  sums = 0
  if is_plain:
    num_senders = sum(members.size for members in lists)
  else:
    sums = 2 * messages * num_symbols * sum(x.size for x in groups.kinds)
  products = (
    num_senders * width * messages
    + num_nodes * len(lists) * messages * hidden
    + num_nodes * (2 * width * hidden + width)
  )
  return config.num_steps * 2 * (3 * products + 2 * sums)


def make_groups(config: model.ModelConfig):
  """Return the groups of candidates of a board."""
  units = data.units(config.box_height, config.box_width)
  return model.make_groups(
    units,
    sharing=config.groups,
    intersections=config.intersections,
  )
