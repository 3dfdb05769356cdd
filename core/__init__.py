"""The training loop of all experiments, and `load` for trained models."""

import os
import typing

if typing.TYPE_CHECKING:
  from core import inference


def load(folder: str | os.PathLike) -> 'inference.TrainedModel':
  """Load trained weights, such as 'pretrained/rrn_sudoku', or a run folder.

  Args:
    folder: a folder with config.json, and with weights.safetensors or
      checkpoints. A relative path is looked up in the working directory, and
      then next to `core`, where a checkout of the repository has `pretrained`.

  Returns:
    The trained model, with `task`, the NNX module `model`, and
    `predict(lines)`.

  Raises:
    core.errors.UserError: the folder has nothing to load, or it is damaged.
  """
  # Imported here, so that `import core.layers` does not import all of core.
  from core import inference
  from core.run import run_config

  return inference.load(run_config.find_folder(os.fspath(folder)), {})
