"""Backfill: many symbols' days computed and stored, each once.

plan      what will be done, before it is
tasks     what one worker does, the same on every engine
engines   where tasks run: processes of this machine, or a cluster
run       all of it, with one hash of what came out
"""
