"""Edges touch and decide nothing: one outside thing (network, disk, clock, log) has one file."""
