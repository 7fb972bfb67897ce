"""Health: snapshot, verdict, probes, systemd."""
