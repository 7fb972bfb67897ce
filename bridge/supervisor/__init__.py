"""``bridge up``: starts a sidecar and workers on one machine, and keeps them running."""
