"""The verbs of the Web UI and of Sidekiq's API: processes, entries, actions, commands."""
