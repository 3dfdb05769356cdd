"""The transformer of task hinting: updates of sorting, and decoding.

An update is a forward pass, a backward pass, and AdamW, on lists of 2 to 20
values without a hint. The contenders are ours (`hinting/transformer.py`: two
lists per packed row, and the last layer only where answers are predicted), its
plain form (one padded row per list, and logits at all tokens), the plain form
in PyTorch with fused attention, eager and compiled, and GPT-2 of Hugging Face
with the same sizes. Ours and GPT-2 also decode lists greedily, with a cache.

All but GPT-2 must have the same logits for the same weights. Decoded tokens
must be the most probable ones without a cache.

Axes: B batch, L tokens of a row, A answer tokens, D width, V vocabulary.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness, machine
from configs.hinting import sorting
from core import layers, sharding, step
from core.run import devices
from hinting import vocabulary
from hinting.sorting import task
from hinting.vocabulary import Token

REPEATS = 5  # updates in a turn, because training makes many at once
IGNORED = -100  # target that PyTorch's loss ignores
FLAGS = {
  'batch_size': (128, 2, 'Lists per update.'),
  'decoded_lists': (100, 1, 'Lists decoded at once.'),
  'decoded_length': (100, 1, 'Values in each decoded list.'),
  'rounds': (8, 1, 'Turns of each contender.'),
}
PEERS = 'torch', 'transformers'
UNIT = 'lists'


class PlainTask(task.SortingTask):
  """The task with one padded row per list, and logits at all tokens."""

  def batch(self, key, arrays, *, size, step):
    """Draw 'tokens', 'targets' and 'weights' [B, L]."""
    del arrays, step
    kind, longest = self.kinds[self.main], self.data.max_train_length

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


def make_gpt2(transformers, config, num_positions: int):
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


def make_updates(
  config,
) -> tuple[dict[str, harness.Contender], Callable, Mapping]:
  """Build all updates, `REPEATS` per call.

  Returns:
    The contenders, the function parameters -> our model, and parameters.
  """
  mesh = sharding.make_mesh(config.mesh)
  config.steps_per_call = REPEATS
  ours = task.SortingTask(config)
  plain = step.make_program(PlainTask(config), config, mesh)
  program = step.make_program(ours, config, mesh)
  params, merge = harness.perturb(program.init().params), program.merge
  draw = jax.jit(functools.partial(ours.batch, size=config.batch_size))
  batch = draw(jax.random.key(0), {}, step=jnp.zeros((), jnp.int32))
  batch = {name.partition('/')[2]: x for name, x in batch.items()}
  num_tokens = ours.kinds[ours.main].num_tokens(config.data.max_train_length)
  tokens, targets, at = unpack(batch, num_tokens - 1)
  compute = jax.jit(lambda params, x, **places: merge(params)(x, **places))
  places = {name: batch[name] for name in ('at', 'segments', 'positions')}
  packed = compute(params, batch['tokens'], **places)
  make = functools.partial(harness.make_updates, arrays={}, num_updates=REPEATS)
  contenders = {
    'plain form': make(
      plain, values=[compute(params, jnp.asarray(tokens))[at]]
    ),
    'ours': make(program, values=[packed[np.asarray(batch['weights']) > 0]]),
  }
  if twins := harness.peer('PyTorch', 'benchmarks.torch_twins'):
    tokens, targets = map(twins.torch.tensor, (tokens, targets))

    def make_twin(compiler):
      weights = twins.transformer_tensors(params)
      solve = compiler(twins.transformer_logits)

      def logits():
        return solve(weights, tokens, config.model.num_heads)

      leaves = jax.tree.leaves(weights)
      call = torch_updates(twins, logits, targets, leaves, config.optim)
      return harness.Contender(call, twins.to_arrays(logits()[at]))

    contenders |= twins.variants(make_twin)
    if transformers := harness.peer('GPT-2', 'transformers'):
      gpt2 = make_gpt2(transformers, config, tokens.shape[1])
      call = torch_updates(
        twins,
        lambda: gpt2(tokens, use_cache=False).logits,
        targets,
        list(gpt2.parameters()),
        config.optim,
      )
      contenders['Hugging Face GPT-2'] = harness.Contender(call)
  return contenders, merge, params


def torch_updates(twins, logits, targets, leaves, optim) -> Callable[[], None]:
  """Return a function that makes updates of `leaves` on one batch.

  `logits` is a function () -> [B, L, V]; `targets` [B, L] may be `IGNORED`.
  """
  torch = twins.torch

  def losses():
    loss = torch.nn.functional.cross_entropy
    return [loss(logits().flatten(0, 1), targets.flatten())]

  optimizer = torch.optim.AdamW(
    leaves,
    optim.learning_rate,
    (optim.b1, optim.b2),
    weight_decay=optim.weight_decay,
    fused=True,
  )
  return twins.make_call(
    losses,
    leaves,
    optimizer=optimizer,
    clip_norm=optim.clip_norm,
    repeats=REPEATS,
  )


def make_decoders(
  config, merge: Callable, params: Mapping, num_lists: int, length: int
) -> dict[str, harness.Contender]:
  """Build the contenders that decode lists of `length`, and check our tokens.

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
  harness.check_equal('decoded tokens', [chosen], [logits.max(-1)])
  contenders = {
    'ours': harness.Contender(
      lambda: jax.block_until_ready(decode(params, *inputs))
    )
  }
  torch = harness.peer('PyTorch', 'torch')
  transformers = torch and harness.peer('GPT-2', 'transformers')
  if transformers:
    gpt2 = make_gpt2(transformers, config, rows.shape[1]).eval()
    tokens = torch.tensor(prompts)
    contenders['Hugging Face GPT-2'] = harness.Contender(
      lambda: gpt2.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=False,
        use_cache=True,
        max_new_tokens=length + 1,
      )
    )
  return contenders


def make_config(batch_size: int):
  """Return the config of sorting on CPUs, without a hint, with AdamW."""
  config = sorting.get_config('cpu,hint=none')
  config.optim.name = 'adamw'
  config.batch_size = batch_size
  return config


def make_cases(args) -> Iterator[harness.Case]:
  """Build a case for the updates, and one for decoding."""
  devices.use_cpu_cores(math.gcd(args.batch_size, args.decoded_lists))
  config = make_config(args.batch_size)
  updates, *model = make_updates(config)
  limits = machine.limits()
  yield harness.Case('update', updates, args.batch_size, REPEATS, limits)
  decoders = make_decoders(
    config, *model, args.decoded_lists, args.decoded_length
  )
  yield harness.Case('decoding', decoders, args.decoded_lists, limits=limits)
