"""The text of a report beside its tables: a summary, reasons to trust the numbers, and where they come from."""
