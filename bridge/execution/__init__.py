"""The life of one run: task, request, outcome, cancellation, time limits."""
