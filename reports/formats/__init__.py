"""Writers of a report: HTML, Markdown, LaTeX and data frames."""
