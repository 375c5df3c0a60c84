"""Measure the pool against its peers and against the machine, in one run.

``python -m benchmarks`` runs every measure, each in a process of its own; ``--quick`` takes about
two minutes instead of ten to fifteen. Peers and pool take turns within a measure, and what is
compared is the median of the ratios of the rounds: a disturbance of the machine then falls on all.
"""
