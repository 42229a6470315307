"""Attacked copies of a split, for networks that nobody hands over: exported, predicted elsewhere, scored here."""
