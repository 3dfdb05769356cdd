"""Print the F1 of the Viterbi parse of the grammar, a ceiling for parsers.

uv run python -m seq2set.parsing.ceiling
"""

from absl import flags

from core.run import command_line
from seq2set.parsing import data, grammar, treebank


def main():
  """Parse the first test trees and print the F1."""
  args = flags.FLAGS
  trees = treebank.load(
    'generated',
    'test',
    max_words=args.max_words,
    num_generated=args.num_generated,
  )[: args.num_trees]
  parsed = [grammar.parse(tree.words()) for tree in trees]
  print(f'F1 {data.score(trees, parsed).f1:.1%} on {len(trees)} trees')


if __name__ == '__main__':
  flags.DEFINE_integer(
    'num_trees', 500, 'Number of test trees to parse.', lower_bound=1
  )
  # As in configs/seq2set/parsing.py:cpu.
  flags.DEFINE_integer(
    'max_words', 20, 'Largest number of words per sentence.', lower_bound=3
  )
  flags.DEFINE_integer(
    'num_generated', 20_000, 'Number of training trees.', lower_bound=1
  )
  command_line.run_program(main)
