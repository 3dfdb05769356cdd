"""Costs of programs whose text is short enough to count by hand."""
# ruff: noqa: E501  (an instruction is a line)

from core.aot import hlo

# A loop of 5 in a loop of 3. Arrays in S(1) are not in main memory.
NESTED = """\
HloModule nested, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused (p: f32[5,100], i: s32[], x: f32[100]) -> (f32[100], f32[5,100]) {
  %p = f32[5,100]{1,0:T(8,128)} parameter(0)
  %i = s32[]{:T(128)S(6)} parameter(1)
  %x = f32[100]{0:T(128)S(1)} parameter(2)
  %row = f32[1,100]{1,0:T(8,128)} dynamic-slice(%p, %i), dynamic_slice_sizes={1}
  %new = f32[5,100]{1,0:T(8,128)} dynamic-update-slice(%p, %row, %i)
  %sum.1 = f32[100]{0:T(128)S(1)} add(%x, %row)
  ROOT %both = (f32[100]{0:T(128)S(1)}, f32[5,100]{1,0}) tuple(%sum.1, %new)
}

%inner_body (t: (s32[], f32[100])) -> (s32[], f32[100]) {
  %t = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}, f32[5,100]{1,0}) parameter(0)
  %i.1 = s32[]{:T(128)S(6)} get-tuple-element(%t), index=0
  %x.1 = f32[100]{0:T(128)S(1)} get-tuple-element(%t), index=1
  %p.1 = f32[5,100]{1,0:T(8,128)} get-tuple-element(%t), index=2
  %fusion = (f32[100]{0:T(128)S(1)}, f32[5,100]{1,0:T(8,128)}) fusion(%p.1, %i.1, %x.1), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"7"}
  %y = f32[100]{0:T(128)S(1)} get-tuple-element(%fusion), index=0
  %reduced = f32[100]{0:T(128)S(1)} all-reduce(%y), replica_groups={}, to_apply=%add
  ROOT %out = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}, f32[5,100]{1,0}) tuple(%i.1, %reduced, %p.1)
}

%inner_condition (t.1: (s32[], f32[100])) -> pred[] {
  %t.1 = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) parameter(0)
  %five = s32[]{:T(128)} constant(5)
  %i.2 = s32[]{:T(128)S(6)} get-tuple-element(%t.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%i.2, %five), direction=LT
}

%outer_body (t.2: (s32[], f32[100])) -> (s32[], f32[100]) {
  %t.2 = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) parameter(0)
  %w = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} constant({...})
  %gather = bf16[16,8]{1,0:T(8,128)(2,1)S(1)} all-gather(%w), dimensions={0}
  %scatter = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} reduce-scatter(%gather), to_apply=%add
  ROOT %loop = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) while(%t.2), condition=%inner_condition, body=%inner_body
}

%less_than_three (i.3: s32[]) -> pred[] {
  %i.3 = s32[]{:T(128)} parameter(0)
  %three = s32[]{:T(128)} constant(3)
  ROOT %less.1 = pred[]{:T(512)} compare(%i.3, %three), direction=LT
}

%outer_condition (t.3: (s32[], f32[100])) -> pred[] {
  %t.3 = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) parameter(0)
  %i.4 = s32[]{:T(128)S(6)} get-tuple-element(%t.3), index=0
  ROOT %fusion.1 = pred[]{:T(512)} fusion(%i.4), kind=kLoop, calls=%less_than_three
}

ENTRY %main (x.2: f32[100]) -> f32[100] {
  %x.2 = f32[100]{0:T(128)} parameter(0), sharding={replicated}
  %zero = s32[]{:T(128)S(6)} constant(0)
  %copy-start = (f32[100]{0:T(128)S(1)}, f32[100]{0:T(128)}, u32[]{:S(2)}) copy-start(%x.2)
  %copy-done = f32[100]{0:T(128)S(1)} copy-done(%copy-start)
  %t.4 = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) tuple(%zero, %copy-done)
  %while = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) while(%t.4), condition=%outer_condition, body=%outer_body
  %x.3 = f32[100]{0:T(128)S(1)} get-tuple-element(%while), index=1
  %permuted = (f32[100]{0}, f32[100]{0}, u32[], u32[]) collective-permute-start(%x.3), source_target_pairs={{0,1}}
  %permuted-done = f32[100]{0:T(128)} collective-permute-done(%permuted)
  ROOT %doubled = f32[100]{0:T(128)} add(%permuted-done, %permuted-done), backend_config={"estimated_cycles":"1000"}
}
"""

BRANCHES = """\
%one (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  ROOT %sum = f32[8]{0} all-reduce(%x), to_apply=%add
}

%other (y: f32[8]) -> f32[8] {
  %y = f32[8]{0} parameter(0)
  ROOT %swapped = f32[8]{0} all-to-all(%y), dimensions={0}
}

ENTRY %main (p: pred[], x.1: f32[8]) -> f32[8] {
  %p = pred[] parameter(0)
  %x.1 = f32[8]{0} parameter(1)
  ROOT %either = f32[8]{0} conditional(%p, %x.1, %x.1), branch_computations={%one, %other}
}
"""


def test_loops_multiply():
  costs = hlo.count_costs(NESTED)
  assert costs.collectives['all-reduce'] == (15, 15 * 400)
  assert costs.cycles == 15 * 7 + 1000


def test_bytes_of_a_collective_are_the_larger_side():
  collectives = hlo.count_costs(NESTED).collectives
  assert collectives['all-gather'] == (3, 3 * 256)
  assert collectives['reduce-scatter'] == (3, 3 * 256)
  count, size = collectives['collective-permute']
  assert count == 1 and 400 <= size <= 408  # and its two flags


def test_traffic_counts_only_main_memory_and_slices():
  fusion = 15 * (400 + 400)  # reads a row of the table, writes one in place
  copy = 400  # from main memory
  permute = 2 * 400 + 8
  double = 2 * 400 + 400
  assert (
    hlo.count_costs(NESTED).memory_traffic == fusion + copy + permute + double
  )


def test_all_branches_count():
  collectives = hlo.count_costs(BRANCHES).collectives
  assert collectives == {'all-reduce': (1, 32), 'all-to-all': (1, 32)}
