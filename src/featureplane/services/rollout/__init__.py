"""A rollout in a running service: which versions are computed, for whom, and what is measured of them.

start      what a service begins with, and what it refuses
pilot      the state of a rollout -> which versions are computed; follows it, calls a canary back
candidate  a candidate in the shadow or in canary, begun and ended
engines    two feature sets in one service, each strategy and symbol the right one
evidence   what was measured, kept over runs
steps      what people ask for, with a service or without
routes     the same through the control socket
"""
