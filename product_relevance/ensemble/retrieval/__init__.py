"""Queries against a catalogue: a first stage finds candidates, the ensemble orders them."""
