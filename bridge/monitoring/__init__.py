"""What a worker tells about itself: metrics, probes and log lines."""
