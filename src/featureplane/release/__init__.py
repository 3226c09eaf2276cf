"""How a new version earns its place: phases, criteria, and the way back.

`rollout` is the state and its transitions, `rollout_file` keeps it,
`rollout_versions` what its versions are. Leans on `features`. Knows nothing of
services or commands.
"""
