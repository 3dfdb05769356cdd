"""Read, Process, Write: invariance to the order, padding, and decoding."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from core.errors import UserError
from seq2set import read_process_write as rpw
from seq2set.attention import ATTENTIONS
from tests import learning

WIDTH, BATCH, COUNT = 8, 3, 5
ENCODERS = pytest.mark.parametrize(
  'encoder',
  [
    pytest.param(
      name, marks=[] if name == 'read_process_write' else pytest.mark.slow
    )
    for name in rpw.ENCODERS
  ],
)
# Decoding without a stop symbol is the simpler case; its tests are marked slow.
HAS_STOP = pytest.mark.parametrize(
  'has_stop', [pytest.param(False, marks=pytest.mark.slow), True]
)


def sets(key=0, count=COUNT):
  return jax.random.normal(jax.random.key(key), (BATCH, count, WIDTH))


def make_process(**options):
  return rpw.Process(WIDTH, rngs=nnx.Rngs(0), **options)


def make_model(num_process_steps=3, num_glimpses=1, **options):
  model = rpw.SetToSequence(
    2,
    WIDTH,
    num_process_steps=num_process_steps,
    num_glimpses=num_glimpses,
    rngs=nnx.Rngs(0),
    **options,
  )
  # Larger than at initialization, so that outputs differ from set to set.
  graphdef, params = nnx.split(model)
  return nnx.merge(graphdef, jax.tree.map(lambda x: 2 * x, params))


def call(model, *args, **options):
  """Compute the logits as one compiled program."""
  return learning.compiled(rpw.SetToSequence.__call__, model, *args, **options)


def decode(model, elements, **options):
  """Decode as one compiled program."""
  run = functools.partial(rpw.SetToSequence.decode, **options)
  return learning.compiled(run, model, elements)


@pytest.mark.parametrize('attention', ATTENTIONS)
def test_process_is_invariant(attention):
  process = make_process(attention=attention)
  order = np.array([3, 0, 4, 1, 2])
  ours = process(sets(), num_steps=4)
  assert ours.shape == (BATCH, 2 * WIDTH)
  np.testing.assert_allclose(
    process(sets()[:, order], num_steps=4), ours, atol=1e-5
  )
  assert jnp.abs(process(sets(1), num_steps=4) - ours).max() > 1e-2


@pytest.mark.parametrize('attention', ATTENTIONS)
def test_process_matches_equations_3_to_7(attention):
  process = make_process(attention=attention)
  memories, ours = np.asarray(sets()), process(sets(), num_steps=3)
  kernel, bias = process.lstm.kernel[...], process.lstm.bias[...]
  for b in range(BATCH):
    summary, cell = np.zeros(2 * WIDTH), np.zeros(WIDTH)
    for _ in range(3):
      input_, candidate, forget, output = np.split(summary @ kernel + bias, 4)
      sigmoid = jax.nn.sigmoid
      cell = sigmoid(forget + 1) * cell + sigmoid(input_) * np.tanh(candidate)
      q = sigmoid(output) * np.tanh(cell)
      scores = []
      for memory in memories[b]:
        if attention == 'additive':
          a = process.attention
          both = a.memory(memory) + a.query(q.astype(np.float32))
          scores.append(float(a.score(jnp.tanh(both))[0]))
        else:
          scores.append(memory @ q)
      weights = np.exp(scores) / np.exp(scores).sum()
      summary = np.concatenate([q, weights @ memories[b]])
    np.testing.assert_allclose(ours[b], summary, atol=1e-5)


def test_padding_and_other_sets_have_no_effect():
  process, memories = make_process(), sets()
  sizes = np.array([5, 2, 0])
  mask = np.arange(COUNT) < sizes[:, None]
  run = jax.jit(lambda x: process(x, num_steps=3, mask=mask))
  ours = run(memories)
  other = jnp.where(mask[..., None], memories, jnp.nan)
  np.testing.assert_array_equal(run(other), ours)
  alone = process(memories[1:2, :2], num_steps=3)
  np.testing.assert_allclose(alone[0], ours[1], atol=1e-6)
  empty = process(memories[:1, :0], num_steps=3)
  np.testing.assert_allclose(empty[0], ours[2], atol=1e-6)
  assert np.isfinite(jax.jit(jax.grad(lambda x: run(x).sum()))(other)).all()


def test_zero_steps_give_zeros_and_the_first_query_is_learned():
  process = make_process()
  np.testing.assert_array_equal(process(sets(), num_steps=0), 0)
  state = process(sets(), num_steps=1)[:, :WIDTH]
  np.testing.assert_allclose(state, state[:1].repeat(BATCH, 0), atol=1e-6)


def test_gradients_of_process_match_those_of_its_equations():
  graphdef, params = nnx.split(make_process())

  def plain(process, memories):
    state = cell = reading = jnp.zeros((BATCH, WIDTH))
    for _ in range(3):
      gates = jnp.concatenate([state, reading], 1)
      gates = gates @ process.lstm.kernel[...]
      gates += process.lstm.bias[...][None]
      state, cell = process.lstm.update(gates, cell)
      weights = jax.nn.softmax(jnp.einsum('bnd,bd->bn', memories, state))
      reading = jnp.einsum('bn,bnd->bd', weights, memories)
    return jnp.concatenate([state, reading], 1)

  def differentiate(process):
    def loss(params, memories):
      summary = process(nnx.merge(graphdef, params), memories)
      return jnp.sin(summary).sum(), summary

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, sets())

  ours = differentiate(lambda process, x: process(x, num_steps=3))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    ours,
    differentiate(plain),
  )


@pytest.mark.parametrize(
  'options',
  [
    {'num_process_steps': 0, 'num_glimpses': 0},
    {'num_process_steps': 3, 'num_glimpses': 2},
    {'encoder': 'deep_sets'},
    pytest.param({'encoder': 'set_transformer'}, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_logits_are_equivariant(options):
  model = make_model(**options)
  elements = jax.random.normal(jax.random.key(1), (BATCH, COUNT, 2))
  targets = jnp.array([[4, 0, 2, 1, 3]] * BATCH)
  order = np.array([3, 0, 4, 1, 2])
  logits = call(model, elements, targets)
  moved = call(model, elements[:, order], jnp.argsort(order)[targets])
  np.testing.assert_allclose(moved, logits[..., order], atol=1e-4)


@ENCODERS
def test_write_starts_from_the_set(encoder):
  model = make_model(encoder=encoder)
  elements = jax.random.normal(jax.random.key(1), (BATCH, COUNT, 2))
  _, (hidden, _) = model.encode(elements)
  assert jnp.abs(hidden[0] - hidden[1]).max() > 1e-2


def test_pointer_network_sees_the_order():
  model = make_model(encoder='pointer_network')
  elements = jax.random.normal(jax.random.key(1), (BATCH, COUNT, 2))
  _, (hidden, _) = model.encode(elements)
  _, (reversed_, _) = model.encode(elements[:, ::-1])
  assert jnp.abs(hidden - reversed_).max() > 1e-2


@ENCODERS
def test_padding_is_never_chosen_and_has_no_effect(encoder):
  model = make_model(encoder=encoder)
  elements = jax.random.normal(jax.random.key(1), (BATCH, COUNT, 2))
  mask = np.arange(COUNT)[None].repeat(BATCH, 0) < 3
  targets = jnp.array([[1, 0, 2]] * BATCH)
  other = jnp.where(mask[..., None], elements, jnp.nan)
  graphdef, params = nnx.split(model)

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def run(params):
    model = nnx.merge(graphdef, params)
    logits, alone = model(other, targets, mask), model(elements[:, :3], targets)
    return logits[..., :3].sum(), (logits, alone)

  grads, (logits, alone) = run(params)
  np.testing.assert_allclose(logits[..., :3], alone, atol=1e-5)
  assert (logits[..., 3:] < -1e30).all()
  assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(grads))


@ENCODERS
def test_empty_sets_have_a_finite_encoding(encoder):
  _, state = make_model(encoder=encoder).encode(jnp.zeros((BATCH, 0, 2)))
  assert state[0].shape == (BATCH, WIDTH)
  assert all(jnp.isfinite(x).all() for x in state)


@HAS_STOP
def test_decoding_agrees_with_given_outputs(has_stop):
  """Greedy outputs maximize each logit, and log p is their probability."""
  model = make_model(has_stop=has_stop)
  elements = jax.random.normal(jax.random.key(1), (BATCH, COUNT, 2))
  outputs, log_p = decode(model, elements, length=4)
  logits = call(model, elements, outputs)
  assert logits.shape == (BATCH, 4, COUNT + has_stop)
  is_stop = (outputs == COUNT).astype(int)
  is_open = jnp.cumsum(is_stop, 1) - is_stop == 0
  log_ps = jax.nn.log_softmax(logits)
  each = jnp.take_along_axis(log_ps, outputs[..., None], -1)[..., 0]
  gap = jnp.where(is_open, log_ps.max(-1) - each, 0)
  np.testing.assert_allclose(gap, 0, atol=1e-5)
  total = jnp.where(is_open, each, 0).sum(1)
  np.testing.assert_allclose(total, log_p, atol=1e-4)


def test_after_a_stop_only_stops_follow():
  model = make_model(has_stop=True)
  model.write.stop[...] *= 20
  elements = jax.random.normal(jax.random.key(1), (64, COUNT, 2))
  outputs, _ = decode(model, elements, length=6, key=jax.random.key(2))
  stopped = np.cumsum(outputs == COUNT, 1) > 0
  assert stopped.any() and not stopped[:, 0].all()
  assert (np.asarray(outputs)[stopped] == COUNT).all()


def test_without_repeats_every_output_is_a_permutation():
  model = make_model()
  elements = jax.random.normal(jax.random.key(1), (64, COUNT, 2))
  outputs, _ = decode(model, elements, length=COUNT, avoid_repeats=True)
  assert (np.sort(outputs, 1) == np.arange(COUNT)).all()
  outputs, _ = decode(model, elements, length=COUNT)
  assert (np.sort(outputs, 1) != np.arange(COUNT)).any()


def all_outputs(model, elements, length, has_stop):
  """Enumerate the outputs for one set, and log p of each."""
  symbols = range(elements.shape[1] + has_stop)
  stop = elements.shape[1]
  rows = [
    row
    for row in itertools.product(symbols, repeat=length)
    if all(b == stop for a, b in itertools.pairwise(row) if a == stop)
  ]
  rows = jnp.array(rows)
  logits = model(elements.repeat(len(rows), 0), rows)
  each = jnp.take_along_axis(jax.nn.log_softmax(logits), rows[..., None], -1)[
    ..., 0
  ]
  is_stop = (rows == stop).astype(int)
  is_open = jnp.cumsum(is_stop, 1) - is_stop == 0
  return rows, jnp.where(is_open, each, 0).sum(1)


@HAS_STOP
def test_a_beam_of_one_is_greedy(has_stop):
  model = make_model(has_stop=has_stop)
  elements = jax.random.normal(jax.random.key(1), (BATCH, COUNT, 2))
  ours, log_p = decode(model, elements, length=4, beam=1)
  expected = jnp.zeros((BATCH, 4), int)
  graphdef, params = nnx.split(model)
  logits = jax.jit(
    lambda params, outputs: nnx.merge(graphdef, params)(elements, outputs)
  )
  for t in range(4):
    output = logits(params, expected)[:, t].argmax(-1)
    is_done = (expected[:, :t] == COUNT).any(1)
    expected = expected.at[:, t].set(jnp.where(is_done, COUNT, output))
  np.testing.assert_array_equal(ours, expected)
  # A wider beam may drop the greedy outputs; here, it finds none less likely.
  _, wider = decode(model, elements, length=4, beam=4)
  assert (wider >= log_p - 1e-5).all()


@HAS_STOP
def test_a_beam_as_wide_as_all_outputs_finds_the_best(has_stop):
  model = make_model(has_stop=has_stop)
  elements = 3 * jax.random.normal(jax.random.key(2), (12, 3, 2))
  outputs, log_p = decode(model, elements, length=3, beam=4**3)
  greedy, _ = decode(model, elements, length=3)
  score = jax.jit(lambda elements, rows: model(elements, rows))
  for b in range(len(elements)):
    rows, known = all_outputs(score, elements[b : b + 1], 3, has_stop)
    np.testing.assert_allclose(jnp.exp(known).sum(), 1, atol=1e-5)
    np.testing.assert_array_equal(outputs[b], rows[known.argmax()])
    np.testing.assert_allclose(log_p[b], known.max(), atol=1e-4)
  assert (outputs != greedy).any()
  if has_stop:
    stopped = (outputs == 3).any(1)
    assert stopped.any() and not stopped.all()


def test_a_beam_avoids_repeats_and_padding():
  model = make_model(has_stop=True)
  elements = jax.random.normal(jax.random.key(1), (64, COUNT, 2))
  mask = np.arange(COUNT) < 3
  outputs, log_p = decode(
    model,
    elements,
    length=4,
    beam=6,
    avoid_repeats=True,
    mask=mask[None].repeat(64, 0),
  )
  assert np.isfinite(log_p).all()
  for row in np.asarray(outputs):
    taken = row[row < COUNT]
    assert len(set(taken)) == len(taken) and (taken < 3).all()
  with pytest.raises(ValueError, match='sampling requires beam=1'):
    model.decode(elements, length=2, beam=2, key=jax.random.key(0))


def test_samples_follow_their_probabilities():
  model = make_model()
  elements = jax.random.normal(jax.random.key(1), (1, 2, 2))
  pairs = jnp.array(list(itertools.product(range(2), repeat=2)))
  log_p = jax.nn.log_softmax(call(model, elements.repeat(4, 0), pairs))
  p = jnp.exp(jnp.take_along_axis(log_p, pairs[..., None], -1).sum((1, 2)))
  np.testing.assert_allclose(p.sum(), 1, atol=1e-5)
  draws, _ = decode(
    model, elements.repeat(20_000, 0), length=2, key=jax.random.key(0)
  )
  share = np.bincount(draws[:, 0] * 2 + draws[:, 1], minlength=4) / 20_000
  np.testing.assert_allclose(share, p, atol=0.02)


def test_avoiding_repeats_sorts_without_training():
  """Without repeats, accuracy says little about what a network has learned.

  Many untrained networks then sort whole sets in ascending or descending order,
  because scores that are monotone in the numbers suffice. With repeats, none
  of them sorts a set.
  """
  numbers = jax.random.uniform(jax.random.key(0), (50, COUNT, 1))
  order = np.argsort(numbers[..., 0], 1)
  right = {False: [], True: []}

  @functools.partial(jax.jit, static_argnums=(0, 2))
  def decode(graphdef, params, avoid_repeats):
    model = nnx.merge(graphdef, params)
    return model.decode(numbers, length=COUNT, avoid_repeats=avoid_repeats)[0]

  for seed in range(20):
    model = rpw.SetToSequence(
      1, 32, num_process_steps=0, num_glimpses=0, rngs=nnx.Rngs(seed)
    )
    for avoid_repeats, shares in right.items():
      outputs = decode(*nnx.split(model), avoid_repeats)
      shares.append(
        ((outputs == order).all(1) | (outputs == order[:, ::-1]).all(1)).mean()
      )
  assert np.mean(right[False]) == 0
  assert np.mean(right[True]) > 0.4


def test_unknown_choices_are_errors():
  with pytest.raises(UserError, match='one of read_process_write'):
    make_model(encoder='lstm')
  with pytest.raises(UserError, match='one of dot, additive'):
    make_model(process_attention='scaled_dot')
