# Short names for the parts of .ci/run, which is where they are written down.

# Formatting, walls, lints, documentation
check:
    .ci/run fmt walls clippy doc

# All tests with debug assertions, then the optimised ones
test:
    .ci/run test release

# Every model and planted bug, or those of the named models
loom *models:
    .ci/loom {{models}}

# Invalid accesses
asan:
    .ci/run asan

# Data races
tsan:
    .ci/run tsan

# Seeded disorder; a printed seed can be given again
chaos seed="":
    BAST_CHAOS_SEED="{{seed}}" .ci/run chaos

# The other architecture, emulated
aarch64:
    .ci/run tools aarch64

# Everything
ci:
    .ci/run
