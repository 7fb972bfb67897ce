"""Benchmarks: the bridge beside its peers, in turn, in the same run."""
