//! Per-event arithmetic. Each kernel is the twin of a Python reference of the same name.
