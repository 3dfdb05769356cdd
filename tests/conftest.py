"""Eight virtual CPU devices, and programs that are compiled fast and once.

Runs that resume, and the processes that tests start, compile what is compiled
already. All of them read the settings below, so that their values agree.
"""

import gc
import os
import pathlib

import jax

_CACHE = pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'jax'
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(_CACHE)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.1'
# Arrays of different rank or type combine only where the code says how.
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
os.environ['JAX_NUMPY_DTYPE_PROMOTION'] = 'strict'
# Most of the tests' time is compilation.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
# The first two halve it again; the third saves the threads of a compilation.
# With the last three, devices wait for each other on a busy machine, but never
# forever.
os.environ['XLA_FLAGS'] = ' '.join(
  [
    os.environ.get('XLA_FLAGS', ''),
    '--xla_cpu_use_fusion_emitters=false',
    '--xla_cpu_prefer_vector_width=128',
    '--xla_cpu_parallel_codegen_split_count=1',
    '--xla_cpu_collective_call_warn_stuck_timeout_seconds=300',
    '--xla_cpu_collective_call_terminate_timeout_seconds=900',
    '--xla_cpu_enable_concurrency_optimized_scheduler=false',
  ]
)

gc.set_threshold(100_000)  # traces make many objects, and little garbage

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_compilation_cache_dir', str(_CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_disable_most_optimizations', True)
