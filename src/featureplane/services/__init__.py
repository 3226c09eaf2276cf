"""The wiring of a running system, in the order in which data move.

configuration   what is asked for: command line over environment over file
preparation     everything that can be refused, before anything runs
replay_source   recordings                    -> raw messages
raw_queue       feed                          -> loop, bounded
marketdata      raw messages                  -> frames, strategies, orders
recorder        what came and what was made   -> files
readiness       whether it can be relied on
health          /metrics /healthz /readyz
control         switches, from this machine alone
rollout         the state of a rollout        -> which versions are computed, and for whom
incident        a span of a recording         -> a folder that plays back
store_numbers   what processes of a store counted -> their sum
"""
