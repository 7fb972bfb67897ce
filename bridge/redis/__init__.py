"""Redis itself: addresses, clients, pipelines, scripts, outages."""
