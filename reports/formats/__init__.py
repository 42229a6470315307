"""A report as HTML, Markdown, LaTeX and data frames."""
