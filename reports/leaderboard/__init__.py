"""A public leaderboard: entries as data, and a static site that is built from them."""
