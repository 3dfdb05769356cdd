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


def make_groups(config: model.ModelConfig):
  """Return the groups of candidates of a board."""
  units = data.units(config.box_height, config.box_width)
  return model.make_groups(
    units,
    sharing=config.groups,
    intersections=config.intersections,
  )
