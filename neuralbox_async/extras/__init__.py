"""Extras show: one file for each thing that needs an optional dependency; they import public names only."""
