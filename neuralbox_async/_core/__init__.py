"""Rules decide and touch nothing: plain functions over plain values, no await, no clock, no disk, no socket."""
