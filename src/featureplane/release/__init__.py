"""How a new version earns its place: phases, criteria, and the way back.

`rollout` is the state and its transitions, `rollout_file` keeps it. Leans on `features`. Knows nothing of
services or commands.
"""
