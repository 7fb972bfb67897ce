"""The outcome of a run: done, retry, dead."""
