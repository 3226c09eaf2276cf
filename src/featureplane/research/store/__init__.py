"""The store: features over history, computed once.

requests, resolving       a symbol and two instants -> days, files, bytes, keys
keys                      what a stored day's name is made of
books, dayrun             the book between two files; the frames of one day
manifest, shelf, dayfile  which days are stored, their files, and what a footer says
places, bucket, objects   where a root is; days on object storage
hot                       mapped files, for what is read twice
root, leases, limits      the folder, who computes a missing day, how large it may grow
fetching, making          one day found, waited for or made
feature_store             the door; `entry` is what it answers, `grids` a choice of its rows
eviction, repair          what goes, what does not fit
explaining, consistency, snapshots
measures, tally, ledger   what is counted, by each process and by all; `objective` what of it was promised
"""
