"""Analyze a model that sorts, or compare two models.

  uv run python -m hinting.sorting.analysis --weights=pretrained/hinting_sorting
  uv run python -m hinting.sorting.analysis --weights=A --against=B

The command writes analysis.json and the figures to the output folder. A run
takes minutes on a CPU core.

The paper (Awasthi & Gupta 2023) probes and visualizes its models. The
procedures here are ours; `hinting.sorting.analysis.analyze` lists them.
"""

import json
import pathlib

from absl import flags

from core.errors import UserError
from core.io import atomic_files
from core.report import plots
from core.run import command_line
from hinting.sorting.analysis import analyze
from hinting.sorting.analysis import plots as analysis_plots


def run():
  """Analyze the models that the flags name, and write the results.

  Raises:
    UserError: a folder cannot be read or written, or its model cannot be
      analyzed.
  """
  values = flags.FLAGS
  if not values.weights:
    raise UserError('no model to analyze; set --weights=FOLDER to a run folder')
  folders = [values.weights, *filter(None, [values.against])]
  names = [pathlib.Path(folder).name for folder in folders]
  if len(set(names)) < len(folders):
    names = folders
  output = pathlib.Path(values.output).expanduser()
  # Fail before minutes of work if the folder cannot be written.
  with atomic_files.reported_writes(output):
    output.mkdir(parents=True, exist_ok=True)
  results, subject = {}, None
  for name, folder in zip(names, folders, strict=True):
    subject = analyze.load(folder, values.num_lists, subject)
    results[name] = analyze.analyze(subject)
  figures = analysis_plots.figures(results)
  with atomic_files.reported_writes(output):
    text = json.dumps(analyze.to_json(results), allow_nan=False)
    (output / 'analysis.json').write_text(text, encoding='utf-8')
    plots.save(figures, output)
  print(f'wrote {output}/analysis.json and {len(figures)} figures')


if __name__ == '__main__':
  flags.DEFINE_string('weights', None, 'A run folder or a folder of weights.')
  flags.DEFINE_string('against', None, 'A second folder, to compare with.')
  flags.DEFINE_string('output', 'runs/analysis', 'The folder of the results.')
  flags.DEFINE_integer('num_lists', 500, 'The number of lists per length.', 25)
  command_line.run_program(run)
