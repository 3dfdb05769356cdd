"""PyTorch twins of the two Sudoku networks.

A twin starts from the parameters of our network and computes the same logits.
Importing this module requires PyTorch.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F

from rrn import candidates
from rrn.sudoku import data


class Twin:
  """Makes whole updates on one fixed batch: forward, backward, AdamW.

  Args:
    params: parameters of our network, as nested dicts of arrays.
    boards: the batch of every update, 'puzzle' and 'solution', int [B, N].
    num_steps: number of message passing steps.
    at_once: number of boards in one forward and backward pass.
  """

  def __init__(
    self, params, boards: Mapping[str, Any], *, num_steps: int, at_once: int
  ):
    self.params = jax.tree.map(
      lambda x: torch.tensor(np.asarray(x), requires_grad=True), params
    )
    self.optimizer = torch.optim.AdamW(jax.tree.leaves(self.params))
    self.num_steps = num_steps
    self.puzzles = torch.tensor(boards['puzzle'])
    self.solutions = torch.tensor(boards['solution'])
    self.at_once = at_once

  def update(self):
    """Make one update on the whole batch."""
    self.optimizer.zero_grad()
    part = self.at_once / len(self.puzzles)
    for puzzles, solutions in zip(
      self.puzzles.split(self.at_once),
      self.solutions.split(self.at_once),
      strict=True,
    ):
      logits = self.logits(puzzles).flatten(0, -2)
      targets = solutions.flatten().repeat(self.num_steps)
      (part * F.cross_entropy(logits, targets)).backward()
    self.optimizer.step()

  def logits(self, puzzles):
    """Return the logits [T, B, N, K] of every step."""
    raise NotImplementedError


class CellsTwin(Twin):
  """The plain form of `rrn.network`: a message for each edge."""

  def __init__(self, params, boards, **options):
    super().__init__(params, boards, **options)
    self.senders = torch.tensor(data.neighbors(3, 3), dtype=torch.int64)

  def logits(self, puzzles):
    """Return the logits [T, B, N, K] of every step."""
    params = self.params
    cells = torch.arange(puzzles.shape[1])
    rows = params['row_embedding'][cells // 9]
    columns = params['column_embedding'][cells % 9]
    position = torch.cat([rows, columns], -1).expand(len(puzzles), -1, -1)
    digits = params['digit_embedding'][puzzles]
    inputs = _mlp(params['input_mlp'], torch.cat([digits, position], -1))
    network = params['network']
    state, hidden, cell = inputs, *torch.zeros(2, *inputs.shape)
    outputs = []
    for _ in range(self.num_steps):
      sender = state[:, self.senders]
      receiver = state[:, :, None].expand(sender.shape)
      edges = torch.cat([sender, receiver], -1)
      messages = _mlp(network['message'], edges).sum(2)
      update = _mlp(network['node'], torch.cat([messages, inputs], -1))
      gates = _linear(network['lstm'], torch.cat([update, hidden], -1))
      write, candidate, forget, read = gates.chunk(4, -1)
      cell = torch.sigmoid(forget + 1) * cell
      cell = cell + torch.sigmoid(write) * torch.tanh(candidate)
      state = hidden = torch.sigmoid(read) * torch.tanh(cell)
      outputs.append(_linear(params['output'], state))
    return torch.stack(outputs)


class CandidatesTwin(Twin):
  """The network of `rrn.candidates`, also with group sums as matrix products.

  Args:
    params, boards, **options: see `Twin`.
    groups: the graph.
    compiler: compiles the function of one step, such as `torch.compile`.
  """

  def __init__(
    self,
    params,
    boards,
    *,
    groups: candidates.Groups,
    compiler: Callable[[Callable], Callable] = lambda step: step,
    **options,
  ):
    super().__init__(params, boards, **options)
    self.members = [
      torch.tensor(members, dtype=torch.float32) for members in groups.kinds
    ]
    self.step = compiler(self._step)

  def logits(self, puzzles):
    """Return the logits [T, B, N, K] of every step."""
    params = self.params
    num_digits = math.isqrt(puzzles.shape[1])
    given = F.one_hot(puzzles.T, num_digits + 1)[..., 1:].bool()
    states = torch.zeros(*given.shape, params['output']['kernel'].shape[0])
    outputs = []
    for _ in range(self.num_steps):
      states = self.step(states, given)
      outputs.append((states @ params['output']['kernel'])[..., 0])
    logits = torch.stack(outputs).transpose(1, 2)
    return F.pad(logits, (1, 0), value=-1e9)  # class 0 is never the answer

  def _step(self, states, given):
    """Return the states [N, B, K, D] after one more step."""
    params = self.params['network']
    sent = F.relu(_linear(params['send'], states))
    at_position, *by_kind = sent.chunk(len(self.members) + 1, -1)
    others = at_position.sum(2, keepdim=True) - at_position
    received = [states, others / (states.shape[2] - 1) ** 0.5]
    for messages, members in zip(by_kind, self.members, strict=True):
      weights = members / (members.sum(1, keepdim=True) - 1) ** 0.5
      sums = torch.tensordot(weights, messages, 1)
      sums = torch.tensordot(members.T, sums, 1)
      received.append(sums - weights.sum(0)[:, None, None, None] * messages)
    hidden = _linear(params['hidden'], torch.cat(received, -1))
    if_open, if_given = params['inputs']
    hidden = hidden + torch.where(given[..., None], if_given, if_open)
    states = states + _linear(params['update'], F.relu(hidden))
    return F.rms_norm(states, states.shape[-1:], eps=1e-6)


def _mlp(params, x):
  *hidden, last = (layer for _, layer in sorted(params['layers'].items()))
  for layer in hidden:
    x = F.relu(_linear(layer, x))
  return _linear(last, x)


def _linear(layer, x):
  return F.linear(x, layer['kernel'].T, layer.get('bias'))
