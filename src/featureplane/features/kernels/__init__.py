"""Per-event arithmetic, the reference of every feature."""
