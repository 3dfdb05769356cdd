"""Count the costs of a compiled program from the text of its HLO.

XLA's own `cost_analysis` counts the body of a loop once, but a training call
consists of nested loops. This module counts each instruction as often as it is
executed, and all branches of a conditional. It takes the number of iterations
of a loop from the largest constant in its condition; without one, it counts the
body once.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r'(ENTRY )?%([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(
  r'\s+(ROOT )?%([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*?)\)(.*)'
)
_ARRAY = re.compile(r'\b([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?')
_CALLED = re.compile(r'\w+_computations?=\{?([^}, ]+(?:, %[^}, ]+)*)')
_COLLECTIVE = re.compile(
  '(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?'
)
# Instructions without memory traffic of their own.
_FREE = re.compile(
  'parameter|constant|tuple|get-tuple-element|bitcast|while|conditional|call'
  '|partition-id|after-all|.*-done'
)
_BUFFER = '"AllocateBuffer"'  # target of a call that only allocates


@dataclasses.dataclass(frozen=True)
class Costs:
  """The costs of one execution of a program on one device.

  Attributes:
    collectives: kind -> (executions, bytes), where bytes are the larger of what
      a device sends and what it receives.
    memory_traffic: bytes read from and written to the main memory of a device.
    cycles: sum of the compiler's estimates, without communication; 0 if it has
      none.
  """

  collectives: dict[str, tuple[int, int]]
  memory_traffic: int
  cycles: int


def count_costs(text: str) -> Costs:
  """Count the costs of a program from the text of its compiled module."""
  program = _Program(text)
  collectives = {}
  traffic = cycles = 0
  for computation, instruction, executions, is_fused in program.executed():
    if kind := _COLLECTIVE.fullmatch(instruction.opcode):
      count, size = collectives.get(kind[1], (0, 0))
      size += executions * program.payload(computation, instruction)
      collectives[kind[1]] = count + executions, size
    if not is_fused:
      traffic += executions * program.traffic(computation, instruction)
      if found := re.search(r'"estimated_cycles":"(\d+)"', instruction.rest):
        cycles += executions * int(found[1])
  return Costs(collectives, traffic, cycles)


@dataclasses.dataclass(frozen=True)
class _Instruction:
  is_root: bool
  shape: str
  opcode: str
  inside: str  # contents of the parentheses: operands, or a value
  rest: str

  @property
  def operands(self) -> list[str]:
    return re.findall(r'%([\w.-]+)', self.inside)

  def callee(self, role: str) -> str:
    found = re.search(rf'\b{role}=%([\w.-]+)', self.rest)
    return found[1] if found else ''


class _Executed(NamedTuple):
  """An instruction, and how a program executes it.

  Attributes:
    computation: name of the computation that contains the instruction.
    instruction: the instruction.
    executions: how many times the program executes it.
    is_fused: whether the instruction is part of a fusion.
  """

  computation: str
  instruction: _Instruction
  executions: int
  is_fused: bool


class _Program:
  """The instructions of a module, by computation and name."""

  def __init__(self, text: str):
    self.computations: dict[str, dict[str, _Instruction]] = {}
    self.entry, current = '', {}
    for line in text.splitlines():
      if header := _COMPUTATION.match(line):
        current = self.computations[header[2]] = {}
        self.entry = header[2] if header[1] else self.entry
      elif found := _INSTRUCTION.match(line):
        root, name, *parts = found.groups()
        current[name] = _Instruction(bool(root), *parts)

  def executed(
    self, computation: str = '', times: int = 1, is_fused: bool = False
  ) -> Iterator[_Executed]:
    """Yield the instructions of a computation, and of those that it calls.

    Args:
      computation: name of the computation. '' selects the whole program.
      times: number of executions of the computation.
      is_fused: whether the computation is a fusion.
    """
    computation = computation or self.entry
    for each in self.computations[computation].values():
      yield _Executed(computation, each, times, is_fused)
      if each.opcode == 'while':
        trips = self._trip_count(each.callee('condition'))
        yield from self.executed(each.callee('body'), times * trips, is_fused)
      elif each.opcode == 'conditional':
        for names in _CALLED.findall(each.rest):
          for name in names.split(', '):
            yield from self.executed(name[1:], times, is_fused)
      elif each.opcode == 'call':
        yield from self.executed(each.callee('to_apply'), times, is_fused)
      elif called := each.callee('calls'):  # a fusion
        yield from self.executed(called, times, is_fused=True)

  def _trip_count(self, condition: str) -> int:
    """Return the bound of `i < bound`; JAX's loops count up from 0 by 1.

    Returns 1 if the condition compares with no constant.
    """
    bounds = [
      int(each.instruction.inside)
      for each in self.executed(condition)
      if each.instruction.opcode == 'constant'
      and each.instruction.inside.isdigit()
    ]
    return max(bounds, default=1)

  def payload(self, computation: str, instruction: _Instruction) -> int:
    """Return the bytes that a device sends or receives, whichever is larger."""
    sent = sum(
      _num_bytes(self.computations[computation][name].shape)
      for name in instruction.operands
    )
    received = _num_bytes(instruction.shape)
    if _includes_operands(instruction.opcode):
      received -= sent
    return max(sent, received)

  def traffic(self, computation: str, instruction: _Instruction) -> int:
    """Return the bytes of main memory that an unfused instruction moves."""
    if _FREE.fullmatch(instruction.opcode) or _BUFFER in instruction.rest:
      return 0
    if _includes_operands(instruction.opcode):
      return _num_bytes(instruction.shape, main_only=True)
    here = self.computations[computation]
    return self._written(computation, instruction) + sum(
      self._read(computation, instruction, position)
      for position, name in enumerate(instruction.operands)
      if _num_bytes(here[name].shape, main_only=True)
    )

  def _read(
    self, computation: str, instruction: _Instruction, position: int
  ) -> int:
    """Return the bytes read from an operand: all of it, or only slices."""
    operand = self.computations[computation][instruction.operands[position]]
    size = _num_bytes(operand.shape)
    if position == 0:
      if instruction.opcode in ('dynamic-slice', 'gather'):
        return min(size, _num_bytes(instruction.shape))
      if instruction.opcode == 'dynamic-update-slice':  # in place
        return 0
    if instruction.opcode != 'fusion':
      return size
    fused = instruction.callee('calls')
    total = 0
    for name, parameter in self.computations[fused].items():
      if (parameter.opcode, parameter.inside) == ('parameter', str(position)):
        total = sum(
          self._read(fused, user, user.operands.index(name))
          for user in self.computations[fused].values()
          if name in user.operands
        )
    return min(size, total)

  def _written(self, computation: str, instruction: _Instruction) -> int:
    """Return the bytes written to main memory.

    In-place updates of a slice count only the bytes of the slice.
    """
    size = _num_bytes(instruction.shape, main_only=True)
    if not size:
      return 0
    here = self.computations[computation]
    if instruction.opcode == 'fusion':
      fused = instruction.callee('calls')
      (root,) = [x for x in self.computations[fused].values() if x.is_root]
      return min(size, self._written(fused, root))
    if instruction.opcode == 'tuple':
      return sum(
        self._written(computation, here[x]) for x in instruction.operands
      )
    if instruction.opcode == 'dynamic-update-slice':
      return min(size, _num_bytes(here[instruction.operands[1]].shape))
    return size


def _includes_operands(opcode: str) -> bool:
  """Return whether the result of an instruction includes its operands."""
  return opcode.endswith('-start') and opcode != 'all-reduce-start'


def _num_bytes(shape: str, *, main_only: bool = False) -> int:
  """Return the size of an array or a tuple in bytes.

  The compiler for TPUs also places arrays in faster memories, such as S(1);
  `main_only` excludes them.
  """
  total = 0
  for dtype, sizes, layout in _ARRAY.findall(shape):
    if main_only and 'S(' in layout:
      continue
    digits = re.search(r'\d+', dtype)  # f32, s8, f8e4m3fn; pred has none
    bits = int(digits[0]) if digits else 8
    total += bits * math.prod(int(n) for n in sizes.split(',') if n) // 8
  return total
