"""The report of a run: text, Markdown, a chart."""
