"""A worker's reports about itself: metrics, probes and log lines."""
