"""What a report says beside its tables: the reading, the reasons to trust it, the facts."""
