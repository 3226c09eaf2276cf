"""What that means: levels and trades to feature frames.

kernels        per-event arithmetic, and the words to compose it in
spec           a set: features by name          -> specs
plan           expressions                      -> sorted kernel calls, fingerprint
catalog        the sets everyone knows, and the registry
loading        TOML, or Python when allowed     -> a set

engine         events                           -> frames or columns, whichever backend
reference      one message at a time, in Python: the definition
native_engine  the same in Rust
frame          the bytes of a frame; columns: many frames, by field
parity         that all executions agree
availability   what a feed can never define
"""
