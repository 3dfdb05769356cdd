"""The transformer and the training settings of all hinting experiments."""

import ml_collections

from configs import common

OPTIMIZERS = 'adamw', 'muon'
# Sections -> settings that earlier versions saved under other names.
RENAMED = {
  'data': {
    'max_length': 'max_train_length',
    'longest_list': 'max_predict_length',
  }
}


def base_config(
  args,
  *,
  max_predict_length: int,
  lengths: tuple[int, ...],
  test_lengths: tuple[int, ...],
  report: dict[str, str],
) -> ml_collections.ConfigDict:
  """Build a config for the rows of a main task and of its hints.

  We do not know the paper's sizes. The size 'paper' is our estimate of them.

  Args:
    args: `size`, `hint`, `temperature`, `positions`, and `optimizer`. The
      optimizer is one of `OPTIMIZERS`, or '' for AdamW at the paper's size and
      Muon otherwise.
    max_predict_length: length of the longest list that `--mode=predict`
      accepts.
    lengths: list lengths of validation.
    test_lengths: list lengths of `--mode=eval`.
    report: metrics that a report of the sizes 'paper' and 'cpu' shows -> the
      paper's values as text, '' for none.
  """
  is_small = args.size != 'paper'
  optimizer = args.optimizer or ('muon' if is_small else 'adamw')
  common.check_known('optimizer', optimizer, OPTIMIZERS)
  config = common.default_config()
  _paper_model(config, args)
  config.data.max_train_length = 20  # allowed: 4 to 20
  config.data.hint = '' if args.hint == 'none' else args.hint
  config.data.hint_share = 0.5
  # Rows of each kind in a fixed training set. 0: new rows for every batch.
  config.data.num_rows = 0
  config.data.curriculum_steps = 0  # updates until all lengths occur; 0: none
  config.data.max_predict_length = max_predict_length
  config.evals.lengths = lengths
  config.evals.test_lengths = test_lengths
  config.evals.every = 1000  # updates
  config.evals.num_lists = 200  # of each length, in validation
  config.evals.num_test_lists = 1000  # of each length
  config.evals.batch_size = 20
  _paper_training(config)
  config.report = report
  if is_small:
    _small(config)
  if optimizer == 'muon':
    common.muon(config, paths='blocks/.*kernel', learning_rate=4e-3)
  if args.size == 'smoke':
    _smoke(config, optimizer)
  return config


def _paper_model(config, args):
  config.model.num_layers = 2
  config.model.width = 512
  config.model.num_heads = 8
  config.model.feed_forward_width = 2048
  config.model.temperature = args.temperature
  config.model.positions = args.positions
  config.model.max_positions = 512
  config.model.has_norm = True
  config.model.activation = 'gelu'


def _paper_training(config):
  config.total_steps = 100_000
  config.batch_size = 1024  # rows
  config.steps_per_call = 50
  config.optim.name = 'adamw'
  config.optim.learning_rate = 5e-4
  config.optim.schedule = 'cosine'
  config.optim.warmup_steps = 1000
  config.optim.b2 = 0.98
  config.optim.weight_decay = 0.01
  config.optim.clip_norm = 1.0


def _small(config):
  config.model.width = 128
  config.model.num_heads = 4
  config.model.feed_forward_width = 512
  config.total_steps = 8000
  config.batch_size = 128
  config.microbatch_size = 64
  config.optim.learning_rate = 1e-3
  config.optim.b2 = 0.99
  config.optim.weight_decay = 0.1
  config.optim.warmup_steps = 500


def _smoke(config, optimizer):
  config.model.width = 64
  config.model.feed_forward_width = 128
  config.data.max_train_length = 8
  config.data.max_predict_length = 32
  config.evals.lengths = (4, 8, 16)
  config.evals.test_lengths = (4, 8, 16, 32)
  config.evals.every = 100
  config.evals.num_test_lists = 200
  config.total_steps = 400
  config.steps_per_call = 20
  config.optim.learning_rate = 3e-3 if optimizer == 'muon' else 7.5e-4
  config.optim.warmup_steps = 50
  config.log.every = 20
  config.checkpoint.every = 100
  config.report = {
    f'validation/accuracy_length_{length}': ''
    for length in config.evals.lengths
  }
