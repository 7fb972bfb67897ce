"""What is said about it: text, Markdown, a chart."""
