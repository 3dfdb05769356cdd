"""PyTorch twins of our networks.

A twin starts from the parameters of our network and computes the same values.
Importing this module requires PyTorch.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import harness
from core.errors import one_line

# All cases of a benchmark compile the same function, once for each shape. By
# default, `torch.compile` gives up after 8 shapes.
torch._dynamo.config.recompile_limit = 64
Compiler = Callable[[Callable], Callable]


def variants(
  make: Callable[[Compiler], harness.Contender], suffix: str = ''
) -> dict[str, harness.Contender]:
  """Return a twin in eager mode, and compiled if `torch.compile` works.

  Args:
    make: builds the twin. It applies its argument to the function to compile.
    suffix: end of the names of the contenders.
  """
  contenders = {f'PyTorch eager{suffix}': make(lambda function: function)}
  name = f'PyTorch compiled{suffix}'
  try:
    compiled = make(
      functools.partial(torch.compile, dynamic=False, fullgraph=True)
    )
    compiled.call()  # compiles the backward pass
    contenders[name] = compiled
  except Exception as error:  # a compiler can raise any error
    print(f'skipping {name}: {one_line(error)}')
  return contenders


def to_tensors(params):
  """Convert nested dicts of arrays to tensors with gradients.

  A kernel gets the layout of `torch.nn.Linear`, [outputs, inputs].
  """

  def convert(path, x):
    x = torch.tensor(np.asarray(x))
    is_kernel = path[-1].key == 'kernel'
    return (x.T.contiguous() if is_kernel else x).requires_grad_()

  return jax.tree_util.tree_map_with_path(convert, params)


def make_call(
  losses: Callable[[], Iterable[Tensor]],
  leaves: Sequence[Tensor],
  *,
  optimizer: torch.optim.Optimizer | None = None,
  clip_norm: float | None = None,
  repeats: int = 1,
) -> Callable[[], None]:
  """Return a function that makes backward passes, or whole updates.

  Args:
    losses: computes the losses, whose gradients are summed.
    leaves: the tensors to differentiate with respect to.
    optimizer: makes the updates. None computes gradients only.
    clip_norm: largest norm of the gradient of an update.
    repeats: number of backward passes or updates in a call.
  """

  def call():
    for _ in range(repeats):
      for leaf in leaves:
        leaf.grad = None
      for loss in losses():
        loss.backward()
      if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(leaves, clip_norm)
      if optimizer is not None:
        optimizer.step()

  return call


def linear(layer: Mapping[str, Tensor], x):
  """Apply a linear layer."""
  return F.linear(x, layer['kernel'], layer.get('bias'))


def mlp(params, x):
  """Apply linear layers with ReLU between them."""
  layers = params['layers']
  *hidden, last = (layers[index] for index in sorted(layers))
  for layer in hidden:
    x = F.relu(linear(layer, x))
  return linear(last, x)


def lstm(layer, x, cell):
  """Return the hidden state and the cell after one step on [input, hidden]."""
  input_, candidate, forget, output = linear(layer, x).chunk(4, -1)
  cell = torch.sigmoid(forget + 1) * cell
  cell = cell + torch.sigmoid(input_) * torch.tanh(candidate)
  return torch.sigmoid(output) * torch.tanh(cell), cell


def relational_step(params, senders, edges, inputs, state, hidden, cell):
  """Return the state, hidden state and cell of `rrn.reference` after a step.

  Args:
    params: parameters of the network.
    senders: the senders of each node, int [N, degree].
    edges: features, broadcast to [B, N, degree, E], or None.
    inputs, state, hidden, cell: [B, N, D].
  """
  sender = state[:, senders]
  features = [sender, state[:, :, None].expand(sender.shape)]
  if edges is not None:
    features.append(edges.expand(*sender.shape[:3], -1))
  messages = mlp(params['message'], torch.cat(features, -1)).sum(2)
  if 'lstm' not in params:
    node = torch.cat([messages, inputs, state], -1)
    return mlp(params['node'], node), hidden, cell
  update = mlp(params['node'], torch.cat([messages, inputs], -1))
  hidden, cell = lstm(params['lstm'], torch.cat([update, hidden], -1), cell)
  return hidden, hidden, cell


def pass_messages(step, params, senders, inputs, *, num_steps, edges=None):
  """Return the states [T, B, N, D] after each `step`, a `relational_step`."""
  state, hidden, cell = inputs, *torch.zeros(2, *inputs.shape)
  states = []
  for _ in range(num_steps):
    state, hidden, cell = step(
      params, senders, edges, inputs, state, hidden, cell
    )
    states.append(state)
  return torch.stack(states)


def cells_logits(step, params, senders, puzzles, *, num_steps):
  """Return the logits [T, B, N, K] of the network on cells.

  Args:
    step: see `pass_messages`.
    params: parameters of the whole model.
    senders: see `relational_step`.
    puzzles: int [B, N].
    num_steps: T.
  """
  cells = torch.arange(puzzles.shape[1])
  rows = params['row_embedding'][cells // 9]
  columns = params['column_embedding'][cells % 9]
  position = torch.cat([rows, columns], -1).expand(len(puzzles), -1, -1)
  digits = params['digit_embedding'][puzzles]
  inputs = mlp(params['input_mlp'], torch.cat([digits, position], -1))
  states = pass_messages(
    step, params['network'], senders, inputs, num_steps=num_steps
  )
  return linear(params['output'], states)


def candidates_step(params, members, states, given):
  """Return the states [N, B, K, D] of `rrn.candidates` after one more step.

  As in our network, sums over groups are matrix products.
  """
  sent = F.relu(linear(params['send'], states))
  at_position, *by_kind = sent.chunk(len(members) + 1, -1)
  others = at_position.sum(2, keepdim=True) - at_position
  received = [states, others / (states.shape[2] - 1) ** 0.5]
  for messages, member in zip(by_kind, members, strict=True):
    weights = member / (member.sum(1, keepdim=True) - 1) ** 0.5
    sums = torch.tensordot(weights, messages, 1)
    sums = torch.tensordot(member.T, sums, 1)
    received.append(sums - weights.sum(0)[:, None, None, None] * messages)
  hidden = linear(params['hidden'], torch.cat(received, -1))
  if_open, if_given = params['inputs']
  hidden = hidden + torch.where(given[..., None], if_given, if_open)
  states = states + linear(params['update'], F.relu(hidden))
  return F.rms_norm(states, states.shape[-1:], eps=1e-6)


def candidates_logits(step, params, members, puzzles, *, num_steps):
  """Return the logits [T, B, N, K] of the network on candidates.

  Args:
    step: a `candidates_step`.
    params: parameters of the whole model.
    members: for each kind of group, float [G, N]: 1 for a position of a group.
    puzzles: int [B, N].
    num_steps: T.
  """
  num_digits = math.isqrt(puzzles.shape[1])
  given = F.one_hot(puzzles.T, num_digits + 1)[..., 1:].bool()
  states = torch.zeros(*given.shape, params['output']['kernel'].shape[1])
  outputs = []
  for _ in range(num_steps):
    states = step(params['network'], members, states, given)
    outputs.append(linear(params['output'], states)[..., 0])
  logits = torch.stack(outputs).transpose(1, 2)
  return F.pad(logits, (1, 0), value=-1e9)  # class 0 is never the answer


def process(lstm_layer, memories, num_steps: int):
  """Return q* [B, 2 D] of Process with dot attention on memories [B, N, D]."""
  cell = torch.zeros_like(memories[:, 0])
  summary = torch.cat([cell, cell], -1)
  for _ in range(num_steps):
    state, cell = lstm(lstm_layer, summary, cell)
    weights = torch.einsum('bnd,bd->bn', memories, state).softmax(-1)
    reading = torch.einsum('bn,bnd->bd', weights, memories)
    summary = torch.cat([state, reading], -1)
  return summary


def sorting_logits(params, elements, order, num_process_steps: int):
  """Return the logits [B, T, N] of each output, computed one by one.

  Args:
    params: parameters of `seq2set.read_process_write.SetToSequence`.
    elements: [B, N, 1].
    order: the element of each output, int [B, T].
    num_process_steps: number of steps of Process.
  """
  write = params['write']
  memories = mlp(params['read'], elements)
  summary = process(params['process']['lstm'], memories, num_process_steps)
  hidden, cell = torch.tanh(linear(params['start'], summary)).chunk(2, -1)
  glimpses = [write['glimpses'][key] for key in sorted(write['glimpses'])]
  attentions = [*glimpses, write['pointer']]
  keys = [linear(each['memory'], memories) for each in attentions]

  def point(index, state):
    query = linear(attentions[index]['query'], state)
    both = torch.tanh(keys[index] + query[:, None])
    return linear(attentions[index]['score'], both)[..., 0]

  x = write['first'].expand(hidden.shape)
  sets, outputs = torch.arange(len(memories)), []
  for target in order.T:
    hidden, cell = lstm(write['lstm'], torch.cat([x, hidden], -1), cell)
    state = hidden
    for index in range(len(glimpses)):
      weights = point(index, state).softmax(-1)
      state = state + torch.einsum('bn,bnd->bd', weights, memories)
    outputs.append(point(-1, state))
    x = memories[sets, target]
  return torch.stack(outputs, 1)


def transformer_tensors(params):
  """Convert the parameters of the transformer; see `to_tensors`.

  One product computes queries, keys, and values.
  """
  params = jax.tree.map(np.asarray, params)
  for block in params['blocks'].values():
    parts = [block.pop(name) for name in ('query', 'key', 'value')]
    block['attention'] = {
      name: np.concatenate([part[name] for part in parts], -1)
      for name in ('kernel', 'bias')
    }
  return to_tensors(params)


def transformer_logits(params, tokens, num_heads: int):
  """Return the logits [B, L, V] of the token that follows each token."""

  def norm(layer, x):
    return F.layer_norm(x, x.shape[-1:], layer['scale'], layer['bias'], 1e-6)

  x = params['embedding'][tokens]
  for index in sorted(params['blocks']):
    block = params['blocks'][index]
    hidden = norm(block['attention_norm'], x)
    parts = linear(block['attention'], hidden).chunk(3, -1)
    heads = F.scaled_dot_product_attention(
      *(y.unflatten(-1, (num_heads, -1)).transpose(1, 2) for y in parts),
      is_causal=True,
    )
    x = x + linear(block['out'], heads.transpose(1, 2).flatten(2))
    hidden = norm(block['feed_forward_norm'], x)
    hidden = F.gelu(linear(block['up'], hidden), approximate='tanh')
    x = x + linear(block['down'], hidden)
  return linear(params['head'], norm(params['norm'], x))


def to_arrays(*tensors: Tensor) -> tuple[Any, ...]:
  """Convert tensors to arrays."""
  return tuple(x.detach().numpy().copy() for x in tensors)
