"""Evaluation records, and the tables, pages and files that are made from them. Needs no torch."""
