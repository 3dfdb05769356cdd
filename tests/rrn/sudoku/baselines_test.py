"""The baselines are what the paper compares with, and each of them learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from configs.rrn import sudoku
from core import sharding, step
from core.errors import UserError
from rrn.sudoku import baselines, data, task
from rrn.sudoku.model import ModelConfig
from tests.rrn import perturbed

SMALL = ModelConfig(box_height=2, box_width=2, width=16, num_steps=3)


def make(network, config=SMALL):
  num_steps = 1 if network == 'relation_network' else config.num_steps
  config = dataclasses.replace(config, network=network, num_steps=num_steps)
  make_network = task.NETWORKS[network]
  return make_network(config, dtype=jnp.float32, rngs=nnx.Rngs(0))


def boards(count=6):
  puzzles, solutions = data.generate(np.random.default_rng(0), count, 2, 2)
  return jnp.asarray(puzzles, jnp.int32), jnp.asarray(solutions, jnp.int32)


@pytest.mark.parametrize(
  'network, count',
  [
    ('cells', 201_098),
    ('candidates', 29_120),
    ('relation_network', 201_098),
    ('graph_relation_network', 944_874),
    ('deep_messages', 448 + 32_640 + 2_030 + 3 * 110),
    ('mlp', 810 * 256 + 256 + 2 * (256 * 256 + 256) + 256 * 810 + 810),
    (
      'convolutional',
      9 * (10 * 512 + 9 * 512 * 512) + 10 * 2 * 512 + 512 * 10 + 10,
    ),
  ],
)
def test_parameter_counts(network, count):
  config = sudoku.get_config(f'network={network}')
  model = nnx.eval_shape(lambda: task.make_task(config).make_model(nnx.Rngs(0)))
  params = nnx.state(model, nnx.Param)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize(
  'network',
  [
    pytest.param(
      name,
      marks=pytest.mark.slow
      if name in ('convolutional', 'deep_messages', 'graph_relation_network')
      else [],
    )
    for name in task.NETWORKS
  ],
)
def test_every_parameter_has_a_gradient_and_none_a_scatter(network):
  graphdef, params = perturbed.split(make(network))
  puzzles, _ = boards()

  def loss(params):
    logits = nnx.merge(graphdef, params)(puzzles, num_steps=2)
    assert logits.shape == (2, 6, 16, 5)
    return jnp.square(logits).mean()

  gradient = jax.jit(jax.grad(loss))(params)
  for path, leaf in jax.tree.leaves_with_path(gradient):
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
  assert 'scatter' not in str(jax.make_jaxpr(jax.grad(loss))(params))


@pytest.mark.parametrize(
  'network',
  [
    'candidates',
    *(
      pytest.param(network, marks=pytest.mark.slow)
      for network in sorted({*task.NETWORKS} - {'cells', 'candidates'})
    ),
  ],
)
def test_smoke_size_learns(network):
  config = sudoku.get_config(f'smoke,network={network}')
  experiment = task.make_task(config)
  puzzles, solutions = boards(64)
  batch = {'puzzle': puzzles, 'solution': solutions}
  graphdef, params = nnx.split(experiment.make_model(nnx.Rngs(0)), nnx.Param)
  params = nnx.to_pure_dict(params)
  optimizer = optax.adam(3e-3)

  def loss(params):
    return experiment.loss(
      nnx.merge(graphdef, params), batch, jax.random.key(0)
    )[0]

  @jax.jit
  def train(params):
    def update(carry, _):
      params, state = carry
      value, grads = jax.value_and_grad(loss)(params)
      with jax.numpy_dtype_promotion('standard'):  # Optax mixes types
        updates, state = optimizer.update(grads, state)
      return (optax.apply_updates(params, updates), state), value

    carry = params, optimizer.init(params)
    return jax.lax.scan(update, carry, length=30)[1]

  losses = train(params)
  assert losses[-1] < 0.9 * losses[0]


def literal_deep_messages(model, puzzles, num_steps):
  """Compute one message per edge, from the sender's other incoming messages."""
  inputs, senders = model.inputs(puzzles), model.graph.senders
  edges = [(int(i), j) for j, row in enumerate(senders) for i in row]
  # Which other edges (k, m) the edge (i, j) hears of: those into its sender,
  # but not from its receiver.
  hears = np.array([[m == i and k != j for k, m in edges] for i, j in edges])
  into = np.array([[m == node for _, m in edges] for node in range(16)])
  sender, receiver = np.array(edges).T
  heard = jnp.zeros((len(puzzles), len(edges), 5))
  steps = []
  for _ in range(num_steps):
    features = [inputs[:, sender], inputs[:, receiver], heard]
    messages = model.message(jnp.concatenate(features, -1))
    heard = jnp.einsum('ef,bfd->bed', hears.astype(float), messages)
    steps.append(jnp.einsum('nf,bfd->bnd', into.astype(float), messages))
  return jnp.stack(steps)


def test_deep_messages_leave_out_what_the_receiver_said():
  graphdef, params = perturbed.split(make('deep_messages'))
  puzzles, _ = boards(2)
  weights = jax.random.normal(jax.random.key(0), (3, 2, 16, 5))

  def run(form):
    def weighted(params):
      logits = form(nnx.merge(graphdef, params))
      return (logits * weights).sum(), logits

    return jax.jit(jax.grad(weighted, has_aux=True))(params)

  fast = run(lambda model: model(puzzles, num_steps=3))
  literal = run(lambda model: literal_deep_messages(model, puzzles, 3))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, atol=1e-5 * max(1, np.abs(b).max()), rtol=1e-5
    ),
    fast,
    literal,
  )


def test_swapping_ends_twice_changes_nothing():
  graph = make('deep_messages').graph
  senders = jnp.broadcast_to(graph.senders[..., None], (1, 16, 7, 1))
  receivers = jnp.broadcast_to(
    jnp.arange(16)[:, None, None], senders.shape
  ).astype(senders.dtype)
  edges = jnp.concatenate([senders, receivers], -1).astype(jnp.float32)
  swapped = baselines.swap_ends(edges, graph)
  np.testing.assert_array_equal(swapped, edges[..., ::-1])
  np.testing.assert_array_equal(baselines.swap_ends(swapped, graph), edges)


def test_one_step_networks_repeat_their_logits():
  puzzles, _ = boards()
  for network in ('graph_relation_network', 'mlp'):
    logits = make(network)(puzzles, num_steps=3)
    np.testing.assert_array_equal(logits[0], logits[2])


def test_convolutions_fill_the_surest_cell_first():
  model = nnx.merge(*perturbed.split(make('convolutional')))
  puzzles, _ = boards()
  empty = np.asarray(puzzles == 0)
  logits = np.asarray(model(puzzles, num_steps=17))
  answers = logits.argmax(-1)
  sure = logits.max(-1) == baselines._SURE
  np.testing.assert_array_equal(sure.sum(-1)[0], (~empty).sum(-1))
  for before, after in zip(sure[:-1], sure[1:], strict=True):
    full = before.all(-1)
    np.testing.assert_array_equal(after.sum(-1), before.sum(-1) + ~full)
    assert (after >= before).all()
  assert sure[-1].all()
  # Givens stay; a digit once filled in stays; the first is the surest.
  assert (answers[:, ~empty] == np.asarray(puzzles)[~empty]).all()
  p = np.asarray(jax.nn.log_softmax(logits[0]))[..., 1:].max(-1)
  first = np.where(empty, p, -np.inf).argmax(-1)
  assert sure[1, np.arange(6), first].all()
  assert (answers[1:, sure[1]] == answers[1, sure[1]]).all()
  assert not (answers[1:][sure[1:]] == 0).any()


def test_givens_do_not_count_for_the_convolutions():
  config = sudoku.get_config('smoke,network=convolutional')
  experiment = task.make_task(config)
  puzzles, solutions = boards()
  model = experiment.make_model(nnx.Rngs(0))
  full = {'puzzle': solutions, 'solution': solutions}
  loss = jax.jit(experiment.loss)
  assert loss(model, full, jax.random.key(0))[0] < 1e-6


@pytest.mark.parametrize(
  'overrides, message',
  [
    ({'network': 'gpt'}, 'one of cells'),
    ({'network': 'relation_network'}, 'network=relation_network'),
    ({'network': 'mlp', 'burn_in': 3}, 'burn_in=3: mlp has no burn-in'),
    ({'network': 'mlp', 'max_steps': 64}, 'max_steps=64: mlp has no'),
    ({'burn_in': 8, 'max_steps': 64}, 'set one of them to 0'),
    ({'reveal_after': 32}, 'reveal_after=32 requires config.model.max_steps'),
    (
      {'num_steps': 8, 'max_steps': 64, 'reveal_after': 20, 'burn_in': 0},
      'a multiple of config.model.num_steps=8',
    ),
    ({'reveal_after': -8}, 'reveal_after=-8: expected a number'),
    ({'groups': 'some'}, 'groups'),
    ({'loss_steps': 'first'}, 'expected one of all, last'),
  ],
)
def test_errors_name_what_to_change(overrides, message):
  config = sudoku.get_config('smoke,network=cells')
  config.model.update(overrides)
  with pytest.raises(UserError, match=message):
    task.make_task(config)


def test_loss_at_the_last_step_ignores_the_others():
  config = sudoku.get_config('smoke')
  puzzles, solutions = boards()
  batch = {'puzzle': puzzles, 'solution': solutions}
  key, values = jax.random.key(0), {}
  model = task.make_task(config).make_model(nnx.Rngs(0))
  for steps in ('all', 'last'):
    config.model.loss_steps = steps
    loss = jax.jit(task.make_task(config).loss)
    values[steps], logged = loss(model, batch, key)
    difference = values[steps] - logged['last_loss'].result()
    assert (abs(difference) < 1e-5) == (steps == 'last')


@pytest.mark.parametrize('size', [None, 'cpu,source=royle17', 'smoke'])
def test_sweep_has_every_row_of_the_table(size):
  points = sudoku.sweep(size)
  assert set(points) == {*task.NETWORKS, 'loss_at_last_step'}
  for name, config in points.items():
    if name == 'loss_at_last_step':
      assert config.model.loss_steps == 'last'
    else:
      assert config.model.network == name
    assert config.total_steps % config.steps_per_call == 0
    steps = config.evals.num_steps
    last = f'steps_{64 if 64 in steps else max(steps)}/'
    assert all('steps_' in metric for metric in config.report)
    assert any(last in metric for metric in config.report)
  if size != 'smoke':
    hardest = {
      name: config.report[f'test/steps_{steps}/solved_17_givens']
      for name, config in points.items()
      for steps in [min(64, config.evals.num_steps[-1])]
    }
    assert hardest == {
      'cells': '96.6 %',
      'candidates': '96.6 %',
      'relation_network': '0 %',
      'graph_relation_network': '0 %',
      'mlp': '',
      'deep_messages': '0 %',
      'convolutional': '',
      'loss_at_last_step': '',
    }


@pytest.mark.slow
@pytest.mark.parametrize('size', [None, 'cpu'])
def test_sweep_can_be_traced(size):
  mesh = sharding.make_mesh(
    {'data': 1, 'fsdp': 1, 'tensor': 1}, jax.devices()[:1]
  )
  columns = dict.fromkeys(
    ('puzzle', 'solution', 'hard_puzzle', 'hard_solution'),
    jax.ShapeDtypeStruct((4, 81), np.int8),
  )
  for name, config in sudoku.sweep(size).items():
    experiment = task.make_task(config)
    program = step.make_program(experiment, config, mesh)
    _, metrics, losses = jax.eval_shape(
      program.update,
      program.abstract_state,
      columns,
    )
    assert losses.shape == (config.steps_per_call,), name
    cells = jax.ShapeDtypeStruct((2, 81), np.int8)
    weight = jax.ShapeDtypeStruct((2,), np.float32)
    evaluator = experiment.evaluators()['validation']
    measured = jax.eval_shape(
      lambda params, batch, m=evaluator.measure, p=program: m(
        p.merge(params), batch
      ),
      program.abstract_state.params,
      {'puzzle': cells, 'solution': cells, 'weight': weight},
    )
    reported = {metric.partition('/')[2] for metric in config.report}
    assert reported <= set(measured), name
