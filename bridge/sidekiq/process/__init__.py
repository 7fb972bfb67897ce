"""The process row, the heartbeat and Sidekiq's metrics."""
