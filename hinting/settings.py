"""Check the settings that all hinted tasks share."""

from collections.abc import Mapping
from typing import Any

from core.errors import UserError, check_choice
from hinting import rows
from hinting.model_config import ModelConfig
from hinting.rows import RowKind


def parse_hints(text: str) -> tuple[str, ...]:
  """Return the names of hints that + joins in `data.hint`; () for ''."""
  return tuple(hint for hint in text.split('+') if hint)


def check(
  data: Any,
  evals: Any,
  model: ModelConfig,
  kinds: Mapping[str, RowKind],
  main: str,
):
  """Check the settings of a hinted task.

  Args:
    data: the section `config.data`.
    evals: the section `config.evals`.
    model: sizes and variants of the network.
    kinds: kinds of rows by name.
    main: name of the main task in `kinds`.

  Raises:
    UserError: a setting is invalid.
  """
  hints = parse_hints(data.hint)
  for hint in hints:
    check_choice('config.data.hint', hint, [k for k in kinds if k != main])
  if len(set(hints)) < len(hints):
    raise UserError(
      f'config.data.hint={data.hint} names a hint twice; name each hint once'
    )
  if not 0 <= data.hint_share < 1:
    raise UserError(
      f'config.data.hint_share={data.hint_share} is out of range; expected at'
      ' least 0 and less than 1'
    )
  if data.num_rows < 0 or data.num_rows % 2:
    raise UserError(
      f'config.data.num_rows={data.num_rows} is odd or negative, but rows come'
      ' in pairs; use a positive even number, or 0 for new rows'
      ' in every batch'
    )
  # At least 4: a row of 'successors' queries START and four values of the list.
  if not 4 <= data.max_train_length <= rows.MAX_TRAINING_LENGTH:
    raise UserError(
      f'config.data.max_train_length={data.max_train_length} is out of range;'
      f' expected 4 to {rows.MAX_TRAINING_LENGTH}'
    )
  # The number of positions that each kind of row needs.
  longest = max(*evals.lengths, *evals.test_lengths, data.max_predict_length)
  needed = {f'rows with {longest} values': kinds[main].num_tokens(longest) - 1}
  for name in (main, *hints):
    needed[f'packed {name} rows'] = rows.packed_num_tokens(
      kinds[name], data.max_train_length
    )
  what = max(needed, key=lambda name: needed[name])
  if model.has_table and model.max_positions < needed[what]:
    raise UserError(
      f'config.model.max_positions={model.max_positions} is too small: {what}'
      f' have {needed[what]} positions; use {needed[what]} or more'
    )
