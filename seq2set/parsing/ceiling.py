"""The F1 of the grammar's own likeliest parse: a ceiling of generated trees.

uv run python -m seq2set.parsing.ceiling
"""

from absl import app, flags

from configs.seq2set import parsing
from seq2set.parsing import data, grammar, treebank


def main(_):
  """Prints it, of the first test trees of `:cpu`."""
  config = parsing.get_config('cpu,source=generated')
  trees = treebank.load(
    'generated',
    'test',
    max_words=config.data.max_words,
    num_generated=config.data.num_generated,
  )[: flags.FLAGS.num_trees]
  parsed = [grammar.parse(tree.words()) for tree in trees]
  print(f'F1 {data.score(trees, parsed).f1:.1%} of {len(trees)} trees')


if __name__ == '__main__':
  flags.DEFINE_integer('num_trees', 500, 'Test trees to parse.', 1)
  app.run(main)
