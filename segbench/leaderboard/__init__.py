"""A leaderboard's entries: made of records, checked, packed for a reviewer, verified; `reports` shows them."""
