"""The transformer of task hinting: updates of sorting, and decoding.

  uv run python benchmarks/hinting.py
  uv run --with torch==2.13.0 --with transformers==5.24.0 \
    python benchmarks/hinting.py --output=out.json

An update is a forward pass, a backward pass, and AdamW, on lists of 2 to 20
values without a hint. The contenders are ours (`hinting/transformer.py`: two
lists per packed row, and the last layer only where answers are predicted), its
plain form (one padded row per list, and logits at all tokens), the plain form
in eager PyTorch with fused attention, and GPT-2 of Hugging Face with the same
sizes. Ours and GPT-2 also decode lists of 100 values greedily, with a cache.

First, the script checks that all but GPT-2 have the same logits for the same
weights, and that decoded tokens are the most probable ones without a cache.

Axes: B batch, L tokens of a row, A answer tokens, D width, V vocabulary.
"""

import functools
import math
import pathlib
import sys
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table
from absl import app, flags

# Python adds the folder of the script to sys.path, not the root.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import timing
from configs.hinting import sorting
from core import layers, sharding, step
from core.io import atomic_files
from core.run import run_folder
from hinting import vocabulary
from hinting.sorting import task
from hinting.vocabulary import Token

try:
  import torch
  import torch.nn.functional as F
except ImportError:
  torch = None
try:
  import transformers
except ImportError:
  transformers = None

TOLERANCE = 1e-4  # of outputs, because float32 sums depend on their order
REPEATS = 5  # updates in a turn, because training makes many at once
IGNORED = -100  # target that PyTorch's loss ignores

Calls = dict[str, Callable[[], None]]


class PlainTask(task.SortingTask):
  """The task with one padded row per list, and logits at all tokens."""

  def batch(self, key, arrays, *, size, step):
    """Draw 'tokens', 'targets' and 'weights' [B, L]."""
    del arrays, step
    kind, longest = self.kinds[self.main], self.data.max_length

    def make_row(key):
      length_key, value_key = jax.random.split(key)
      length = jax.random.randint(length_key, (), 2, longest + 1)
      values = self.draw_values(
        value_key, length, size=longest, distribution='train'
      )
      return kind.make_row(key, values, length)

    rows = jax.vmap(make_row)(jax.random.split(key, size))
    return {
      'tokens': rows.tokens[:, :-1],
      'targets': rows.tokens[:, 1:],
      'weights': rows.is_answer[:, 1:].astype(jnp.float32),
    }

  def loss(self, model, batch, key):
    """Return the mean cross-entropy of the answer tokens."""
    del key
    losses = layers.cross_entropy(model(batch['tokens']), batch['targets'])
    weights = batch['weights']
    return (losses * weights).sum() / weights.sum(), {}


class TorchTwin:
  """The plain form in eager PyTorch.

  Args:
    params: parameters of the network, as nested dicts of arrays.
    num_heads: H.
  """

  def __init__(self, params, num_heads: int):
    params = jax.tree.map(np.asarray, params)
    self.num_heads = num_heads
    for block in params['blocks'].values():
      # One product computes queries, keys, and values.
      parts = [block.pop(name) for name in ('query', 'key', 'value')]
      block['attention'] = {
        name: np.concatenate([part[name] for part in parts], -1)
        for name in ('kernel', 'bias')
      }
    params = jax.tree.map(torch.tensor, params)
    # The layout of `torch.nn.Linear` is [outputs, inputs].
    self.params = jax.tree_util.tree_map_with_path(
      lambda path, x: x.T.contiguous() if path[-1].key == 'kernel' else x,
      params,
    )

  def logits(self, tokens):
    """Return the logits [B, L, V] of the token that follows each token."""
    x = self.params['embedding'][tokens]
    for index in sorted(self.params['blocks']):
      block = self.params['blocks'][index]
      hidden = self._norm(block['attention_norm'], x)
      parts = self._linear(block['attention'], hidden).chunk(3, -1)
      heads = F.scaled_dot_product_attention(
        *(y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in parts),
        is_causal=True,
      )
      x = x + self._linear(block['out'], heads.transpose(1, 2).flatten(2))
      hidden = self._norm(block['feed_forward_norm'], x)
      hidden = F.gelu(self._linear(block['up'], hidden), approximate='tanh')
      x = x + self._linear(block['down'], hidden)
    return self._linear(self.params['head'], self._norm(self.params['norm'], x))

  @staticmethod
  def _linear(layer, x):
    return F.linear(x, layer['kernel'], layer.get('bias'))

  @staticmethod
  def _norm(norm, x):
    return F.layer_norm(x, x.shape[-1:], norm['scale'], norm['bias'], 1e-6)


def make_torch_update(logits, targets, leaves, optim):
  """Return a function that makes `REPEATS` updates of the parameters `leaves`.

  `logits` is a function () -> [B, L, V]; `targets` [B, L] may be `IGNORED`.
  """
  for leaf in leaves:
    leaf.requires_grad = True
  optimizer = torch.optim.AdamW(
    leaves,
    optim.learning_rate,
    (optim.b1, optim.b2),
    weight_decay=optim.weight_decay,
    fused=True,
  )

  def call():
    for _ in range(REPEATS):
      optimizer.zero_grad()
      F.cross_entropy(logits().flatten(0, 1), targets.flatten()).backward()
      torch.nn.utils.clip_grad_norm_(leaves, optim.clip_norm)
      optimizer.step()

  return call


def make_gpt2(config, num_positions: int):
  """Build GPT-2 with the same sizes, random weights, and no dropout."""
  sizes = config.model
  return transformers.GPT2LMHeadModel(
    transformers.GPT2Config(
      vocab_size=vocabulary.size(config.data.num_values),
      n_positions=num_positions,
      n_embd=sizes.width,
      n_layer=sizes.num_layers,
      n_head=sizes.num_heads,
      n_inner=sizes.feed_forward_width,
      resid_pdrop=0.0,
      embd_pdrop=0.0,
      attn_pdrop=0.0,
      bos_token_id=None,
      eos_token_id=None,  # so that it always generates all tokens
    )
  )


def make_params(program: step.Program):
  """Make perturbed parameters, because initial biases are 0."""
  leaves, structure = jax.tree.flatten(program.init().params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return structure.unflatten(
    leaf + 0.05 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  )


def unpack(batch: Mapping, num_tokens: int):
  """Convert packed rows to one row of `num_tokens` tokens per list.

  Returns:
    Tokens and targets [2 B, L], `IGNORED` at tokens without a target; and the
    row and the column of each target, in the order of the packed rows.
  """
  batch = {name: np.asarray(x) for name, x in batch.items()}

  def place(pair, index):
    row = 2 * pair + batch['segments'][pair, index]
    return row, batch['positions'][pair, index]

  shape = 2 * len(batch['tokens']), num_tokens
  tokens = np.full(shape, Token.PAD)
  targets = np.full(shape, IGNORED)
  there = np.nonzero(batch['segments'] >= 0)
  tokens[place(*there)] = batch['tokens'][there]
  asked = np.nonzero(batch['weights'])
  at = place(asked[0], batch['at'][asked])
  targets[at] = batch['targets'][asked]
  return tokens, targets, at


def make_updates(config) -> tuple[Calls, Callable, Mapping]:
  """Build all updates, `REPEATS` per call, and check that their logits agree.

  Returns:
    The calls, the function parameters -> our model, and these parameters.

  Raises:
    ArithmeticError: the logits of a contender differ from ours.
  """
  mesh = sharding.make_mesh(config.mesh)
  config.steps_per_call = REPEATS
  ours = task.SortingTask(config)
  programs = {
    'plain form': step.make_program(PlainTask(config), config, mesh),
    'ours': step.make_program(ours, config, mesh),
  }
  updates = {name: _update(program) for name, program in programs.items()}
  params = make_params(programs['ours'])
  draw = jax.jit(functools.partial(ours.batch, size=config.batch_size))
  batch = draw(jax.random.key(0), {}, step=jnp.zeros((), jnp.int32))
  batch = {name.partition('/')[2]: x for name, x in batch.items()}
  num_tokens = ours.kinds[ours.main].num_tokens(config.data.max_length)
  tokens, targets, at = unpack(batch, num_tokens - 1)
  merge = programs['ours'].merge
  compute = jax.jit(lambda params, *args, **at: merge(params)(*args, **at))
  places = {name: batch[name] for name in ('at', 'segments', 'positions')}
  packed = compute(params, batch['tokens'], **places)
  logits = {
    'ours': packed[np.asarray(batch['weights']) > 0],
    'plain form': compute(params, jnp.asarray(tokens))[at],
  }
  if has_torch():
    tokens, targets = torch.tensor(tokens), torch.tensor(targets)
    twin = TorchTwin(params, config.model.num_heads)
    logits['PyTorch eager'] = twin.logits(tokens)[at].numpy()
    leaves = jax.tree.leaves(twin.params)
    updates['PyTorch eager'] = make_torch_update(
      lambda: twin.logits(tokens), targets, leaves, config.optim
    )
  if has_torch() and transformers:
    gpt2 = make_gpt2(config, tokens.shape[1])
    updates['Hugging Face GPT-2'] = make_torch_update(
      lambda: gpt2(tokens, use_cache=False).logits,
      targets,
      list(gpt2.parameters()),
      config.optim,
    )
  check_equal(logits)
  return updates, merge, params


def make_decoders(
  config, merge: Callable, params: Mapping, num_lists: int, length: int
) -> Calls:
  """Build the calls that decode lists of `length`, and check our tokens.

  Raises:
    ArithmeticError: a token is not the most probable one without a cache.
  """
  mesh = sharding.make_mesh(config.mesh)
  rng = np.random.default_rng(0)
  lists = rng.integers(1, config.data.num_values + 1, (num_lists, length))
  prompts = np.pad(
    vocabulary.value_token(lists),
    [(0, 0), (1, 1)],
    constant_values=[(0, 0), (Token.BOS, Token.SORT)],
  )
  inputs = jax.device_put(
    (prompts, np.zeros(num_lists, int)), sharding.batch_sharding(mesh)
  )
  params = jax.device_put(params, sharding.replicated(mesh))

  @jax.jit
  def decode(params, prompts, starts):
    return merge(params).decode(prompts, starts, num_tokens=length + 1)

  answers = np.asarray(decode(params, *inputs))
  rows = np.concatenate([prompts, answers], 1)
  compute = jax.jit(lambda params, tokens: merge(params)(tokens))
  logits = np.asarray(compute(params, rows[:, :-1])[:, -length - 1 :])
  chosen = np.take_along_axis(logits, answers[..., None], -1)[..., 0]
  check_equal({'ours': logits.max(-1), 'decoded tokens': chosen})
  calls = {'ours': lambda: jax.block_until_ready(decode(params, *inputs))}
  if has_torch() and transformers:
    gpt2 = make_gpt2(config, rows.shape[1]).eval()
    tokens = torch.tensor(prompts)
    calls['Hugging Face GPT-2'] = lambda: gpt2.generate(
      tokens,
      attention_mask=torch.ones_like(tokens),
      do_sample=False,
      use_cache=True,
      max_new_tokens=length + 1,
    )
  return calls


def has_torch() -> bool:
  """Return whether PyTorch is installed and the device is a CPU."""
  return torch is not None and jax.default_backend() == 'cpu'


def check_equal(logits: Mapping):
  """Raise ArithmeticError if logits differ from ours."""
  ours = np.asarray(logits['ours'])
  for name, others in logits.items():
    difference = np.abs(np.asarray(others) - ours).max() / np.abs(ours).max()
    if not difference < TOLERANCE:
      raise ArithmeticError(f'{name}: logits differ by {difference} from ours')


def _update(program: step.Program):
  state = program.init()

  def call():
    nonlocal state
    state, *_ = jax.block_until_ready(program.update(state, {}))

  return call


def make_config(batch_size: int):
  """Return the config of sorting on CPUs, without a hint, with AdamW."""
  config = sorting.get_config('cpu,hint=none')
  config.optim.name = 'adamw'
  config.batch_size = batch_size
  return config


def main(_):
  """Measure, print a table, and write JSON if --output is set."""
  args = flags.FLAGS
  lists = args.decoded_lists
  path = timing.start(args.output, math.gcd(args.batch_size, lists))
  names = 'batch_size', 'decoded_lists', 'decoded_length'
  sizes = {name: args[name].value for name in names}
  if not has_torch() or not transformers:
    print('skipping PyTorch or GPT-2: not installed, or not on a CPU')
  config = make_config(args.batch_size)
  updates, *model = make_updates(config)
  decoders = make_decoders(config, *model, lists, args.decoded_length)
  title = ', '.join(f'{name} {size}' for name, size in sizes.items())
  columns = ['', 'rows/s', 'ours is x', 'median ms', 'best ms']
  table = rich.table.Table(*columns, title=title)
  results = {}
  for what, calls, repeats, num_rows in (
    ('update', updates, REPEATS, args.batch_size),
    ('decoding', decoders, 1, lists),
  ):
    results[what] = {
      name: [total / repeats for total in totals]
      for name, totals in timing.measure(calls, args.rounds).items()
    }
    ours = timing.median(results[what]['ours'])
    for name, seconds in results[what].items():
      median = timing.median(seconds)
      table.add_row(
        f'{what}, {name}',
        f'{num_rows / median:.1f}',
        f'{median / ours:.2f}',
        f'{1e3 * median:.1f}',
        f'{1e3 * min(seconds):.1f}',
      )
  rich.console.Console().print(table)
  if args.output:
    run = run_folder.versions() | sizes
    run['torch'] = torch and torch.__version__
    run['transformers'] = transformers and transformers.__version__
    atomic_files.write_json(path, run | {'seconds': results})


if __name__ == '__main__':
  # Defined here, so that a test can import benchmarks with equal flag names.
  flags.DEFINE_integer('batch_size', 128, 'Lists per update.', 2)
  flags.DEFINE_integer('decoded_lists', 100, 'Lists decoded at once.', 1)
  flags.DEFINE_integer('decoded_length', 100, 'Values in each decoded list.', 1)
  flags.DEFINE_integer('rounds', 8, 'Turns of each contender.', 1)
  flags.DEFINE_string('output', None, 'JSON file to write.')
  app.run(timing.guarded(main))
