"""Tests of the benchmark's own parts; none of them measures anything."""
