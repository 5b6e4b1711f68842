"""Journaled events as a model of its own: one publisher's journal, its subscriptions, and what lies between.

`rules` says what is in force, `state` what a world looks like, `publisher` and `subscription` what the two sides
do, `faults` what befalls them, `judging` what must hold, `world` puts them together for `tests.model.checker`,
and `configurations` says which worlds are visited.
"""
