"""The Grafana dashboard, written and drawn by scripts/dashboard."""
